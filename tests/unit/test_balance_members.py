"""Who is eligible: standings, panic, slow start, priorities, and what stays when members are replaced."""

from collections import Counter

import pytest

from gateway.errors import Shed
from gateway.resilience.verdict import Verdict
from gateway.upstream.balance import Picker, picker
from gateway.upstream.members import Member
from gateway.upstream.standing import Standing
from tests.fakes import Clock, Dice, FakeTarget, make_call
from tests.unit.test_balance import breaker, having_tried, names, opened


def member(name: str, *, weight: int = 1, priority: int = 0, standing: Standing | None = None) -> Member:
    return Member(FakeTarget(name), weight, priority, standing)


def ill() -> Standing:
    standing = Standing()
    standing.found(healthy=False, now=0.0)
    return standing


def ejected(until: float) -> Standing:
    standing = Standing()
    standing.eject(until)
    return standing


def round_robin(
    *members: Member, clock: Clock | None = None, dice: Dice | None = None, panic: float = 0.0, slow_start: float = 0.0
) -> Picker:
    return picker(
        "round_robin", members, clock=clock or Clock(), dice=dice or Dice(), panic=panic, slow_start=slow_start
    )


def refusal(picker: Picker) -> tuple[str, int, float]:
    with pytest.raises(Shed) as caught:
        picker.pick(make_call())
    return caught.value.code, caught.value.status, caught.value.retry_after


# Circuits


def test_when_most_circuits_are_open_they_are_tried_early() -> None:
    clock = Clock()
    targets = [Member(FakeTarget(name, opened(clock))) for name in "ab"]
    chosen = round_robin(*targets, member("c"), clock=clock, panic=0.5)
    clock.advance(0.4)
    assert names(chosen, 3) == "ccc"
    clock.advance(0.2)
    assert Counter(names(chosen, 3)) == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize(("well", "panic"), [("bc", 0.5), ("b", 0.5), ("", 0.0)])
def test_while_others_can_stand_in_or_without_panic_a_circuit_stays_open_for_its_time(well: str, panic: float) -> None:
    clock = Clock()
    chosen = round_robin(Member(FakeTarget("a", opened(clock))), *map(member, well), clock=clock, panic=panic)
    clock.advance(9.9)
    if well:
        assert "a" not in names(chosen, 6)
    else:
        assert refusal(chosen)[0] == "circuit_open"


def test_a_circuit_that_all_share_or_that_is_the_only_one_is_not_tried_early() -> None:
    clock = Clock()
    shared, own = opened(clock), opened(clock)
    all_of_one = round_robin(*(Member(FakeTarget(name, shared)) for name in "ab"), clock=clock, panic=0.5)
    alone = round_robin(Member(FakeTarget("a", own), standing=Standing()), clock=clock, panic=0.5)
    clock.advance(9.9)
    for chosen in (all_of_one, alone):
        assert refusal(chosen) == ("circuit_open", 503, pytest.approx(0.1))


def test_the_caller_learns_that_all_are_tried_early() -> None:
    clock = Clock()
    chosen = round_robin(*(Member(FakeTarget(name, opened(clock))) for name in "ab"), clock=clock, panic=0.5)
    assert refusal(chosen) == ("circuit_open", 503, pytest.approx(0.5))


# Standings


def test_an_ill_target_and_one_set_aside_are_passed_over() -> None:
    clock = Clock()
    picker = round_robin(
        member("a", standing=ill()), member("b", standing=ejected(clock.now + 5)), member("c"), clock=clock
    )
    assert names(picker, 3) == "ccc"
    clock.advance(5.0)
    assert Counter(names(picker, 4)) == {"b": 2, "c": 2}


def test_when_all_are_ill_nothing_is_sent() -> None:
    assert refusal(round_robin(member("a", standing=ill()))) == ("no_healthy_target", 503, 1.0)
    assert refusal(round_robin(member("a", standing=ill()), member("b", standing=ill())))[0] == "no_healthy_target"


def test_when_all_are_set_aside_the_caller_learns_when_the_first_comes_back() -> None:
    clock = Clock()
    standings = [ejected(clock.now + 7), ejected(clock.now + 4), ill()]
    picker = round_robin(*(member(str(n), standing=standing) for n, standing in enumerate(standings)), clock=clock)
    assert refusal(picker) == ("no_healthy_target", 503, 4.0)


def test_when_the_only_well_target_has_an_open_circuit_the_circuit_is_the_reason() -> None:
    clock = Clock()
    picker = round_robin(member("a", standing=ill()), Member(FakeTarget("b", opened(clock))), clock=clock)
    assert refusal(picker) == ("circuit_open", 503, 10.0)


def test_too_few_well_targets_and_standings_are_no_longer_believed() -> None:
    standings = [ill(), ill(), Standing(), Standing()]
    picker = round_robin(*(member("abcd"[n], standing=standing) for n, standing in enumerate(standings)), panic=0.5)
    assert set(names(picker, 8)) == {"c", "d"}
    standings[2].found(healthy=False, now=0.0)
    assert set(names(picker, 8)) == {"a", "b", "c", "d"}


def test_a_panic_does_not_open_circuits() -> None:
    clock = Clock()
    a = Member(FakeTarget("a", opened(clock)), 1, 0, ill())
    picker = round_robin(a, member("b", standing=ill()), clock=clock, panic=0.5)
    assert names(picker, 3) == "bbb"


def test_with_panic_allowed_an_ill_target_is_better_than_an_open_circuit() -> None:
    clock = Clock()
    picker = round_robin(member("a", standing=ill()), Member(FakeTarget("b", opened(clock))), clock=clock, panic=0.5)
    assert names(picker, 2) == "aa"


def test_a_group_that_is_well_keeps_an_ill_one_from_panicking() -> None:
    members = [member(name, standing=ill()) for name in "abc"] + [member("d", priority=1, standing=Standing())]
    assert names(round_robin(*members, panic=0.5), 4) == "dddd"


def test_a_target_that_is_well_again_while_it_is_set_aside_begins_when_it_may_be_asked() -> None:
    standing = ejected(50.0)
    standing.found(healthy=False, now=10.0)
    standing.found(healthy=True, now=20.0)
    assert (standing.since, standing.usable(49.0), standing.usable(50.0)) == (50.0, False, True)
    standing.found(healthy=True, now=60.0)
    assert standing.since == 50.0  # no news


# Slow start


@pytest.mark.parametrize(("age", "expected"), [(0.0, 9), (5.0, 50), (9.0, 90), (10.0, 100)])
def test_a_target_that_came_back_gets_more_and_more(age: float, expected: int) -> None:
    clock = Clock()
    picker = round_robin(
        member("a", standing=Standing()), member("b", standing=Standing(since=clock.now)), clock=clock, slow_start=10.0
    )
    clock.advance(age)
    counts = Counter(names(picker, 200))
    share = max(0.1, age / 10)
    assert counts["b"] == pytest.approx(200 * share / (1 + share), abs=2)
    assert counts["b"] / counts["a"] * 100 == pytest.approx(expected, abs=3)


def test_without_slow_start_a_target_that_came_back_is_as_good_as_the_others() -> None:
    clock = Clock()
    picker = round_robin(member("a"), member("b", standing=Standing(since=clock.now)), clock=clock)
    assert Counter(names(picker, 10)) == {"a": 5, "b": 5}


# Priorities


def test_the_lowest_number_gets_everything_while_it_is_well() -> None:
    picker = round_robin(member("c", priority=7), member("a"), member("b"), dice=Dice(1.0))
    assert Counter(names(picker, 4)) == {"a": 2, "b": 2}


@pytest.mark.parametrize(
    ("well", "falls", "expected"), [(3, 1.0, "abc"), (2, 0.69, "ab"), (2, 0.71, "d"), (1, 0.34, "a"), (1, 0.36, "d")]
)
def test_a_group_of_which_a_part_is_ill_keeps_1_4_times_the_rest(well: int, falls: float, expected: str) -> None:
    group = [member("abcd"[n], standing=Standing() if n < well else ill()) for n in range(4)]
    group[3] = member("x", standing=ill())
    picker = round_robin(*group, member("d", priority=1), dice=Dice(falls))
    assert set(names(picker, 6)) == set(expected)


def test_two_groups_that_are_both_half_ill_share_in_proportion() -> None:
    def half(name: str, priority: int) -> list[Member]:
        ills = [member(name + str(n), priority=priority, standing=ill()) for n in range(3)]
        return [member(name, priority=priority, standing=Standing()), *ills]

    dice = Dice(0.49)  # both could take 0.35
    picker = round_robin(*half("a", 0), *half("b", 1), dice=dice)
    assert names(picker, 1) == "a"
    dice.falls = 0.51
    assert names(picker, 1) == "b"


def test_a_group_without_anybody_leaves_all_to_the_next() -> None:
    clock = Clock()
    picker = round_robin(Member(FakeTarget("a", opened(clock))), member("b", priority=1), clock=clock)
    assert names(picker, 3) == "bbb"


def test_a_call_that_has_tried_a_whole_group_goes_to_the_next_and_then_begins_anew() -> None:
    a, b, c = member("a"), member("b"), member("c", priority=1)
    picker = round_robin(a, b, c, dice=Dice(0.0))
    assert names(picker, 2, a.target) == "bb"
    assert names(picker, 2, a.target, b.target) == "cc"
    assert set(names(picker, 4, a.target, b.target, c.target)) == {"a", "b"}


# Replacing members


def test_an_upstream_without_targets_says_that_nothing_is_there() -> None:
    picker = round_robin()
    assert refusal(picker) == ("no_healthy_target", 503, 1.0)
    assert not picker.elsewhere(make_call())


def test_targets_come_and_go_and_the_turn_goes_on() -> None:
    picker = round_robin(member("a"), member("b"), member("c"))
    assert names(picker, 1) == "a"
    picker.replace([member("b"), member("c"), member("d")])
    assert Counter(names(picker, 6)) == {"b": 2, "c": 2, "d": 2}
    picker.replace([member("d")])
    assert names(picker, 2) == "dd"
    picker.replace([])
    assert refusal(picker)[0] == "no_healthy_target"


def test_a_known_target_keeps_its_counters_and_takes_new_settings() -> None:
    old, target = member("a"), FakeTarget("a")
    picker = round_robin(old, member("b"))
    old.unanswered, old.cost, old.credit = 2, 0.5, 1
    picker.replace([Member(target, 3, 1, standing := Standing()), member("b", priority=1)])
    kept = picker.members.seats[target]
    assert (kept.unanswered, kept.cost, kept.credit) == (2, 0.5, 1)
    assert (kept.weight, kept.share, kept.priority, kept.standing) == (3, 3, 1, standing)
    assert Counter(names(picker, 8))["a"] == 6


def test_the_same_target_twice_is_one_member() -> None:
    assert len(round_robin(member("a"), member("a"), member("b")).members.all) == 2


# Elsewhere


def test_there_is_somewhere_else_only_if_somebody_new_would_take_the_try() -> None:
    clock = Clock()
    a, b = FakeTarget("a"), FakeTarget("b", breaker(clock))
    standing = Standing()
    picker = round_robin(Member(a), Member(b, 1, 0, standing), clock=clock)
    assert picker.elsewhere(having_tried(a))
    assert not picker.elsewhere(having_tried(a, b))
    standing.eject(clock.now + 1)
    assert not picker.elsewhere(having_tried(a))
    clock.advance(1.0)
    b.circuit.admit().settle(Verdict.FAILURE)
    assert not picker.elsewhere(having_tried(a))
    assert picker.elsewhere(having_tried(b))


def test_a_lone_target_has_nobody_beside_it_and_open_circuits_are_nowhere_to_go() -> None:
    clock = Clock()
    assert not round_robin(member("a")).elsewhere(make_call())
    both = [Member(FakeTarget(name, opened(clock))) for name in "ab"]
    assert not round_robin(*both, clock=clock).elsewhere(make_call())
