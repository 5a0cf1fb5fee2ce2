"""Slows down whoever guesses: an address with too many wrong credentials waits, and nothing it sends is looked at.

Failures are counted in the store, so all workers and instances count together; whether an address has to wait is
known in this process, which a right credential pays nothing for.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.auth.door import Identify
from gateway.auth.providers import BadCredential
from gateway.errors import Refused, Shed
from gateway.exchange import Call, Caller, Hop
from gateway.limits.gcra import Rate
from gateway.limits.keys import key, network
from gateway.limits.meter import TICKS
from gateway.limits.store import RateStore

MOST_WAITING = 100_000
"""Addresses; one more makes room by letting the one go that has waited longest."""


class FailureLimit:
    """Counts the wrong credentials of each address (IPv6: each /64), which `rate` allows."""

    def __init__(self, rate: Rate, store: RateStore, clock: Callable[[], float] = time.monotonic) -> None:
        self.until: OrderedDict[str, float] = OrderedDict()
        """When those who have to wait may come again."""
        self._rate = rate
        self._store = store
        self._clock = clock
        self._spare = (rate.depth - rate.interval) / TICKS  # seconds of debt with which one more is allowed

    def wait(self, address: str) -> float:
        """Seconds for which nothing of this address is looked at; 0 for most."""
        who = network(address)
        until = self.until.get(who)
        if until is None:
            return 0.0
        left = until - self._clock()
        if left <= 0:
            del self.until[who]
        return max(0.0, left)

    async def failed(self, address: str) -> float:
        """Count one. Seconds to wait at once, when somebody else has used up what is allowed; else 0."""
        who = network(address)
        try:
            quotas, _, _ = await self._store.take([(key(self._rate.policy, "failures", who), self._rate, 1)])
        except Shed:  # the store is away, and limits are closed: the credential was wrong all the same
            return 0.0
        for quota in quotas:
            wait = quota.retry_after if not quota.allowed else quota.reset_after - self._spare
            if wait > 0:
                self._hold(who, wait)
            if not quota.allowed:
                return wait
        return 0.0

    def _hold(self, who: str, wait: float) -> None:
        if len(self.until) >= MOST_WAITING:
            self.until.popitem(last=False)
        self.until[who] = self._clock() + wait


def throttled(identify: Identify, failures: FailureLimit) -> Identify:
    """`identify`, unless the address has to wait: then 429."""

    async def identify_unless_waiting(call: Call) -> Caller:
        if failures.until and (wait := failures.wait(call.client_ip)):
            call.hops.append(Hop("auth", "", "throttled", call.request.received, 0.0, False))
            raise _too_many(wait)
        try:
            return await identify(call)
        except BadCredential:
            if wait := await failures.failed(call.client_ip):
                raise _too_many(wait) from None  # also who was right would hear that now
            raise

    return identify_unless_waiting


def _too_many(wait: float) -> Refused:
    detail = "Too many wrong credentials came from this address."
    return Refused("rate_limited", 429, detail, retry_after=wait)
