"""How many things happened lately, and how many of them were of the kind watched: a sliding window.

Ten buckets slide over the span, so a count is at most a tenth of the span too old. Both totals only ever
grow; each bucket remembers them as they were when it began, and the window is the difference to the oldest.
Counting is thus one comparison and one addition. Pure: `now` is an argument.
"""

from collections import deque

BUCKETS = 10


class Window:
    """Counts of the last `span` seconds: `all` things, and the `marked` among them."""

    __slots__ = ("_all", "_ends", "_marked", "_past", "_slot", "_width")

    def __init__(self, span: float) -> None:
        self._width = span / BUCKETS
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._all = 0
        self._marked = 0
        self._slot = 0
        self._ends = float("-inf")
        self._past = deque([(0, 0)] * BUCKETS, BUCKETS)

    def count(self, now: float) -> None:
        """One more, unmarked."""
        if now >= self._ends:
            self._slide(now)
        self._all += 1

    def count_marked(self, now: float) -> None:
        """One more, marked."""
        if now >= self._ends:
            self._slide(now)
        self._all += 1
        self._marked += 1

    def mark(self, now: float) -> None:
        """One that was counted already is marked."""
        if now >= self._ends:
            self._slide(now)
        self._marked += 1

    def totals(self, now: float) -> tuple[int, int]:
        """(all, marked) within the window."""
        if now >= self._ends:
            self._slide(now)
        all_before, marked_before = self._past[0]
        return self._all - all_before, self._marked - marked_before

    def reaches(self, share: float, minimum: int, now: float) -> bool:
        """Whether there were `minimum` things or more, and at least this share of them marked."""
        things, marked = self.totals(now)
        return things >= minimum and marked >= share * things

    def _slide(self, now: float) -> None:
        slot = int(now // self._width)
        totals = (self._all, self._marked)
        self._past.extend([totals] * min(slot - self._slot, BUCKETS))
        self._slot = slot
        self._ends = (slot + 1) * self._width
