from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Shed
from gateway.exchange import Call, Target
from gateway.resilience.breaker import Breaker
from gateway.resilience.verdict import Verdict
from gateway.upstream.balance import Picker, picker
from gateway.upstream.members import Member
from tests.fakes import Clock, Dice, FakeTarget, make_call

KINDS = ["round_robin", "least_requests", "random", "peak_ewma", "hash"]


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


def of(kind: str, targets: Sequence[Target], weights: Sequence[int] = (), dice: Dice | None = None) -> Picker:
    pairs = zip(targets, weights or [1] * len(targets), strict=True)
    members = [Member(target, weight) for target, weight in pairs]
    return picker(kind, members, clock=Clock(), dice=dice or Dice(0.0), key_of=lambda call: call.path)


def round_robin(targets: Sequence[Target], weights: Sequence[int] = ()) -> Picker:
    return of("round_robin", targets, weights)


def having_tried(*targets: Target) -> Call:
    call = make_call()
    call.tried += targets
    return call


def names(picker: Picker, count: int, *tried: Target) -> str:
    return "".join(picker.pick(having_tried(*tried)).name for _ in range(count))


def test_targets_of_equal_weight_take_turns() -> None:
    assert names(round_robin([FakeTarget("a"), FakeTarget("b"), FakeTarget("c")]), 7) == "abcabca"


def test_a_heavy_target_is_spread_out_instead_of_bursting() -> None:
    assert names(round_robin([FakeTarget("a"), FakeTarget("b"), FakeTarget("c")], [5, 1, 1]), 7) == "aabacaa"


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 4))
def test_every_round_gives_each_target_exactly_its_weight(weights: list[int], rounds: int) -> None:
    picker = round_robin([FakeTarget(str(n)) for n in range(len(weights))], weights)
    picked = Counter(picker.pick(make_call()).name for _ in range(sum(weights) * rounds))
    assert picked == {str(n): weight * rounds for n, weight in enumerate(weights)}


def test_an_open_circuit_is_passed_over_and_the_others_keep_their_shares() -> None:
    clock = Clock()
    targets = [FakeTarget("a", opened(clock)), FakeTarget("b"), FakeTarget("c")]
    assert Counter(names(round_robin(targets, [1, 2, 1]), 9)) == {"b": 6, "c": 3}


def test_a_recovered_target_does_not_get_the_turns_it_missed_in_a_burst() -> None:
    clock = Clock()
    picker = round_robin([FakeTarget("a", opened(clock)), FakeTarget("b")])
    names(picker, 50)
    clock.advance(10.0)
    assert Counter(names(picker, 6)) == {"a": 3, "b": 3}


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_tried_already_is_avoided_while_there_is_another(kind: str) -> None:
    a, b = FakeTarget("a"), FakeTarget("b")
    assert names(of(kind, [a, b], [100, 1]), 3, a) == "bbb"
    assert names(of(kind, [a, b], [1, 100]), 3, b) == "aaa"


def test_a_call_that_has_tried_all_may_go_anywhere_again() -> None:
    a, b = FakeTarget("a"), FakeTarget("b")
    assert set(names(round_robin([a, b], [100, 1]), 110, a, b)) == {"a", "b"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_tried_already_is_better_than_one_whose_circuit_is_open(kind: str) -> None:
    clock, a = Clock(), FakeTarget("a")
    assert names(of(kind, [a, FakeTarget("b", opened(clock))]), 2, a) == "aa"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("waits", [[4.0], [9.0, 4.0, 7.0]])
def test_when_all_are_open_the_caller_learns_when_the_first_may_be_tried(kind: str, waits: list[float]) -> None:
    clock = Clock()
    picker = of(kind, [FakeTarget(str(wait), opened(clock, wait)) for wait in waits])
    clock.advance(1.0)
    with pytest.raises(Shed) as caught:
        picker.pick(make_call())
    assert (caught.value.code, caught.value.status, caught.value.retry_after) == ("circuit_open", 503, 3.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lone_target_is_picked_again_and_again(kind: str) -> None:
    a = FakeTarget("a")
    assert names(of(kind, [a]), 3, a) == "aaa"


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_uses_all_targets_once_they_are_busy(kind: str) -> None:
    targets = [FakeTarget("a"), FakeTarget("b"), FakeTarget("c")]
    dice = Dice()
    picker = of(kind, targets, dice=dice)
    for number in range(30):
        dice.falls = number % 10 / 10
        call = make_call()
        call.path = b"%d" % number
        name = picker.pick(call).name
        next(target for target in targets if target.name == name).busy += 1
    assert min(target.busy for target in targets) >= 5


def test_an_unknown_way_is_a_mistake_and_so_is_a_hash_of_nothing() -> None:
    for kind in ("fastest", "hash"):
        with pytest.raises(ValueError, match="no way of balancing"):
            picker(kind, [], clock=Clock(), dice=Dice())


# The fewest requests


def test_the_target_with_the_fewest_requests_for_its_weight_is_next() -> None:
    a, b = FakeTarget("a"), FakeTarget("b")
    picker = of("least_requests", [a, b], [3, 1])
    a.busy, b.busy = 4, 2
    assert names(picker, 1) == "a"
    a.busy, b.busy = 4, 1
    assert names(picker, 1) == "b"


def test_targets_with_equally_few_requests_take_turns_by_weight() -> None:
    assert Counter(names(of("least_requests", [FakeTarget("a"), FakeTarget("b")], [3, 1]), 8)) == {"a": 6, "b": 2}


# Two random choices


@pytest.mark.parametrize(("falls", "idle"), [(0.0, "a"), (0.74, "a"), (0.76, "b"), (1.0, "b")])
def test_of_two_drawn_targets_the_first_is_taken_when_both_are_idle(falls: float, idle: str) -> None:
    assert names(of("random", [FakeTarget("a"), FakeTarget("b")], [3, 1], Dice(falls)), 1) == idle


def test_of_two_drawn_targets_the_less_busy_is_taken() -> None:
    a, b, c = FakeTarget("a"), FakeTarget("b"), FakeTarget("c")
    a.busy, b.busy, c.busy = 5, 4, 0
    assert names(of("random", [a, b, c], dice=Dice(0.0)), 1) == "b"  # a and b were drawn, c was not
    assert names(of("random", [a, b, c], [1, 1, 9], dice=Dice(0.5)), 1) == "c"
