"""The meaning of a sliding window, by example; its laws are in properties/."""

import pytest

from gateway.exchange import Quota
from gateway.limits.meter import TICKS
from gateway.limits.sliding_window import STEPS, SlidingWindow

MINUTE = SlidingWindow("p", 100, 60.0)
START = 7 * 60 * TICKS
"""A window begins here."""


class Key:
    """One key, at a time that is told in seconds of its first window."""

    def __init__(self, meter: SlidingWindow = MINUTE) -> None:
        self.meter = meter
        self.state = 0

    def take(self, at: float, cost: int = 1) -> Quota:
        self.state, quota = self.meter.take(self.state, START + round(at * TICKS), cost)
        return quota

    def passing(self, at: float) -> int:
        """How many pass at this moment."""
        count = 0
        while self.take(at).allowed:
            count += 1
        return count


@pytest.mark.parametrize("at", [0.0, 12.3, 59.9999])
def test_the_whole_limit_passes_at_once_at_any_time_from_idle(at: float) -> None:
    assert Key().passing(at) == 100


def test_after_that_nothing_passes_until_the_window_ends_and_then_they_come_evenly() -> None:
    key = Key()
    assert key.passing(15) == 100
    assert key.passing(59.9999) == 0
    assert key.passing(60) == 0
    assert [key.passing(60 + 6 * n) for n in range(1, 10)] == [10] * 9
    assert key.passing(119.9999) == 9


def test_the_previous_window_counts_by_the_part_that_is_still_covered() -> None:
    key = Key()
    key.take(30, 80)
    assert key.take(60, 0).remaining == 20
    assert key.take(75, 0).remaining == 40
    assert key.take(105, 0).remaining == 80
    assert key.take(120, 0).remaining == 100


def test_e5_an_aligned_window_never_sees_more_than_the_limit_and_any_other_less_than_twice() -> None:
    key = Key()
    assert key.passing(59.9) == 100  # the worst that can come: all at the end of a window
    passed = [key.passing(60 + n / 10) for n in range(600)]
    assert sum(passed) == 99
    assert 100 + sum(passed[:598]) == 199  # from 59.9 to 119.8: within one window's length


def test_what_came_early_in_the_previous_window_is_counted_longer_than_in_a_log() -> None:
    key = Key()
    assert key.passing(0) == 100
    assert key.passing(90) == 50  # a log would have forgotten all hundred


def test_a_quota_says_what_is_left_and_when_all_is_back() -> None:
    key = Key()
    assert key.take(15, 0) == (True, "p", 100, 60.0, 100, 0.0, 0.0)
    assert key.take(15, 40) == (True, "p", 100, 60.0, 60, 105.0, 0.0)
    assert key.take(15, 61) == (False, "p", 100, 60.0, 60, 105.0, 46.5)


def test_a_refused_caller_hears_the_shortest_wait_within_this_window() -> None:
    key = Key()
    key.take(30, 90)
    key.take(60, 10)
    quota = key.take(60, 30)  # 10 + 30 and two thirds of the 90: at a third of this window
    assert (quota.allowed, quota.remaining) == (False, 0)
    assert quota.retry_after == pytest.approx(20.0, abs=1e-4)
    assert not key.take(79.999, 30).allowed
    assert key.take(60 + quota.retry_after, 30).allowed


def test_a_refused_caller_hears_the_shortest_wait_into_the_next_window() -> None:
    key = Key()
    key.take(15, 100)
    quota = key.take(15, 25)
    assert quota.retry_after == 45 + 15
    assert not key.take(74.999, 25).allowed
    assert key.take(75, 25).allowed


def test_a_cost_above_the_limit_never_passes() -> None:
    assert not Key().take(0, 101).allowed
    assert not Key().take(0, 1000).allowed


def test_what_is_given_back_is_there_again_and_never_more() -> None:
    key = Key()
    key.take(30, 80)
    key.take(60, 15)
    assert key.take(60, -5).remaining == 10
    assert key.take(60, -20).remaining == 30  # ten of this window, ten of the one before
    assert key.take(60, -1000) == (True, "p", 100, 60.0, 100, 0.0, 0.0)


def test_two_windows_of_idleness_forget_all() -> None:
    key = Key()
    key.take(0, 100)
    assert key.take(119.9999, 0).remaining == 99
    assert key.take(120, 0).remaining == 100
    key.take(0, 100)
    assert key.take(600, 0).remaining == 100


def test_a_clock_that_was_set_back_locks_nobody_out_for_longer_than_two_windows() -> None:
    key = Key()
    key.take(86_400, 100)
    quota = key.take(0, 1)
    assert not quota.allowed
    assert quota.retry_after <= 120
    assert key.take(quota.retry_after, 1).allowed


def test_a_shorter_window_does_not_lock_out_who_spent_under_the_longer() -> None:
    _, key = Key(SlidingWindow("p", 100, 86_400.0)), Key()
    key.state, _ = SlidingWindow("p", 100, 86_400.0).take(0, START, 100)
    quota = key.take(0, 1)
    assert quota.retry_after <= 120
    assert key.take(quota.retry_after, 1).allowed


def test_a_smaller_limit_holds_for_who_spent_under_the_larger() -> None:
    key = Key()
    key.take(0, 100)
    key.meter = SlidingWindow("p", 10, 60.0)
    quota = key.take(0, 1)
    assert (quota.allowed, quota.remaining, quota.retry_after) == (False, 0, pytest.approx(66.0))
    assert key.take(66.0, 1).allowed


@pytest.mark.parametrize("window", [1e-7, 0.001, 0.25, 1.0, 1.7, 30.0, 60.0, 86_400.0])
def test_a_window_is_a_whole_number_of_steps_and_hardly_longer_than_said(window: float) -> None:
    meter = SlidingWindow("p", 5, window)
    assert meter.steps <= STEPS
    assert meter.length == meter.steps * meter.step
    assert 0 <= meter.length - window * TICKS <= max(1, window * TICKS / 1e6)


@pytest.mark.parametrize(
    ("limit", "window"), [(0, 1.0), (-1, 1.0), (2**30, 1.0), (1, 0.0), (1, 1e-8), (1, float("inf")), (1, float("nan"))]
)
def test_an_impossible_window_is_an_error_at_once(limit: int, window: float) -> None:
    with pytest.raises(ValueError, match="sliding window"):
        SlidingWindow("p", limit, window)
