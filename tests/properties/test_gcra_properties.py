"""The arithmetic of GCRA against a plain model; what holds for all meters is in test_meter_properties."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import Quota
from gateway.limits.gcra import Rate, rate
from gateway.limits.meter import TICKS

rates = st.builds(
    rate,
    policy=st.just("p"),
    limit=st.integers(1, 100_000),
    window=st.sampled_from([0.1, 1.0, 30.0, 60.0, 3600.0, 86_400.0]),
    burst=st.none() | st.integers(1, 50),
)
gaps = st.integers(0, 100 * TICKS) | st.integers(0, 100)


def quotas(rate: Rate, arrivals: list[int], cost: int = 1) -> list[tuple[int, Quota]]:
    """The answer to a request after each of these gaps."""
    tat, now, given = 0, 5 * TICKS, []
    for gap in arrivals:
        now += gap
        tat, quota = rate.take(tat, now, cost)
        given.append((now, quota))
    return given


@given(rates, st.lists(gaps, max_size=60))
def test_it_is_a_leaky_bucket(rate: Rate, arrivals: list[int]) -> None:
    """The model: a bucket of `burst` units that loses one per interval, in exact fractions."""
    level, last = Fraction(0), 0
    for now, quota in quotas(rate, arrivals):
        level = max(Fraction(0), level - Fraction(now - last, rate.interval))
        last = now
        fits = level + 1 <= rate.burst
        level += fits
        assert quota.allowed == fits
        assert quota.remaining == int(rate.burst - level)
        assert quota.reset_after == pytest.approx(float(level * rate.interval / TICKS))


@given(rates, st.lists(st.integers(0, TICKS // 10), min_size=1, max_size=200), st.data())
def test_no_stretch_of_time_sees_more_than_its_share_and_a_burst(
    rate: Rate, gaps: list[int], data: st.DataObject
) -> None:
    passed = [now for now, quota in quotas(rate, gaps) if quota.allowed]
    if not passed:
        return
    first = data.draw(st.integers(0, len(passed) - 1))
    last = data.draw(st.integers(first, len(passed) - 1))
    share = (passed[last] - passed[first]) / TICKS / rate.window * rate.limit
    assert last - first + 1 <= rate.burst + share + 1e-6


@given(rates, st.lists(gaps, min_size=1, max_size=40))
def test_retry_after_is_the_first_moment_at_which_one_more_passes(rate: Rate, arrivals: list[int]) -> None:
    tat, now = 0, 0
    for gap in arrivals:
        now += gap
        tat, quota = rate.take(tat, now, 1)
    while quota.allowed:
        tat, quota = rate.take(tat, now, 1)
        if rate.burst > 1000:
            return
    wait = round(quota.retry_after * TICKS)
    assert wait > 0
    assert not rate.take(tat, now + wait - 1, 1)[1].allowed
    assert rate.take(tat, now + wait, 1)[1].allowed


@given(rates, st.lists(gaps, max_size=40), st.integers(1, 40))
def test_e6_refusals_change_nothing(rate: Rate, arrivals: list[int], hammering: int) -> None:
    tat, now = 0, 0
    for gap in arrivals:
        now += gap
        before = tat
        tat, quota = rate.take(tat, now, 1)
        for _ in range(0 if quota.allowed else hammering):
            assert rate.take(tat, now, 1) == (before, quota)


@given(rates, st.integers(0, 2**52), st.integers(0, 2**52))
def test_no_clock_that_was_set_back_locks_out_for_longer_than_the_limit(rate: Rate, tat: int, now: int) -> None:
    _, quota = rate.take(tat, now, 1)
    assert quota.reset_after <= rate.depth / TICKS
    assert quota.retry_after <= rate.interval / TICKS
    assert 0 <= quota.remaining <= rate.burst
