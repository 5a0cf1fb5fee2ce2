"""When to start again what has ended by itself: at once the first time, then after ever longer waits. Pure."""

FIRST = 0.1
LONGEST = 10.0
"""Seconds. A process that cannot live costs little at that pace, and is back soon after its cause is gone."""

LIVED = 1.0
"""Seconds after which an end is a new accident and not the last one again: who cannot work dies at its start."""


class Restarts:
    """Of one place that a process fills."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def wait(self, lived: float) -> float:
        """Seconds to wait after a process that lived for `lived` seconds."""
        if lived >= LIVED:
            self._in_a_row = 0
        self._in_a_row += 1
        if self._in_a_row == 1:
            return 0.0
        return float(min(LONGEST, FIRST * 2 ** min(self._in_a_row - 2, 10)))
