"""Composes a route's limits into one question: may this caller ask once more?"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.errors import Refused, Shed
from gateway.exchange import Call, Caller, Hop, Quota
from gateway.limits.gcra import Rate
from gateway.limits.keys import By, key_of
from gateway.limits.store import RateStore

TakeQuota = Callable[[Call, Caller], Awaitable[None]]
"""Raises Refused (429), or Shed (503) when the store is away and the policy for that is to close."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One named limit of a route; the name is the rate's policy."""

    rate: Rate
    by: By = "consumer"


def take_quota(limits: Sequence[Limit], store: RateStore, *, clock: Callable[[], float] = time.monotonic) -> TakeQuota:
    """All `limits` must allow a call; if one refuses, it takes nothing from the others.

    Raises ValueError when two of them have the same name.
    """
    names = tuple(limit.rate.policy for limit in limits)
    if len(set(names)) != len(names):
        raise ValueError("a route uses the same rate limit twice")
    if not limits:
        return unlimited
    asked = tuple((key_of(limit.rate.policy, limit.by), limit.rate) for limit in limits)
    take = store.take

    async def take_quota(call: Call, caller: Caller) -> None:
        started = clock()
        try:
            quotas, how, waited = await take([(key_of(call, caller), rate, 1) for key_of, rate in asked])
        except Shed:
            call.hops += _hops(names, "closed", started, clock() - started, True)
            raise
        took = clock() - started
        if not quotas:
            call.hops += _hops(names, how, started, took, waited)
            return
        call.quotas += quotas
        refusal = None
        for quota in quotas:
            outcome = (how or "allowed") if quota.allowed else "refused"
            call.hops.append(Hop("limit", quota.policy, outcome, started, took, waited))
            took = 0.0  # they were asked together: only the first has taken the time
            if not quota.allowed and (refusal is None or quota.retry_after > refusal.retry_after):
                refusal = quota
        if refusal is not None:
            raise _too_many(refusal)

    return take_quota


async def unlimited(call: Call, caller: Caller) -> None:
    """The quota of a route without limits."""


def _hops(names: Sequence[str], outcome: str, started: float, took: float, waited: bool) -> list[Hop]:
    return [Hop("limit", name, outcome, started, 0.0 if index else took, waited) for index, name in enumerate(names)]


def _too_many(quota: Quota) -> Refused:
    detail = f"The limit {quota.policy} allows {quota.limit} requests in {quota.window:g} seconds."
    return Refused("rate_limited", 429, detail, retry_after=quota.retry_after, policy=quota.policy)
