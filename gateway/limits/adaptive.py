"""Finds how many tries an upstream takes at a time, by how long its replies take. Pure.

Below what it can serve at once, a reply takes as long as it takes; above it, requests stand in a line that we do not
see, and their times grow with its length. So times are compared with what they are without a line, once a window:

    limit = limit * min(1, TOLERANCE * base / time) * (1 - failed) + sqrt(limit) / 2

`time` is the mean of the window, `failed` the share of tries that showed overload. After each step the replies of
what was under way are waited for before anything counts, so that it is seen before the next is made. The limit grows
only where it is used: one that nobody comes near says nothing. At first it doubles, as in TCP's slow start.

`base`, the time without a line, is measured in the beginning, at the lowest limit, and every PROBE seconds at half of
what the limit is then, and at half of that, as long as times go on falling. Without such probes a lasting line would
in time be taken for the service itself. The workers of a machine probe at once: they all stand in the same line.

The idea is that of TCP Vegas (Brakmo and Peterson, 1995); gradient and square root are as in Netflix'
concurrency-limits (2018) and Envoy's adaptive_concurrency filter, whose minRTT is measured in such a way, too.
"""

from collections.abc import Callable
from math import sqrt
from typing import Protocol

from gateway.errors import DeadlinePassed, UpstreamFailed
from gateway.exchange import Call, Reply
from gateway.pipe import Layer, Send

TOLERANCE = 1.2
"""Times vary without any line, and one that is short costs little and keeps the service busy."""

WINDOW = 20
"""Tries at least: the mean of fewer says too little."""

SETTLE = 2.0
"""Mean times to wait after a step: by then all but a few of the replies are to what began after it."""

SLOW_START_ENDS = 1.5
"""Times `base`. Means of first windows are rough: at less, the doubling would often end for nothing."""

PROBE = 15.0
"""Seconds between probes. One lasts a few mean times."""

PROBE_TIMES = 4
"""No probe window lasts for more times `base`: workers that measure longer than others would see these return."""

FELL = 0.9
"""Times shorter by this than before the limit was halved: there was a line, and perhaps there still is."""

MEMORY = 100
"""Tries that `base` is the mean of, at most; later ones replace the earlier ones bit by bit."""

FEW = 0.1
"""Share of failures up to which the times of the others can be believed."""

STEEPEST = 0.5
"""No step makes less of a limit than this part of it: the next step comes soon."""

OVERLOAD = frozenset({503, 504})
"""What a service itself says when it has too much to do."""


class Gradient:
    """The limit of one worker for one upstream, between `minimum`, where it starts, and `limit`. Times in seconds."""

    __slots__ = (
        "_base",
        "_base_tries",
        "_changed",
        "_counts_from",
        "_estimate",
        "_failed",
        "_look",
        "_maximum",
        "_mean",
        "_minimum",
        "_most",
        "_probing",
        "_seen",
        "_slow_start",
        "_time",
        "_timed",
        "_wanted",
        "limit",
    )

    def __init__(self, minimum: int, limit: int) -> None:
        self.limit = minimum  # in force now
        self._minimum = minimum
        self._maximum = limit
        self._estimate = float(minimum)  # the limit, but for probes
        self._base = 0.0  # 0 while nothing is known
        self._base_tries = 0  # of which it is the mean
        self._mean = 0.0  # time in the window before
        self._slow_start = True
        self._probing = False
        self._look = 0.0  # when a probe begins, or its window must end
        self._most = 0  # tries under way at the same time in this window
        self._begin(0.0)

    def __repr__(self) -> str:
        return f"<Gradient {self.limit} of {self._minimum} to {self._maximum}, base {self._base * 1000:.1f} ms>"

    def replied(self, started: float, now: float, busy: int) -> None:
        """A try that began at `started` has its reply; `busy` are under way, it included."""
        self._seen += 1
        if busy > self._most:
            self._most = busy
        if now >= self._counts_from and started >= self._changed:
            self._timed += 1
            self._time += now - started
            if self._timed + self._failed >= self._wanted:
                self._settle(now)
        if now >= self._look:
            self._look_at_the_clock(now)

    def ended(self, now: float, *, overload: bool) -> None:
        """A try has ended in a way that shows overload, or in one that says nothing."""
        self._seen += 1
        if overload:
            self._failed += 1
            if self._timed + self._failed >= self._wanted:
                self._settle(now)

    def _begin(self, now: float) -> None:
        """A new window, under the limit as it is now."""
        self._changed = now
        self._counts_from = now + SETTLE * self._mean
        self._wanted = max(WINDOW, self.limit)
        self._seen = 0  # tries that ended
        self._failed = 0  # of them, by overload
        self._timed = 0  # of them, whose times count
        self._time = 0.0  # of these together
        self._most = 0

    def _settle(self, now: float) -> None:
        """The window is over: draw the conclusions."""
        before, failed = self._mean, self._failed / self._seen
        if self._timed:
            self._mean = self._time / self._timed
        trusted = self._timed > 0 and failed < FEW
        if self._probing and trusted and self._mean < FELL * before and self.limit > self._minimum:
            self._probe(self.limit / 2, now)
            return
        if trusted and (self._probing or self._is_first()):
            self._learn()
        if self._probing:
            self._probing = False
            self._look = next_probe(now)
        else:
            self._move(failed)
        self._apply(self._estimate, now)

    def _is_first(self) -> bool:
        """Little is known yet, and the window makes it better: the limit is lowest, or still has no effect."""
        if self._base_tries >= MEMORY:
            return False
        return self.limit <= self._minimum or (self._slow_start and self._mean < TOLERANCE * self._base)

    def _learn(self) -> None:
        """The window was one without a line."""
        known, new = self._base_tries, self._timed
        if not known or (new >= WINDOW and abs(self._mean - self._base) > self._base / 2):
            self._base, self._base_tries = self._mean, new  # another service now, or as good as
        else:
            self._base += (self._mean - self._base) * new / (known + new)
            self._base_tries = min(known + new, MEMORY)

    def _move(self, failed: float) -> None:
        """The next step of the limit."""
        used = self._most * 2 >= self.limit
        slope = 1.0 - failed
        if failed >= FEW or self._mean >= SLOW_START_ENDS * self._base:
            self._slow_start = False
        if used and self._timed and self._mean > TOLERANCE * self._base:
            slope *= TOLERANCE * self._base / self._mean
        step = 0.0
        if used:
            step = self._estimate if self._slow_start else sqrt(self._estimate) / 2
        estimate = self._estimate * max(STEEPEST, slope) + step
        self._estimate = min(max(estimate, self._minimum), self._maximum)

    def _look_at_the_clock(self, now: float) -> None:
        if self._probing and self._timed:
            self._settle(now)
        elif not self._probing:
            self._look = next_probe(now)
            if self._base and not self._slow_start:
                self._probe(self._estimate / 2, now)

    def _probe(self, limit: float, now: float) -> None:
        self._probing = True
        self._apply(limit, now)
        self._look = self._counts_from + PROBE_TIMES * self._base

    def _apply(self, limit: float, now: float) -> None:
        self.limit = max(self._minimum, int(limit))
        self._begin(now)


def next_probe(now: float) -> float:
    """The same moment for all workers of a machine, which share its monotonic clock."""
    return (now // PROBE + 1) * PROBE


class Limited(Protocol):
    """What the limit is set on: limits.concurrency.Gate."""

    busy: int
    limit: int

    def resize(self, limit: int) -> None: ...


def adaptive(gradient: Gradient, gate: Limited, clock: Callable[[], float]) -> Layer:
    """Time every try to the head of its reply, and set `gate`, in which it is, to what `gradient` makes of that.

    Our own refusals and cancelled tries count in no way. Nor do the times of failures, which are fast or late for
    reasons of their own, and of requests whose body was still on its way: their clients' pace would count.
    """
    gate.resize(gradient.limit)

    def layer(send: Send) -> Send:
        async def timed(call: Call) -> Reply:
            whole = isinstance(call.body, bytes)
            started = clock()
            try:
                reply = await send(call)
            except (UpstreamFailed, DeadlinePassed) as error:
                if not (isinstance(error, UpstreamFailed) and error.stale):
                    gradient.ended(clock(), overload=True)
                    if gradient.limit != gate.limit:
                        gate.resize(gradient.limit)
                raise
            if whole and reply.status < 500:
                gradient.replied(started, clock(), gate.busy)
            else:
                gradient.ended(clock(), overload=reply.status in OVERLOAD)
            if gradient.limit != gate.limit:
                gate.resize(gradient.limit)
            return reply

        return timed

    return layer
