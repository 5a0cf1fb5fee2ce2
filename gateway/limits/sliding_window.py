"""The sliding-window counter: a window that moves along with the time, known by two counts. Pure integers.

Time is cut into windows that lie side by side (aligned to the store's clock), and requests are counted in the current
one. Those of the previous window count by the part of it that the moving window still covers: after a quarter of the
current window, three quarters of them. A request is allowed while both together, its own cost included, stay within
the limit. So

- no aligned window ever sees more than `limit`,
- it is an estimate, which takes the previous window's requests as spread evenly. Where they came all at its end, any
  other stretch of one window sees more than `limit`, but less than twice as many: it lies in two aligned ones. Where
  they came all at its beginning, up to `limit` of them are refused that a log of every request would let pass,
- a refused request counts for nothing: hammering does not prolong the wait.

How it differs from GCRA: from idle both let the whole limit pass at once. GCRA (with `burst: 1`, say) can forbid
that, and lets one more pass each window / limit from the first moment on; here nothing passes until the current
window is over, and then evenly for the length of the next one. GCRA is the right choice for protecting a service,
this one where a contract says "so many in any minute".

A window has up to a million steps, and what the previous one weighs changes from step to step. So every number here
and in `take.lua` is an integer below 2 × limit × steps: exact in doubles, whatever the window, for limits up to 10^9.
"""

import math

from gateway.exchange import Quota
from gateway.limits.meter import COUNT, COUNTED, TICKS

STEPS = 1_000_000
"""Steps of a window at most; the same number as in take.lua."""


class SlidingWindow:
    """A Meter: `limit` requests in `window` seconds. Raises ValueError for what nobody could count.

    A state is the tick from which the current window weighs nothing any more, its count, and the previous one's.
    """

    counts = 2 * COUNT
    by_calendar = False

    __slots__ = ("arguments", "length", "limit", "policy", "step", "steps", "table", "window")

    def __init__(self, policy: str, limit: int, window: float) -> None:
        if not 1 <= limit <= COUNTED or not 1 / TICKS <= window < math.inf:
            raise ValueError("a sliding window needs a limit from 1 to 2^30 - 1, and 100 ns at least")
        self.policy = policy
        self.limit = limit
        self.window = float(window)
        ticks = math.ceil(window * TICKS)
        self.step = math.ceil(ticks / STEPS)  # ticks
        self.steps = math.ceil(ticks / self.step)
        self.length = self.steps * self.step  # ticks: by less than a step longer than `window`
        self.table = f"sliding_window {policy}"
        self.arguments = (b"sliding_window", b"%d" % self.length, b"%d" % limit)

    def take(self, state: int, now: int, cost: int) -> tuple[int, Quota]:
        """As Meter.take."""
        elapsed = now % self.length
        ends = now - elapsed + 2 * self.length
        current, previous = self._counted(state, ends)
        if state >> 2 * COUNT > ends:
            state = ends << 2 * COUNT | current << COUNT | previous
        used = self._used(current, previous, elapsed)
        allowed, wait = True, 0
        if cost > 0 and used + cost * self.steps > self.limit * self.steps:
            allowed, wait = False, self._wait(current, previous, elapsed, cost)
        elif cost:
            current += cost
            if current < 0:  # more is given back than this window saw: it was taken in the one before
                current, previous = 0, max(0, previous + current)
            used = self._used(current, previous, elapsed)
            state = ends << 2 * COUNT | current << COUNT | previous if current or previous else 0
        remaining = max(0, self.limit * self.steps - used) // self.steps
        reset = self._reset(current, previous, elapsed)
        quota = Quota(allowed, self.policy, self.limit, self.window, remaining, reset / TICKS, wait / TICKS)
        return state, quota

    def asks(self, key: bytes, wall: float) -> tuple[bytes, tuple[bytes, bytes, bytes]]:
        """As Meter.asks: length of the window and limit."""
        return key, self.arguments

    def answer(self, held: tuple[int, int, int], wall: float, cost: int) -> Quota:
        """As Meter.answer; the script says how far the window is, its count, and the previous one's."""
        elapsed, current, previous = held
        return self.take(2 * self.length << 2 * COUNT | current << COUNT | previous, elapsed, cost)[1]

    def _counted(self, state: int, ends: int) -> tuple[int, int]:
        """Of the window that weighs nothing any more from `ends` on, and of the one before it.

        A state of a later window was written by a clock that has been set back since, or under a longer window: its
        counts are taken for those of this window, so that it ends with this one and the next.
        """
        behind = ends - (state >> 2 * COUNT)
        if behind >= 2 * self.length:
            return 0, 0
        current = min(state >> COUNT & COUNTED, self.limit)
        if behind > 0:
            return 0, current
        return current, min(state & COUNTED, self.limit)

    def _used(self, current: int, previous: int, elapsed: int) -> int:
        """In requests × steps."""
        return previous * (self.steps - elapsed // self.step) + current * self.steps

    def _reset(self, current: int, previous: int, elapsed: int) -> int:
        """Ticks until nothing of it weighs any more."""
        if current:
            return 2 * self.length - elapsed
        return self.length - elapsed if previous else 0

    def _wait(self, current: int, previous: int, elapsed: int, cost: int) -> int:
        """Ticks until the cost passes: in this window, or only in the next, where this one is the previous."""
        room = self.limit - cost
        if room < 0:  # it never passes
            return 2 * self.length - elapsed
        if room >= current:
            return (self.steps - (room - current) * self.steps // previous) * self.step - elapsed
        return self.length + (self.steps - room * self.steps // current) * self.step - elapsed
