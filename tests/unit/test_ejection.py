from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.resilience.ejection import MOST_TIMES, Ejection
from gateway.resilience.verdict import Verdict
from gateway.upstream.standing import Standing
from tests.fakes import Clock, FakeTarget

SUCCESS, FAILURE, NEUTRAL = Verdict.SUCCESS, Verdict.FAILURE, Verdict.NEUTRAL


class Upstream:
    """Some targets, and an ejection of three failures in a row, for 30 s, that watches them."""

    def __init__(self, targets: int, max_share: float = 0.5) -> None:
        self.clock = Clock()
        self.told: list[tuple[str, float]] = []
        self.ejection = Ejection(
            consecutive_failures=3,
            duration=30.0,
            max_share=max_share,
            clock=self.clock,
            on_eject=lambda target, seconds: self.told.append((target.name, seconds)),
        )
        self.targets = [FakeTarget(str(number)) for number in range(targets)]
        self.standings = [Standing() for _ in self.targets]
        for target, standing in zip(self.targets, self.standings, strict=True):
            self.ejection.watch(target, standing)

    def hear(self, number: int, *verdicts: Verdict) -> None:
        for verdict in verdicts:
            self.ejection.heard(self.targets[number], verdict)

    def out(self) -> list[int]:
        """The targets that are set aside."""
        return [n for n, standing in enumerate(self.standings) if self.clock() < standing.ejected_until]

    def eject(self, number: int) -> float:
        """Fail until it is ejected; returns for how long."""
        self.hear(number, *[FAILURE] * 3)
        assert number in self.out()
        return self.standings[number].ejected_until - self.clock()


def test_failures_in_a_row_set_a_target_aside_for_a_while() -> None:
    upstream = Upstream(3)
    upstream.hear(1, FAILURE, FAILURE)
    assert upstream.out() == []
    upstream.hear(1, FAILURE)
    assert upstream.out() == [1]
    assert upstream.told == [("1", 30.0)]
    upstream.clock.advance(29.9)
    assert upstream.out() == [1]
    upstream.clock.advance(0.1)
    assert upstream.out() == []
    assert upstream.standings[1].since == upstream.clock(), "it is warmed up anew"


def test_a_success_begins_the_count_again_and_a_neutral_outcome_does_not() -> None:
    upstream = Upstream(3)
    upstream.hear(1, FAILURE, FAILURE, SUCCESS, FAILURE, FAILURE, NEUTRAL, NEUTRAL, NEUTRAL)
    assert upstream.out() == []
    upstream.hear(1, FAILURE)
    assert upstream.out() == [1]


def test_targets_are_counted_apart() -> None:
    upstream = Upstream(3)
    upstream.hear(0, FAILURE, FAILURE)
    upstream.hear(1, FAILURE, FAILURE)
    upstream.hear(2, SUCCESS)
    upstream.hear(0, SUCCESS)
    upstream.hear(1, FAILURE)
    assert upstream.out() == [1]


def test_the_only_target_is_never_set_aside() -> None:
    upstream = Upstream(1, max_share=1.0)
    upstream.hear(0, *[FAILURE] * 50)
    assert (upstream.out(), upstream.told) == ([], [])


def test_of_two_targets_one_may_go_even_if_that_is_more_than_the_share() -> None:
    upstream = Upstream(2, max_share=0.1)
    upstream.hear(0, *[FAILURE] * 3)
    upstream.hear(1, *[FAILURE] * 3)
    assert upstream.out() == [0]


@pytest.mark.parametrize(
    ("targets", "share", "out"), [(4, 0.5, 2), (5, 0.5, 2), (10, 0.3, 3), (100, 0.29, 29), (9, 0.1, 1), (4, 1.0, 3)]
)
def test_never_more_than_the_share_is_out_at_once_nor_all(targets: int, share: float, out: int) -> None:
    upstream = Upstream(targets, share)
    for number in range(targets):
        upstream.hear(number, *[FAILURE] * 3)
    assert upstream.out() == list(range(out))


def test_the_last_usable_target_stays_when_probes_found_the_others_ill() -> None:
    upstream = Upstream(4)
    for standing in upstream.standings[1:]:
        standing.found(healthy=False, now=upstream.clock())
    upstream.hear(0, *[FAILURE] * 50)
    assert upstream.out() == []
    upstream.standings[3].found(healthy=True, now=upstream.clock())
    upstream.hear(0, FAILURE)
    assert upstream.out() == [0]


def test_who_had_to_stay_goes_with_its_next_failure_once_there_is_room() -> None:
    upstream = Upstream(2)
    upstream.eject(0)
    upstream.hear(1, *[FAILURE] * 5)
    upstream.clock.advance(30.0)
    upstream.hear(1, FAILURE)
    assert upstream.out() == [1]


def test_what_ends_while_a_target_is_out_does_not_count() -> None:
    upstream = Upstream(2)
    upstream.eject(0)
    upstream.hear(0, *[FAILURE] * 10)
    upstream.clock.advance(30.0)
    upstream.hear(0, FAILURE, FAILURE)
    assert upstream.out() == []
    assert upstream.told == [("0", 30.0)]


def test_each_ejection_in_a_row_takes_longer_up_to_ten_times() -> None:
    upstream, lengths = Upstream(2), []
    for _ in range(12):
        lengths.append(upstream.eject(0))
        upstream.clock.advance(lengths[-1])
    assert lengths == [30.0 * n for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10)]
    assert [seconds for _, seconds in upstream.told] == lengths


def test_each_such_time_without_trouble_takes_one_ejection_off_the_count() -> None:
    upstream = Upstream(2)
    for _ in range(4):
        upstream.clock.advance(upstream.eject(0))
    upstream.clock.advance(29.9)
    upstream.clock.advance(upstream.eject(0))
    assert upstream.told[-1] == ("0", 150.0), "29.9 s are no 30 s"
    upstream.clock.advance(60.0)
    assert upstream.eject(0) == 120.0, "5 times, 2 came off, and this one"
    upstream.clock.advance(120.0 + 3600.0)
    assert upstream.eject(0) == 30.0


def test_a_target_that_vanished_is_neither_counted_nor_ejected_and_begins_anew() -> None:
    upstream = Upstream(3)
    gone, standing = upstream.targets[0], upstream.standings[0]
    upstream.clock.advance(upstream.eject(0))
    upstream.hear(0, FAILURE, FAILURE)
    upstream.ejection.forget(gone)
    upstream.hear(0, *[FAILURE] * 10)
    assert len(upstream.told) == 1
    upstream.ejection.watch(gone, standing)
    upstream.hear(0, FAILURE, FAILURE)
    assert standing.usable(upstream.clock())
    upstream.hear(0, FAILURE)
    assert standing.ejected_until == upstream.clock() + 30.0


def test_forgotten_targets_make_room_no_more() -> None:
    upstream = Upstream(2)
    upstream.ejection.forget(upstream.targets[1])
    upstream.ejection.forget(upstream.targets[1])
    upstream.hear(0, *[FAILURE] * 10)
    assert upstream.out() == [], "it is the only one now"


def test_nobody_needs_to_listen() -> None:
    clock, standing = Clock(), Standing()
    ejection = Ejection(consecutive_failures=1, duration=5.0, max_share=0.5, clock=clock)
    bad = FakeTarget("bad")
    ejection.watch(bad, standing)
    ejection.watch(FakeTarget("good"), Standing())
    ejection.heard(bad, FAILURE)
    assert not standing.usable(clock())


STEPS = st.tuples(st.integers(0, 5), st.sampled_from(Verdict), st.sampled_from([0.0, 1.0, 31.0]))


@given(st.lists(STEPS, max_size=120), st.integers(1, 6), st.floats(0.01, 1.0))
def test_whatever_happens_the_share_is_kept_and_somebody_is_left(
    steps: list[tuple[int, Verdict, float]], targets: int, share: float
) -> None:
    upstream = Upstream(targets, share)
    for number, verdict, pause in steps:
        upstream.clock.advance(pause)
        upstream.hear(number % targets, *[verdict] * 2)
        assert len(upstream.out()) <= min(max(1, share * targets + 1e-6), targets - 1)
        for standing in upstream.standings:
            assert standing.ejected_until <= upstream.clock() + 30.0 * MOST_TIMES
