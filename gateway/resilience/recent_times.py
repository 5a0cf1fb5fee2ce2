"""How long things took lately, and which time only so many of them exceeded: a percentile over a ring of times.

The ring is sorted anew for every 32 times that come in, which is 0.5 µs for each. Pure: times are arguments.
"""

from math import ceil

KEPT = 256
"""Times: enough for a 99th percentile (two or three are above it), few enough to follow a change within seconds."""

FEWEST = 20
"""Before so many are known there is no percentile: the slowest of a few is chance."""

REFRESH = 32
"""Times that come in before the percentile is worked out again."""


UNKNOWN = 86_400.0
"""Seconds, while there is no percentile: no call lives that long, so a timer may be set for it like for any other."""


class Percentile:
    """`after` is the time within which `share` (0 to 1) of the last times lie, or UNKNOWN."""

    __slots__ = ("_at", "_due", "_share", "_times", "after")

    def __init__(self, share: float) -> None:
        self.after = UNKNOWN
        self._share = share
        self._times: list[float] = []
        self._at = 0  # where the next one goes, once the ring is full
        self._due = FEWEST  # how many more come in before it is worked out

    def add(self, took: float) -> None:
        """One more, in seconds."""
        times = self._times
        if len(times) < KEPT:
            times.append(took)
        else:
            times[self._at] = took
            self._at = (self._at + 1) % KEPT
        self._due -= 1
        if not self._due:
            self._due = REFRESH
            # The nearest-rank method: a time that really occurred, never one in between.
            self.after = sorted(times)[max(0, ceil(self._share * len(times)) - 1)]
