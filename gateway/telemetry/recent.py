"""What went wrong last, and what took longest: the records of requests that the operator process remembers. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from gateway.telemetry.explanations import explanation, slowness

Record = dict[str, Any]

FAILURES, REFUSALS = 200, 100
"""How many of each are remembered: clients that are refused cannot push out what failed."""

SHOWN = 200

SLOWEST = 20
SLOW_FOR = 300.0
"""Seconds that a slow request is remembered."""

SPAN = 10.0
"""Seconds that share a list of their slowest."""


class Recent:
    """The memory of one instance; its size is bounded."""

    def __init__(self) -> None:
        self._failures: deque[Record] = deque(maxlen=FAILURES)
        self._refusals: deque[Record] = deque(maxlen=REFUSALS)
        self._slowest: deque[tuple[float, list[Record]]] = deque(maxlen=int(SLOW_FOR / SPAN))

    def failed(self, record: Record) -> None:
        """A request that an error ended, or the upstream's."""
        kept = self._refusals if 400 <= record["status"] < 500 else self._failures
        kept.append({**record, "explanation": explanation(record)})

    def lasted(self, record: Record, now: float) -> None:
        """One of the slowest of a worker and a second."""
        began = now - now % SPAN
        if not self._slowest or self._slowest[-1][0] != began:
            self._slowest.append((began, []))
        slowest = self._slowest[-1][1]
        slowest.append({**record, "explanation": explanation(record) if record["reason"] else slowness(record)})
        slowest.sort(key=_duration, reverse=True)
        del slowest[SLOWEST:]

    def errors(self, wanted: Callable[[Record], bool] = lambda record: True, limit: int = SHOWN) -> list[Record]:
        """The last ones, the newest first; refusals are at most half of them where there are failures enough."""
        failures, refusals = ([*filter(wanted, reversed(kept))] for kept in (self._failures, self._refusals))
        room = max(limit // 2, limit - len(failures))
        found = refusals[:room]
        found += failures[: limit - len(found)]
        return sorted(found, key=lambda record: str(record["at"]), reverse=True)

    def slowest(self, now: float) -> list[Record]:
        """Of the last five minutes, the slowest first."""
        found = [record for began, records in self._slowest if began > now - SLOW_FOR for record in records]
        return sorted(found, key=_duration, reverse=True)[:SLOWEST]


def _duration(record: Record) -> float:
    return float(record["duration_ms"])
