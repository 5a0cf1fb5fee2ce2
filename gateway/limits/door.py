"""Composes a route's limits into one question: may this caller ask once more?

Limits that only observe are asked afterwards, each for itself: whatever they say, the call goes on, and what the
others have decided stands.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.errors import Refused, Shed
from gateway.exchange import Call, Caller, Hop, Quota
from gateway.limits.keys import By, KeyOf, key_of
from gateway.limits.meter import Meter
from gateway.limits.store import Answer, RateStore, Take

TakeQuota = Callable[[Call, Caller], Awaitable[None]]
"""Raises Refused (429), or Shed (503) when the store is away and the policy for that is to close."""

Ask = Callable[[Call, Caller], Take]
"""What one limit asks the store about a call."""

EACH = "*"
"""In `cost`: every method that is not named."""

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a route; its name is the meter's policy, which the meters of its tiers have, too."""

    meter: Meter
    by: By | Sequence[By] = "consumer"
    tiers: Mapping[str, Meter] = field(default_factory=dict)
    cost: Mapping[str, int] = field(default_factory=dict)
    """What a request counts for, by method; where "*" is missing others count 1. HEAD is a GET unless named."""
    observe: bool = False
    """Never refuses: it only tells what it would have done."""


def take_quota(limits: Sequence[Limit], store: RateStore, *, clock: Callable[[], float] = time.monotonic) -> TakeQuota:
    """All `limits` must allow a call; if one refuses, it takes nothing from the others.

    Raises ValueError when two of them have the same name.
    """
    names = [limit.meter.policy for limit in limits]
    if len(set(names)) != len(names):
        raise ValueError("a route uses the same rate limit twice")
    enforced = [limit for limit in limits if not limit.observe]
    observed = [limit for limit in limits if limit.observe]
    if not observed:
        return _enforce(enforced, store, clock) if enforced else unlimited
    return _then(_enforce(enforced, store, clock) if enforced else None, _observe(observed, store, clock))


async def unlimited(call: Call, caller: Caller) -> None:
    """The quota of a route without limits."""


def _enforce(limits: Sequence[Limit], store: RateStore, clock: Callable[[], float]) -> TakeQuota:
    names = tuple(limit.meter.policy for limit in limits)
    asked = _asked(limits)
    take = store.take

    async def take_quota(call: Call, caller: Caller) -> None:
        started = clock()
        takes = asked(call, caller)
        try:
            quotas, how, waited = await take(takes)
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
            raise _too_many(refusal, next(cost for _, meter, cost in takes if meter.policy == refusal.policy))

    return take_quota


def _observe(limits: Sequence[Limit], store: RateStore, clock: Callable[[], float]) -> TakeQuota:
    """One question for each limit, so that none keeps the others from counting; all of them in one turn of the loop."""
    names = tuple(limit.meter.policy for limit in limits)
    asked = _asked(limits)

    async def take(take: Take) -> Answer | None:
        try:
            return await store.take([take])
        except Shed:
            return None

    async def observe(call: Call, caller: Caller) -> None:
        started = clock()
        takes = asked(call, caller)
        answers = [await take(takes[0])] if len(takes) == 1 else await asyncio.gather(*map(take, takes))
        took = clock() - started
        for name, answer in zip(names, answers, strict=True):
            waited = answer is None or answer[2]
            call.hops.append(Hop("limit", name, _observed(answer), started, took, waited))
            took = 0.0

    return observe


def _observed(answer: Answer | None) -> str:
    """What an observing limit reports: `observed` when it would have refused."""
    if answer is None:
        return "observed"
    quotas, how, _ = answer
    return "observed" if quotas and not quotas[0].allowed else how or "allowed"


def _then(enforce: TakeQuota | None, observe: TakeQuota) -> TakeQuota:
    if enforce is None:
        return observe

    async def take_quota(call: Call, caller: Caller) -> None:
        await enforce(call, caller)  # what it refuses never comes to those that only observe
        await observe(call, caller)

    return take_quota


def _asked(limits: Sequence[Limit]) -> Callable[[Call, Caller], list[Take]]:
    """What all of `limits` ask about a call. Most ask the same of each caller and method: those are the quickest."""
    fixed = [_fixed(limit) for limit in limits]
    plain = [each for each in fixed if each is not None]
    if len(plain) < len(limits):
        asks = [_ask(limit) for limit in limits]
        return lambda call, caller: [ask(call, caller) for ask in asks]
    if len(plain) > 1:
        return lambda call, caller: [(key(call, caller), meter, cost) for key, meter, cost in plain]
    ((key, meter, cost),) = plain
    return lambda call, caller: [(key(call, caller), meter, cost)]


def _fixed(limit: Limit) -> tuple[KeyOf, Meter, int] | None:
    """Key, meter and cost of a limit that knows neither tiers nor methods."""
    costs = _costs(limit.cost)
    if limit.tiers or costs.keys() != {EACH}:
        return None
    return key_of(limit.meter.policy, limit.by), limit.meter, costs[EACH]


def _ask(limit: Limit) -> Ask:
    """A limit whose meter depends on the caller's tier, or its cost on the method.

    Each tier counts for itself: what one has used up is no debt in another, whose window may be longer.
    """
    policy = limit.meter.policy
    usual = key_of(policy, limit.by), limit.meter
    # No name has a space: a tier's keys are nobody else's.
    tiers = {tier: (key_of(f"{policy} {tier}", limit.by), meter) for tier, meter in limit.tiers.items()}
    costs = _costs(limit.cost)
    each = costs[EACH]

    def ask(call: Call, caller: Caller) -> Take:
        key, meter = tiers.get(caller.tier, usual)
        return key(call, caller), meter, costs.get(call.request.method, each)

    return ask


def _costs(cost: Mapping[str, int]) -> dict[str, int]:
    costs = {EACH: 1, **cost}
    if "GET" in costs:
        costs.setdefault("HEAD", costs["GET"])
    return costs


def _hops(names: Sequence[str], outcome: str, started: float, took: float, waited: bool) -> list[Hop]:
    return [Hop("limit", name, outcome, started, 0.0 if index else took, waited) for index, name in enumerate(names)]


def _too_many(quota: Quota, cost: int) -> Refused:
    days, rest = divmod(quota.window, DAY)
    time = f"{days:.0f} days" if days > 1 and not rest else f"{quota.window:.9g} seconds"
    counts = f", and this one counts for {cost}" if cost > 1 else ""
    detail = f"The limit {quota.policy} allows {quota.limit} requests in {time}{counts}."
    return Refused("rate_limited", 429, detail, retry_after=quota.retry_after, policy=quota.policy)
