"""The meaning of a rate, by example; its laws are in properties/."""

import pytest

from gateway.limits.gcra import rate
from gateway.limits.meter import TICKS


def passing(limit: int, window: float, burst: int | None, now: int = 0, tat: int = 0) -> tuple[int, int]:
    """How many requests pass at one instant, and the TAT afterwards."""
    some, count = rate("p", limit, window, burst), 0
    while True:
        tat, quota = some.take(tat, now, 1)
        if not quota.allowed:
            return count, tat
        count += 1


def test_the_burst_passes_at_once_from_idle_then_the_rate_is_even() -> None:
    some = rate("p", 100, 60.0, burst=20)
    count, tat = passing(100, 60.0, 20)
    assert count == 20
    every = 6 * TICKS // 10  # 60 s / 100
    assert not some.take(tat, every - 1, 1)[1].allowed
    tat, quota = some.take(tat, every, 1)
    assert quota.allowed
    assert not some.take(tat, every, 1)[1].allowed


def test_without_a_burst_the_whole_limit_passes_at_once() -> None:
    assert passing(100, 60.0, None)[0] == 100
    assert passing(1, 60.0, None)[0] == 1


@pytest.mark.parametrize("limit", [1, 3, 7, 9, 77, 1000, 99_999])
def test_odd_rates_count_exactly(limit: int) -> None:
    assert passing(limit, 1.0, None)[0] == limit
    assert passing(limit, 86_400.0, None)[0] == limit


def test_e5_a_window_sees_at_most_the_burst_and_the_limit() -> None:
    some, tat, count = rate("p", 10, 10.0), 0, 0
    for now in range(0, 10 * TICKS, TICKS // 10):
        tat, quota = some.take(tat, now, 1)
        count += quota.allowed
    assert count == 10 + 9  # the burst at once, then one each second


def test_a_quota_says_what_is_left_and_when_all_is_back() -> None:
    tat, quota = rate("p", 100, 60.0).take(0, 0, 1)
    assert quota == (True, "p", 100, 60.0, 99, 0.6, 0.0)
    tat, quota = rate("p", 100, 60.0).take(tat, 0, 99)
    assert quota == (True, "p", 100, 60.0, 0, 60.0, 0.0)
    _, quota = rate("p", 100, 60.0).take(tat, 6 * TICKS // 10 - 1, 1)
    assert quota == (False, "p", 100, 60.0, 0, 59.4000001, 1e-7)


def test_a_cost_above_the_burst_never_passes() -> None:
    assert not rate("p", 100, 60.0, burst=2).take(0, 0, 3)[1].allowed


def test_a_smaller_rate_does_not_lock_out_who_spent_under_the_larger() -> None:
    _, tat = passing(10, 86_400.0, None)
    some = rate("p", 10, 1.0)
    tat, quota = some.take(tat, 0, 1)
    assert quota.retry_after == pytest.approx(0.1)
    assert some.take(tat, TICKS // 10, 1)[1].allowed  # after so long, and not a day later


def test_a_cost_of_0_asks_and_takes_nothing() -> None:
    some = rate("p", 10, 10.0)
    tat, _ = some.take(0, 0, 4)
    assert some.take(tat, 0, 0) == (tat, (True, "p", 10, 10.0, 6, 4.0, 0.0))
    tat, _ = some.take(tat, 0, 6)
    assert some.take(tat, 0, 0) == (tat, (True, "p", 10, 10.0, 0, 10.0, 0.0))


def test_what_is_given_back_is_there_again_and_never_more() -> None:
    some = rate("p", 10, 10.0)
    tat, _ = some.take(0, 0, 10)
    tat, quota = some.take(tat, 0, -3)
    assert (quota.allowed, quota.remaining, quota.reset_after) == (True, 3, 7.0)
    tat, quota = some.take(tat, 0, -100)
    assert (quota.allowed, quota.remaining, quota.reset_after) == (True, 10, 0.0)


@pytest.mark.parametrize(
    ("limit", "window", "burst"),
    [(0, 1.0, None), (-1, 1.0, None), (1, 0.0, None), (1, float("inf"), None), (1, 1.0, 0), (20_000_000, 1.0, 1)],
)
def test_an_impossible_rate_is_an_error_at_once(limit: int, window: float, burst: int | None) -> None:
    with pytest.raises(ValueError, match="rate"):
        rate("p", limit, window, burst)
