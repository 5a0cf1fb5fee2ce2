"""What a try of a circuit holds while it is under way: which state it was let in by, and when if that matters.

Results of an earlier state than the present one are dropped here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.resilience.verdict import Verdict

if TYPE_CHECKING:
    from gateway.resilience.breaker import Breaker

SUCCESS, FAILURE, NEUTRAL = Verdict.SUCCESS, Verdict.FAILURE, Verdict.NEUTRAL


class ClosedPermit:
    """Shared by all tries of one closed epoch: it holds no place, so there is nothing to give back."""

    __slots__ = ("_breaker", "_epoch")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._epoch = breaker.epoch

    def settle(self, verdict: Verdict) -> None:
        breaker = self._breaker
        if breaker.epoch != self._epoch:
            return
        if verdict is SUCCESS:
            breaker.succeeded()
        elif verdict is FAILURE:
            breaker.failed()


class TimedPermit:
    """Of a closed circuit that watches for slow tries: each try has its own, which knows when it began."""

    __slots__ = ("_breaker", "_epoch", "_started")

    def __init__(self, breaker: Breaker, now: float) -> None:
        self._breaker = breaker
        self._epoch = breaker.epoch
        self._started = now

    def settle(self, verdict: Verdict) -> None:
        breaker = self._breaker
        if verdict is not NEUTRAL and breaker.epoch == self._epoch:
            breaker.timed_try_ended(verdict, self._started)


class TrialPermit:
    """One of the few places while half-open; settling it twice gives back one place."""

    __slots__ = ("_breaker", "_epoch", "_settled", "_started")

    def __init__(self, breaker: Breaker, now: float) -> None:
        self._breaker = breaker
        self._epoch = breaker.epoch
        self._settled = False
        self._started = now

    def settle(self, verdict: Verdict) -> None:
        if self._settled:
            return
        self._settled = True
        if self._breaker.epoch == self._epoch:
            self._breaker.trial_ended(verdict, self._started)
