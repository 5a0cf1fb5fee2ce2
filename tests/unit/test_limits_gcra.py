"""The meaning of a rate, by example; its laws are in properties/."""

import pytest

from gateway.limits.gcra import TICKS, rate, take


def passing(limit: int, window: float, burst: int | None, now: int = 0, tat: int = 0) -> tuple[int, int]:
    """How many requests pass at one instant, and the TAT afterwards."""
    some, count = rate("p", limit, window, burst), 0
    while True:
        tat, quota = take(tat, now, some, 1)
        if not quota.allowed:
            return count, tat
        count += 1


def test_the_burst_passes_at_once_from_idle_then_the_rate_is_even() -> None:
    some = rate("p", 100, 60.0, burst=20)
    count, tat = passing(100, 60.0, 20)
    assert count == 20
    every = 6 * TICKS // 10  # 60 s / 100
    assert not take(tat, every - 1, some, 1)[1].allowed
    tat, quota = take(tat, every, some, 1)
    assert quota.allowed
    assert not take(tat, every, some, 1)[1].allowed


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
        tat, quota = take(tat, now, some, 1)
        count += quota.allowed
    assert count == 10 + 9  # the burst at once, then one each second


def test_a_quota_says_what_is_left_and_when_all_is_back() -> None:
    tat, quota = take(0, 0, rate("p", 100, 60.0), 1)
    assert quota == (True, "p", 100, 60.0, 99, 0.6, 0.0)
    tat, quota = take(tat, 0, rate("p", 100, 60.0), 99)
    assert quota == (True, "p", 100, 60.0, 0, 60.0, 0.0)
    _, quota = take(tat, 6 * TICKS // 10 - 1, rate("p", 100, 60.0), 1)
    assert quota == (False, "p", 100, 60.0, 0, 59.4000001, 1e-7)


def test_a_cost_above_the_burst_never_passes() -> None:
    assert not take(0, 0, rate("p", 100, 60.0, burst=2), 3)[1].allowed


def test_a_smaller_rate_does_not_lock_out_who_spent_under_the_larger() -> None:
    _, tat = passing(10, 86_400.0, None)
    assert take(tat, 0, rate("p", 10, 1.0), 1)[1].retry_after == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("limit", "window", "burst"),
    [(0, 1.0, None), (-1, 1.0, None), (1, 0.0, None), (1, float("inf"), None), (1, 1.0, 0), (20_000_000, 1.0, 1)],
)
def test_an_impossible_rate_is_an_error_at_once(limit: int, window: float, burst: int | None) -> None:
    with pytest.raises(ValueError, match="rate"):
        rate("p", limit, window, burst)
