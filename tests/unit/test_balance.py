from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Shed
from gateway.exchange import Target
from gateway.resilience.breaker import Breaker
from gateway.resilience.verdict import Verdict
from gateway.upstream.balance import RoundRobin, balance
from tests.fakes import Clock, FakeTarget, explosive, make_call, replying


def breaker(clock: Clock, open_for: float = 10.0) -> Breaker:
    return Breaker(
        "t",
        consecutive_failures=1,
        failure_rate=1.0,
        window=10.0,
        minimum_requests=100,
        open_for=open_for,
        trials=1,
        clock=clock,
    )


def opened(clock: Clock, open_for: float = 10.0) -> Breaker:
    circuit = breaker(clock, open_for)
    circuit.admit().settle(Verdict.FAILURE)
    return circuit


def names(picker: RoundRobin, count: int, tried: tuple[Target, ...] = ()) -> str:
    return "".join(picker.pick(tried).name for _ in range(count))


def test_targets_of_equal_weight_take_turns() -> None:
    assert names(RoundRobin([FakeTarget("a"), FakeTarget("b"), FakeTarget("c")]), 7) == "abcabca"


def test_a_heavy_target_is_spread_out_instead_of_bursting() -> None:
    assert names(RoundRobin([FakeTarget("a"), FakeTarget("b"), FakeTarget("c")], [5, 1, 1]), 7) == "aabacaa"


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 4))
def test_every_round_gives_each_target_exactly_its_weight(weights: list[int], rounds: int) -> None:
    picker = RoundRobin([FakeTarget(str(n)) for n in range(len(weights))], weights)
    picked = Counter(picker.pick(()).name for _ in range(sum(weights) * rounds))
    assert picked == {str(n): weight * rounds for n, weight in enumerate(weights)}


def test_a_target_tried_already_is_avoided_while_there_is_another() -> None:
    a, b = FakeTarget("a"), FakeTarget("b")
    picker = RoundRobin([a, b], [100, 1])
    assert names(picker, 3, (a,)) == "bbb"
    assert set(names(picker, 110, (a, b))) == {"a", "b"}


def test_an_open_circuit_is_passed_over_and_the_others_keep_their_shares() -> None:
    clock = Clock()
    targets = [FakeTarget("a", opened(clock)), FakeTarget("b"), FakeTarget("c")]
    assert Counter(names(RoundRobin(targets, [1, 2, 1]), 9)) == {"b": 6, "c": 3}


def test_a_target_tried_already_is_better_than_one_whose_circuit_is_open() -> None:
    clock, a = Clock(), FakeTarget("a")
    picker = RoundRobin([a, FakeTarget("b", opened(clock))])
    assert names(picker, 2, (a,)) == "aa"


def test_a_recovered_target_does_not_get_the_turns_it_missed_in_a_burst() -> None:
    clock = Clock()
    picker = RoundRobin([FakeTarget("a", opened(clock)), FakeTarget("b")])
    names(picker, 50)
    clock.advance(10.0)
    assert Counter(names(picker, 6)) == {"a": 3, "b": 3}


@pytest.mark.parametrize("waits", [[4.0], [9.0, 4.0, 7.0]])
def test_when_all_are_open_the_caller_learns_when_the_first_may_be_tried(waits: list[float]) -> None:
    clock = Clock()
    picker = RoundRobin([FakeTarget(str(wait), opened(clock, wait)) for wait in waits])
    clock.advance(1.0)
    with pytest.raises(Shed) as caught:
        picker.pick(())
    assert (caught.value.code, caught.value.status, caught.value.retry_after) == ("circuit_open", 503, 3.0)


def test_a_lone_target_is_picked_again_and_again() -> None:
    a = FakeTarget("a")
    assert names(RoundRobin([a]), 3, (a,)) == "aaa"


def test_an_upstream_without_targets_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="needs a target"):
        RoundRobin([])


async def test_the_layer_tells_the_call_where_it_goes_and_remembers_where_it_went() -> None:
    a, b = FakeTarget("a"), FakeTarget("b")
    send, call = balance(RoundRobin([a, b]))(replying(200)), make_call()
    for _ in range(2):
        await send(call)
    assert call.target is b
    assert call.tried == [a, b]


async def test_a_call_that_no_target_admits_was_tried_nowhere() -> None:
    send, call = balance(RoundRobin([FakeTarget("a", opened(Clock()))]))(explosive()), make_call()
    with pytest.raises(Shed):
        await send(call)
    assert (call.target, call.tried) == (None, [])
