"""A route's limits, asked together."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress

import pytest

from gateway.errors import Refused, Shed, reply_to
from gateway.exchange import ANONYMOUS, Call, Caller, Hop, Quota, header
from gateway.limits.door import Limit, TakeQuota, take_quota, unlimited
from gateway.limits.failover import OnFailure, SharedStore
from gateway.limits.gcra import rate
from gateway.limits.headers import quota_lines
from gateway.limits.health import StoreHealth
from gateway.limits.memory import MemoryStore
from gateway.limits.store import Answer, StoreError, Take
from tests.fakes import Clock
from tests.tokens import call_with

STANDARD = Limit(rate("standard", 100, 60.0, burst=3), "consumer")
PER_IP = Limit(rate("per_ip", 50, 1.0, burst=2), "ip")
ALICE = Caller(consumer="alice", provider="idp")


class Recording:
    """A memory store that shows what it was asked, question by question."""

    def __init__(self) -> None:
        self.questions: list[list[tuple[str, int]]] = []
        self._store = MemoryStore()

    async def take(self, takes: Sequence[Take]) -> Answer:
        self.questions.append([(meter.policy, cost) for _, meter, cost in takes])
        return await self._store.take(takes)

    async def close(self) -> None: ...


class Gone:
    """A server that does not answer. Implements gateway.limits.failover.Remote."""

    def __init__(self) -> None:
        self.health = StoreHealth()

    async def take(self, takes: Sequence[Take]) -> list[Quota]:
        raise StoreError("nobody there", waited=True)

    async def check(self) -> bool:
        return False

    async def close(self) -> None: ...


class Away:
    """A shared store that is away and answers by its plan for that."""

    def __init__(self, clock: Clock, answer: Answer | Shed) -> None:
        self._clock = clock
        self._answer = answer

    async def take(self, takes: Sequence[Take]) -> Answer:
        self._clock.advance(0.05)
        if isinstance(self._answer, Shed):
            raise self._answer
        return self._answer

    async def close(self) -> None: ...


def outcomes(call: Call) -> list[tuple[str, str]]:
    assert all(hop.stage == "limit" for hop in call.hops)
    return [(hop.name, hop.outcome) for hop in call.hops]


async def test_an_allowed_call_carries_its_quota() -> None:
    clock, call = Clock(), call_with()
    await take_quota([STANDARD], MemoryStore(clock=clock), clock=clock)(call, ALICE)
    assert [(quota.policy, quota.remaining) for quota in call.quotas] == [("standard", 2)]
    assert call.hops == [Hop("limit", "standard", "allowed", clock.now, 0.0, False)]


async def test_e11_a_refused_call_is_told_when_to_come_back() -> None:
    clock = Clock()
    take = take_quota([STANDARD], MemoryStore(clock=clock), clock=clock)
    for _ in range(3):
        await take(call_with(), ALICE)
    call = call_with()
    with pytest.raises(Refused) as caught:
        await take(call, ALICE)
    reply = reply_to(caught.value, "id")
    problem = json.loads(bytes(reply.body))
    assert reply.status == 429
    assert header(reply.headers, b"retry-after") == b"1"  # 0.6 s, rounded up
    assert (problem["code"], problem["policy"], problem["retry_after"]) == ("rate_limited", "standard", 1)
    assert problem["detail"] == "The limit standard allows 100 requests in 60 seconds."
    assert outcomes(call) == [("standard", "refused")]
    assert quota_lines(call.quotas).endswith(b'ratelimit: "standard";r=0;t=1\r\n')  # as Retry-After says
    clock.advance(caught.value.retry_after)
    await take(call_with(), ALICE)


async def test_e6_a_refusal_by_one_limit_takes_nothing_from_the_others() -> None:
    clock, store = Clock(), MemoryStore(clock=Clock())
    take = take_quota([STANDARD, PER_IP], store, clock=clock)
    await take(call_with(), ALICE)
    await take(call_with(), ALICE)
    call = call_with()
    for _ in range(5):
        call = call_with()
        with pytest.raises(Refused) as caught:
            await take(call, ALICE)
        assert caught.value.members == {"policy": "per_ip"}
    assert outcomes(call) == [("standard", "allowed"), ("per_ip", "refused")]
    assert [(quota.policy, quota.remaining) for quota in call.quotas] == [("standard", 1), ("per_ip", 0)]


async def test_of_several_refusals_the_longest_wait_is_told() -> None:
    take = take_quota([Limit(rate("s", 1, 1.0)), Limit(rate("m", 1, 60.0)), Limit(rate("t", 1, 10.0))], MemoryStore())
    await take(call_with(), ALICE)
    with pytest.raises(Refused) as caught:
        await take(call_with(), ALICE)
    assert caught.value.members == {"policy": "m"}
    assert 50 < caught.value.retry_after <= 60


async def test_each_caller_has_a_quota_of_his_own() -> None:
    take = take_quota([Limit(rate("one", 1, 60.0))], MemoryStore())
    await take(call_with(), ALICE)
    await take(call_with(), Caller(consumer="bob", provider="idp"))
    await take(call_with(), ANONYMOUS)
    with pytest.raises(Refused):
        await take(call_with(), ANONYMOUS)


async def test_a_limit_counted_here_because_the_store_is_away_says_so() -> None:
    clock, call = Clock(), call_with()
    quotas = MemoryStore(clock=clock).take_all([(b"a", STANDARD.meter, 1), (b"b", PER_IP.meter, 1)])
    await take_quota([STANDARD, PER_IP], Away(clock, (quotas, "local", True)), clock=clock)(call, ALICE)
    assert outcomes(call) == [("standard", "local"), ("per_ip", "local")]
    assert [hop.took for hop in call.hops] == [pytest.approx(0.05), 0.0]  # asked together: counted once
    assert all(hop.waited for hop in call.hops)
    assert call.quotas == quotas


async def test_a_store_that_is_away_and_open_lets_pass_and_promises_nothing() -> None:
    clock, call = Clock(), call_with()
    await take_quota([STANDARD, PER_IP], Away(clock, ((), "open", False)), clock=clock)(call, ALICE)
    assert outcomes(call) == [("standard", "open"), ("per_ip", "open")]
    assert call.quotas == []


async def test_a_store_that_is_away_and_closed_sheds_and_the_call_shows_it() -> None:
    clock, call, shed = Clock(), call_with(), Shed("overloaded")
    with pytest.raises(Shed) as caught:
        await take_quota([STANDARD], Away(clock, shed), clock=clock)(call, ALICE)
    assert caught.value is shed
    assert outcomes(call) == [("standard", "closed")]


async def test_a_route_without_limits_asks_nothing() -> None:
    assert take_quota([], MemoryStore()) is unlimited
    call = call_with()
    await unlimited(call, ALICE)
    assert (call.quotas, call.hops) == ([], [])


def test_the_same_limit_twice_on_a_route_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        take_quota([STANDARD, STANDARD], MemoryStore())


GOLD = Caller(consumer="midas", provider="idp", tier="gold")
TIERED = Limit(rate("tiered", 2, 60.0), tiers={"gold": rate("tiered", 5, 10.0)})


async def passes(take: TakeQuota, caller: Caller = ALICE, times: int = 1000, method: str = "GET") -> int:
    """How many calls pass before one is refused."""
    for passed in range(times):
        call = call_with()
        call.request.method = method
        try:
            await take(call, caller)
        except Refused:
            return passed
    return times


async def test_a_tier_has_a_rate_of_its_own_and_the_headers_tell_it() -> None:
    take = take_quota([TIERED], MemoryStore(clock=Clock()))
    call = call_with()
    await take(call, GOLD)
    assert quota_lines(call.quotas) == b'ratelimit-policy: "tiered";q=5;w=10\r\nratelimit: "tiered";r=4;t=2\r\n'
    assert await passes(take, GOLD) == 4
    assert await passes(take, ALICE) == 2


async def test_a_tier_that_a_limit_does_not_know_has_the_usual_rate() -> None:
    take = take_quota([TIERED], MemoryStore(clock=Clock()))
    assert await passes(take, Caller(consumer="bob", provider="idp", tier="tin")) == 2


async def test_a_refusal_tells_the_numbers_of_the_tier() -> None:
    take = take_quota([TIERED], MemoryStore(clock=Clock()))
    await passes(take, GOLD)
    with pytest.raises(Refused) as caught:
        await take(call_with(), GOLD)
    assert caught.value.detail == "The limit tiered allows 5 requests in 10 seconds."


async def test_each_tier_counts_for_itself_where_callers_share_a_key() -> None:
    limit = Limit(TIERED.meter, "ip", tiers=TIERED.tiers)
    take = take_quota([limit], MemoryStore(clock=Clock()))
    assert await passes(take, GOLD) == 5
    assert await passes(take, ALICE) == 2  # the same address


@pytest.mark.parametrize(
    ("cost", "method", "passed"),
    [
        ({"*": 5}, "GET", 4),
        ({"POST": 10}, "POST", 2),
        ({"POST": 10}, "GET", 20),
        ({"POST": 10, "*": 4}, "DELETE", 5),
        ({"GET": 2}, "HEAD", 10),
        ({"GET": 2, "HEAD": 1}, "HEAD", 20),
        ({"GET": 2, "*": 20}, "get", 1),
        ({"*": 7}, "GET", 2),
        ({"GET": 0}, "GET", 1000),
    ],
)
async def test_a_request_costs_what_its_method_costs(cost: dict[str, int], method: str, passed: int) -> None:
    take = take_quota([Limit(rate("costly", 20, 60.0), cost=cost)], MemoryStore(clock=Clock()))
    assert await passes(take, method=method) == passed


async def test_what_costs_nothing_takes_nothing_and_is_told_what_is_left() -> None:
    clock = Clock()
    take = take_quota([Limit(rate("costly", 20, 60.0), cost={"GET": 0, "*": 20})], MemoryStore(clock=clock))
    assert await passes(take, times=100) == 100
    assert await passes(take, method="POST") == 1
    call = call_with()
    await take(call, ALICE)
    assert [(quota.allowed, quota.remaining) for quota in call.quotas] == [(True, 0)]


async def test_a_refusal_says_what_the_request_would_have_cost() -> None:
    clock = Clock()
    take = take_quota([PER_IP, Limit(rate("costly", 20, 60.0), cost={"*": 15})], MemoryStore(clock=clock), clock=clock)
    await take(call_with(), ALICE)
    with pytest.raises(Refused) as caught:
        await take(call_with(), ALICE)
    assert caught.value.detail == "The limit costly allows 20 requests in 60 seconds, and this one counts for 15."
    assert caught.value.retry_after == 30.0  # ten more have to come back
    clock.advance(29.9)
    assert await passes(take, times=1) == 0
    clock.advance(0.1)
    assert await passes(take, times=1) == 1


@pytest.mark.parametrize(
    ("window", "told"), [(0.5, "0.5 seconds"), (82800.0, "82800 seconds"), (86400.0, "86400 seconds"),
                         (2592000.0, "30 days"), (2678400.0, "31 days"), (2674800.0, "2674800 seconds")]
)  # fmt: skip
async def test_long_windows_are_told_in_days(window: float, told: str) -> None:
    take = take_quota([Limit(rate("long", 1, window))], MemoryStore(clock=Clock()))
    await take(call_with(), ALICE)
    with pytest.raises(Refused, match=f"allows 1 requests in {told}\\."):
        await take(call_with(), ALICE)


WATCHING = Limit(rate("watching", 2, 60.0), observe=True)


async def test_a_limit_that_observes_counts_and_never_refuses() -> None:
    take = take_quota([WATCHING], MemoryStore(clock=Clock()))
    seen = []
    for _ in range(4):
        call = call_with()
        await take(call, ALICE)
        assert call.quotas == []  # nobody is told of it
        seen += outcomes(call)
    assert seen == [("watching", "allowed")] * 2 + [("watching", "observed")] * 2


async def test_a_limit_that_observes_takes_nothing_from_the_others_and_keeps_nobody_from_counting() -> None:
    other = Limit(rate("other", 5, 60.0), "global", observe=True)
    take = take_quota([STANDARD, WATCHING, other], MemoryStore(clock=Clock()))
    seen = []
    for _ in range(3):
        call = call_with()
        await take(call, ALICE)
        seen.append(outcomes(call))
    assert seen == [
        [("standard", "allowed"), ("watching", "allowed"), ("other", "allowed")],
        [("standard", "allowed"), ("watching", "allowed"), ("other", "allowed")],
        [("standard", "allowed"), ("watching", "observed"), ("other", "allowed")],
    ]
    assert [(quota.policy, quota.remaining) for quota in call.quotas] == [("standard", 0)]


async def test_what_is_refused_anyway_never_comes_to_a_limit_that_observes() -> None:
    store = Recording()
    take = take_quota([Limit(rate("one", 1, 60.0)), WATCHING], store)
    await take(call_with(), ALICE)
    call = call_with()
    with pytest.raises(Refused):
        await take(call, ALICE)
    assert store.questions == [[("one", 1)], [("watching", 1)], [("one", 1)]]
    assert outcomes(call) == [("one", "refused")]


async def test_limits_that_observe_are_asked_in_one_turn_of_the_loop() -> None:
    class Slow(Recording):
        """Answers once everybody who asks in this turn has asked."""

        async def take(self, takes: Sequence[Take]) -> Answer:
            answer = await super().take(takes)
            await asyncio.sleep(0)
            assert len(self.questions) == 3
            return answer

    others = [Limit(rate(name, 5, 60.0), "global", observe=True) for name in ("a", "b", "c")]
    call = call_with()
    await take_quota(others, Slow())(call, ALICE)
    assert outcomes(call) == [("a", "allowed"), ("b", "allowed"), ("c", "allowed")]


@pytest.mark.parametrize(
    ("answer", "outcome"), [(((), "open", True), "open"), (Shed("overloaded"), "observed")], ids=["open", "closed"]
)
async def test_without_the_store_a_limit_that_observes_lets_pass(answer: Answer | Shed, outcome: str) -> None:
    clock, call = Clock(), call_with()
    await take_quota([WATCHING], Away(clock, answer), clock=clock)(call, ALICE)
    assert outcomes(call) == [("watching", outcome)]
    assert call.hops[0].waited


async def test_without_the_store_a_limit_that_observes_counts_here() -> None:
    store = SharedStore(Gone())
    take = take_quota([WATCHING], store)
    seen = []
    for _ in range(3):
        call = call_with()
        await take(call, ALICE)
        seen += outcomes(call)
    assert seen == [("watching", "local")] * 2 + [("watching", "observed")]


async def without_store(*plans: str, default: OnFailure = "local") -> str:
    """What becomes of a call of a route whose limits have these plans, "" for the store's own."""
    limits = [Limit(rate(f"{number}", 1, 60.0), "global") for number in range(len(plans))]
    exceptions: dict[str, OnFailure] = {
        str(number): plan for number, plan in enumerate(plans) if plan in ("local", "open", "closed")
    }
    call = call_with()
    with suppress(Shed):
        await take_quota(limits, SharedStore(Gone(), on_failure=default, exceptions=exceptions))(call, ALICE)
    (outcome,) = {outcome for _, outcome in outcomes(call)}
    return outcome


async def test_without_the_store_the_strictest_limit_of_a_route_decides() -> None:
    assert await without_store("open") == "open"
    assert await without_store("open", "local") == "local"
    assert await without_store("local", "closed", "open") == "closed"
    assert await without_store("open", "") == "local"
    assert await without_store("open", "", default="closed") == "closed"
    assert await without_store("open", "open", default="closed") == "open"
    assert await without_store("local", "", default="open") == "local"


async def test_a_limit_that_must_not_be_guessed_sheds_without_the_store() -> None:
    store = SharedStore(Gone(), exceptions={"standard": "closed"})
    with pytest.raises(Shed) as caught:
        await take_quota([PER_IP, STANDARD], store)(call_with(), ALICE)
    assert (caught.value.code, caught.value.status, caught.value.retry_after) == ("overloaded", 503, 1.0)
    call = call_with()
    await take_quota([PER_IP], store)(call, ALICE)  # another route
    assert outcomes(call) == [("per_ip", "local")]


async def test_a_key_of_several_things_is_one_bucket_for_each_combination() -> None:
    limit = Limit(rate("pair", 1, 60.0), ("consumer", "header:x-tenant"))
    take = take_quota([limit], MemoryStore(clock=Clock()))
    for caller in (ALICE, GOLD):
        for tenant in (b"a", b"b"):
            call = call_with((b"x-tenant", tenant))
            await take(call, caller)
            with pytest.raises(Refused):
                await take(call, caller)
