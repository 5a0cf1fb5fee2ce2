"""From conditions to alerts: pending, firing, resolved; who has to be told of which, and when once more. Pure.

Nothing is queued: what is due follows from how things are now and what was told last. So a receiver that was away is
told how things are when it is back, and never hears of what has begun and ended meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gateway.alerts.conditions import Condition

Key = tuple[str, tuple[tuple[str, str], ...]]


class Alert:
    """One condition and what has become of it. Mutable. Times in Unix seconds."""

    def __init__(self, condition: Condition, now: float) -> None:
        self.condition = condition
        self.since = now
        self.firing = False
        self.ended: float | None = None
        """When it was over, while that has not been told."""
        self.told: float | None = None
        """When somebody was last told that it is firing; None: nobody knows of it."""


class Group(NamedTuple):
    """The alerts of one name, which are told together; each with whether it is over."""

    name: str
    alerts: tuple[tuple[Alert, bool], ...]

    @property
    def firing(self) -> bool:
        """Not all are over."""
        return not all(over for _, over in self.alerts)


class Alerts:
    """Those of one gateway."""

    def __init__(self) -> None:
        self._alerts: dict[Key, Alert] = {}

    def see(self, conditions: Iterable[Condition], now: float) -> None:
        """This is what is wrong now, and nothing else is."""
        found: dict[Key, Condition] = {(each.name, each.labels): each for each in conditions}
        for key in [key for key in self._alerts if key not in found]:
            alert = self._alerts[key]
            if alert.told is None:
                del self._alerts[key]
            elif alert.ended is None:
                alert.ended = now
        for key, condition in found.items():
            alert = self._alerts.setdefault(key, Alert(condition, now))
            alert.ended = None  # it may be back before its end was told: then it has never ended
            alert.condition = condition
            alert.firing = alert.firing or now - alert.since >= condition.after

    @property
    def shown(self) -> list[Alert]:
        """What is wrong now, the oldest first."""
        return sorted((each for each in self._alerts.values() if each.ended is None), key=lambda each: each.since)

    def due(self, now: float, repeat: float) -> Group | None:
        """Whom somebody has to be told of next: something has begun, is over, or was told `repeat` seconds ago."""
        for alert in self._alerts.values():
            if alert.ended is not None or (alert.firing and (alert.told is None or now - alert.told >= repeat)):
                return self._group(alert.condition.name)
        return None

    def was_told(self, group: Group, now: float) -> None:
        """Somebody has taken it."""
        for alert, over in group.alerts:
            if not over:
                alert.told = now
            elif alert.ended is None:  # it has begun again while the end was told
                alert.told = None
            else:
                self._alerts.pop((alert.condition.name, alert.condition.labels), None)

    def forget_told(self) -> None:
        """Nobody who is told from now on has been told anything."""
        for key in [key for key, alert in self._alerts.items() if alert.ended is not None]:
            del self._alerts[key]
        for alert in self._alerts.values():
            alert.told = None

    def _group(self, name: str) -> Group:
        known = [each for each in self._alerts.values() if each.condition.name == name]
        return Group(name, tuple((each, each.ended is not None) for each in known if each.firing or each.ended))
