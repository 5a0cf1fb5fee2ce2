"""Balancing by expected time: what replies, failures and silence make of a target's cost."""

import asyncio
from math import exp

import pytest

from gateway.errors import DeadlinePassed, Shed, UpstreamFailed
from gateway.exchange import Call, Reply
from gateway.pipe import Send
from gateway.upstream.members import Member
from gateway.upstream.peak_ewma import COLD, DEAREST, FAILED, expected, faded, peak_ewma, timed
from tests.fakes import Chunks, Clock, Dice, FakeTarget, failing, make_call, replying


def member(name: str = "a", cost: float = 0.0, busy: int = 0, weight: int = 1) -> Member:
    target = FakeTarget(name)
    target.busy = busy
    made = Member(target, weight)
    made.cost, made.measured = cost, 1000.0
    return made


async def tried(member: Member, clock: Clock, seconds: float, send: Send, call: Call | None = None) -> None:
    """One try that ends so after so many seconds."""

    async def slow(call: Call, member: Member) -> Reply:
        clock.advance(seconds)
        return await send(call)

    await asyncio.gather(timed(slow, clock)(call or make_call(), member), return_exceptions=True)


def chosen(*members: Member, falls: float = 0.0) -> str:
    return peak_ewma(Clock(), Dice(falls))(list(members), make_call()).target.name


def test_the_sooner_expected_is_chosen() -> None:
    assert chosen(member("a", 0.2), member("b", 0.1)) == "b"
    assert chosen(member("a", 0.2), member("b", 0.1, busy=2)) == "a"
    assert chosen(member("a", 0.2), member("b", 0.1, busy=2, weight=2)) == "b"


@pytest.mark.parametrize("falls", [0.0, 0.4, 0.99, 1.0])
def test_of_many_two_different_ones_are_drawn(falls: float) -> None:
    members = [member(str(n), 1.0 + n) for n in range(4)]
    drawn: list[Member] = []
    peak_ewma(Clock(), Dice(falls))(members, make_call())
    chooser = peak_ewma(Clock(), Dice(falls))
    for _ in range(2):
        drawn.append(chooser(members, make_call()))
        drawn[-1].cost = 1e9
    assert drawn[0] is not drawn[1]


def test_the_first_request_is_welcome_at_an_unknown_target_and_a_burst_is_not() -> None:
    assert chosen(member("a", 0.1), member("b")) == "b"
    assert chosen(member("a", 0.1), member("b", busy=1)) == "a"
    assert expected(member(busy=1), 1000.0) == 2 * COLD


async def test_a_peak_counts_at_once_and_shorter_times_bit_by_bit() -> None:
    clock, target = Clock(), member(cost=0.1)
    await tried(target, clock, 2.0, replying(200))
    assert target.cost == pytest.approx(2.0)
    await tried(target, clock, 1.0, replying(200))
    assert target.cost == pytest.approx(1.0 + exp(-0.1))
    clock.advance(1000.0)
    await tried(target, clock, 0.1, replying(200))
    assert target.cost == pytest.approx(0.1)


def test_a_cost_fades_so_that_every_target_is_asked_again() -> None:
    slow = member(cost=5.0)
    assert faded(slow, 1010.0) == pytest.approx(5.0 / exp(1))
    assert faded(slow, 1e6) == 0.0


FAILURES = [
    failing(UpstreamFailed("upstream_unreachable", sent=False)),
    failing(UpstreamFailed("upstream_timeout", sent=True)),
    failing(DeadlinePassed()),
    replying(500),
    replying(503),
    replying(429),
]


@pytest.mark.parametrize("send", FAILURES)
@pytest.mark.parametrize("cost", [0.0, 0.01, 3.0, 30.0])
@pytest.mark.parametrize("seconds", [0.0, 0.2, 40.0])
async def test_a_failure_never_makes_a_target_attractive(send: Send, cost: float, seconds: float) -> None:
    clock, target = Clock(), member(cost=cost)
    await tried(target, clock, seconds, send)
    faded = cost * exp(-seconds / 10)
    least = max(FAILED, seconds, faded, min(2 * faded, DEAREST))
    assert target.cost == pytest.approx(least)


async def test_repeated_failures_cost_more_and_more_up_to_a_bound() -> None:
    clock, target, costs = Clock(), member(), []
    for _ in range(6):
        await tried(target, clock, 0.0, replying(503))
        costs.append(target.cost)
    assert costs == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


@pytest.mark.parametrize(
    "send",
    [
        failing(Shed("overloaded")),
        failing(UpstreamFailed("upstream_failed", sent=True, stale=True)),
        replying(501),
        failing(asyncio.CancelledError()),
    ],
)
async def test_what_says_nothing_about_the_target_changes_nothing(send: Send) -> None:
    clock, target = Clock(), member(cost=1.0)
    await tried(target, clock, 0.5, send)
    assert (target.cost, target.measured) == (1.0, 1000.0)


async def test_a_cancelled_try_took_at_least_as_long_as_it_ran() -> None:
    clock, target = Clock(), member(cost=0.1)
    await tried(target, clock, 2.0, failing(asyncio.CancelledError()))
    assert target.cost == pytest.approx(2.0)


async def test_the_time_of_a_body_on_its_way_is_its_clients() -> None:
    clock, target = Clock(), member(cost=0.1)
    await tried(target, clock, 2.0, replying(200), make_call("PUT", body=Chunks(b"slow")))
    assert target.cost == 0.1
