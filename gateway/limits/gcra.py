"""The Generic Cell Rate Algorithm (ITU-T I.371), the meter behind every rate limit. Pure integers.

Each request costs one *emission interval*, window / limit. What a key owes is worked off as time passes; a
request is allowed while the debt, its own cost included, stays within `burst` intervals. So

- `burst` requests pass at once from idle (by default: `limit` of them),
- after that one more each window / limit, evenly, with no window edge to wait for,
- any stretch of one window sees at most `burst` + `limit` requests,
- a refused request owes nothing: hammering does not prolong the wait.

The whole state of a key is one number, the *theoretical arrival time* (TAT) at which its debt is gone; a
TAT in the past is the same as none. Times are ticks of 100 ns, as integers: Python and `gcra.lua`, whose
numbers are doubles, then agree to the last bit (until 2^53 ticks, 28 years after the epoch used there).
"""

import math
from dataclasses import dataclass

from gateway.exchange import Quota

TICKS = 10_000_000
"""Ticks per second."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A policy's rate, ready for the arithmetic. Made by `rate()`."""

    policy: str
    limit: int
    window: float
    """Seconds."""
    burst: int
    """Requests that pass at once from idle."""
    interval: int
    """Ticks one request costs; rounded up, so never more than `limit` per window in the long run."""
    depth: int
    """Ticks of debt at most: burst × interval."""


def rate(policy: str, limit: int, window: float, burst: int | None = None) -> Rate:
    """`limit` requests per `window` seconds, `burst` of them at once (as many as `limit` unless given).

    Raises ValueError for what no request, or no clock, could satisfy.
    """
    burst = limit if burst is None else burst
    if limit < 1 or burst < 1 or not 0 < window < math.inf:
        raise ValueError("a rate needs a limit, a burst and a window above zero")
    if limit / window > TICKS:
        raise ValueError("a rate may not exceed ten million per second")
    interval = math.ceil(window * TICKS / limit)
    return Rate(policy, limit, float(window), burst, interval, burst * interval)


def debt(tat: int, now: int, rate: Rate) -> int:
    """Ticks that a key with this TAT owes now.

    Never more than `depth`: a TAT beyond it was written by a clock that has been set back since (a failover),
    or under a larger rate, and must not lock the caller out for longer than the limit itself would.
    """
    owed = tat - now  # two comparisons: min() and max() would cost 0.25 µs a request
    if owed <= 0:
        return 0
    if owed > rate.depth:
        return rate.depth
    return owed


def answer(rate: Rate, owed: int, cost: int) -> Quota:
    """What taking `cost` (0 only asks) gives a key that owes `owed` ticks."""
    after = owed + cost * rate.interval
    short = after - rate.depth
    if short > 0:
        remaining = (rate.depth - owed) // rate.interval
        return Quota(False, rate.policy, rate.limit, rate.window, remaining, owed / TICKS, short / TICKS)
    # Made the short way, past the named tuple's own constructor: 0.2 µs less on every allowed request.
    fields = (True, rate.policy, rate.limit, rate.window, -short // rate.interval, after / TICKS, 0.0)
    return tuple.__new__(Quota, fields)


def take(tat: int, now: int, rate: Rate, cost: int) -> tuple[int, Quota]:
    """Take `cost` from a key with this TAT (0 for none): its new TAT, and the answer."""
    owed = debt(tat, now, rate)
    quota = answer(rate, owed, cost)
    return (now + owed + cost * rate.interval if quota.allowed else tat), quota
