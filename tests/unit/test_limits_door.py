"""A route's limits, asked together."""

import json
from collections.abc import Sequence

import pytest

from gateway.errors import Refused, Shed, reply_to
from gateway.exchange import ANONYMOUS, Call, Caller, Hop, header
from gateway.limits.door import Limit, take_quota, unlimited
from gateway.limits.gcra import rate
from gateway.limits.headers import quota_lines
from gateway.limits.memory import MemoryStore
from gateway.limits.store import Answer, Take
from tests.fakes import Clock
from tests.tokens import call_with

STANDARD = Limit(rate("standard", 100, 60.0, burst=3), "consumer")
PER_IP = Limit(rate("per_ip", 50, 1.0, burst=2), "ip")
ALICE = Caller(consumer="alice", provider="idp")


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
    assert quota_lines(call.quotas).endswith(b'ratelimit: "standard";r=0;t=2\r\n')
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
    quotas = MemoryStore(clock=clock).take_all([(b"a", STANDARD.rate, 1), (b"b", PER_IP.rate, 1)])
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
