"""How long a circuit stays open: twice as long after each round of trials that failed, up to a most.

The first opening of a closed circuit takes the configured time, so a round of good trials is all that resets it. Pure.
"""

from collections.abc import Callable

JITTER = 0.1
"""Share of an open time that chance may cut off: workers and instances that opened in the same moment do not all try
in the same moment. Cut off, not added, because what is configured is a bound on the time to recover."""


def no_chance() -> float:
    """Dice that cut nothing off."""
    return 0.0


class OpenTime:
    """Seconds of one opening after another."""

    __slots__ = ("_current", "_dice", "_most", "first")

    def __init__(self, first: float, most: float | None = None, dice: Callable[[], float] = no_chance) -> None:
        self.first = first
        self._most = first if most is None else most  # then it does not grow
        self._current = first
        self._dice = dice  # from 0 to 1

    def draw(self, *, again: bool) -> float:
        """How long this opening lasts; `again` when it follows failed trials."""
        self._current = min(self._current * 2, self._most) if again else self.first
        return self._current * (1 - JITTER * self._dice())
