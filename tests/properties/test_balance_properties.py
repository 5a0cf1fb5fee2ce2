"""Laws of balancing: what may move when a target comes or goes, and what no history of a set of members can break."""

from collections import Counter
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Shed
from gateway.upstream.balance import Picker, picker
from gateway.upstream.members import Member
from gateway.upstream.standing import Standing
from tests.fakes import Clock, Dice, FakeTarget, make_call
from tests.unit.test_balance import KINDS, opened

WEIGHTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 9), min_size=2)
KEYS = [b"%d" % number for number in range(200)]


def by_path(weights: dict[str, int]) -> Picker:
    members = [Member(FakeTarget(name), weight) for name, weight in weights.items()]
    return picker("hash", members, clock=Clock(), dice=Dice(), key_of=lambda call: call.path)


def owners(picker: Picker) -> dict[bytes, str]:
    found = {}
    for key in KEYS:
        call = make_call()
        call.path = key
        found[key] = picker.pick(call).name
    return found


@given(WEIGHTS, st.data())
def test_only_the_keys_of_a_target_that_goes_move_and_they_come_back_with_it(
    weights: dict[str, int], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(sorted(weights)))
    picker = by_path(weights)
    before = owners(picker)
    picker.replace([Member(FakeTarget(name), weight) for name, weight in weights.items() if name != gone])
    without = owners(picker)
    assert {key for key in KEYS if before[key] != without[key]} == {key for key in KEYS if before[key] == gone}
    picker.replace([Member(FakeTarget(name), weight) for name, weight in reversed(weights.items())])
    assert owners(picker) == before


@given(WEIGHTS, st.data())
def test_a_heavier_target_only_gains_keys(weights: dict[str, int], data: st.DataObject) -> None:
    heavier = data.draw(st.sampled_from(sorted(weights)))
    before = owners(by_path(weights))
    after = owners(by_path(weights | {heavier: weights[heavier] + data.draw(st.integers(1, 9))}))
    assert {after[key] for key in KEYS if before[key] != after[key]} <= {heavier}


@given(WEIGHTS, st.lists(st.sampled_from(KEYS[:3]), max_size=60))
def test_no_target_exceeds_the_bound_however_hot_the_keys(weights: dict[str, int], keys: list[bytes]) -> None:
    targets = {name: FakeTarget(name) for name in weights}
    members = [Member(targets[name], weight) for name, weight in weights.items()]
    hashing = picker("hash", members, clock=Clock(), dice=Dice(), key_of=lambda call: call.path)
    for number, key in enumerate(keys, 1):
        call = make_call()
        call.path = key
        name = hashing.pick(call).name
        targets[name].busy += 1
        assert targets[name].busy <= ceil(1.25 * number * weights[name] / sum(weights.values()))


STATES = st.tuples(st.sampled_from(["ready", "open"]), st.sampled_from([None, "well", "ill", "ejected"]), st.booleans())


@pytest.mark.parametrize("kind", KINDS)
@given(
    states=st.lists(STATES, max_size=5),
    priorities=st.lists(st.integers(0, 2), min_size=5, max_size=5),
    tried=st.sets(st.integers(0, 4)),
    panic=st.sampled_from([0.0, 0.5, 1.0]),
    falls=st.floats(0, 1),
)
def test_whatever_the_members_are_a_pick_is_admissible_or_refused_for_a_reason(
    kind: str,
    states: list[tuple[str, str | None, bool]],
    priorities: list[int],
    tried: set[int],
    panic: float,
    falls: float,
) -> None:
    clock, members = Clock(), []
    for number, (circuit, found, silent) in enumerate(states):
        target = FakeTarget(str(number), opened(clock)) if circuit == "open" else FakeTarget(str(number))
        member = Member(target, number + 1, priorities[number], Standing() if found else None)
        if member.standing is not None:
            member.standing.healthy = found != "ill"
            member.standing.ejected_until = clock.now + 9 * (found == "ejected")
        if silent:
            member.unanswered, member.first, member.last = 3, clock.now - 1, clock.now
        members.append(member)
    balancing = picker(kind, members, clock=clock, dice=Dice(falls), key_of=lambda call: b"k", panic=panic)
    call = make_call()
    call.tried += [member.target for number, member in enumerate(members) if number in tried]
    ready = [member for member in members if member.circuit.ready()]
    usable = [member for member in ready if member.usable(clock.now)]
    if not ready or (not usable and not panic):
        with pytest.raises(Shed) as caught:
            balancing.pick(call)
        assert caught.value.code in ("circuit_open", "no_healthy_target")
        assert caught.value.retry_after > 0
        assert not balancing.elsewhere(call)
        return
    picked = balancing.members.seats[balancing.pick(call)]
    assert picked in ready
    assert picked in usable or panic
    if picked.unanswered and len(states) > 1:
        others = [member for member in (usable if picked in usable and not panic else []) if not member.unanswered]
        assert not others
    if balancing.elsewhere(call):
        assert picked.target not in call.tried


@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.lists(st.integers(0, 3), max_size=30))
def test_after_any_comings_and_goings_turns_are_by_weight_again(weights: list[int], gone: list[int]) -> None:
    all_of = [Member(FakeTarget(str(n)), weight) for n, weight in enumerate(weights)]
    turns = picker("round_robin", all_of, clock=Clock(), dice=Dice())
    for index in gone:
        turns.replace([member for n, member in enumerate(all_of) if n != index] or all_of)
        turns.pick(make_call())
    turns.replace(all_of)
    rounds = 20
    counts = Counter(turns.pick(make_call()).name for _ in range(sum(weights) * rounds))
    for n, weight in enumerate(weights):
        assert abs(counts[str(n)] - weight * rounds) <= len(gone) * sum(weights)
