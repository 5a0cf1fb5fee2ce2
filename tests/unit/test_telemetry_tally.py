import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.tally import PAGE, Cells, Counter, Counters, Histogram, Histograms

BOUNDS = (0.1, 1.0, 10.0)


def test_a_counter_adds_up():
    counter = Counter(Cells())
    counter.inc()
    counter.inc(2.5)
    assert counter.value == 3.5


def test_a_value_on_a_bound_belongs_below_it_as_prometheus_has_it():
    histogram = Histogram(Cells(), BOUNDS)
    for value in (0.1, 0.11, 1.0, 11.0):
        histogram.observe(value)
    assert histogram.counts == [1, 2, 0, 1]
    assert histogram.sum == pytest.approx(12.21)


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_every_observation_lands_in_exactly_one_bucket(values):
    histogram = Histogram(Cells(), BOUNDS)
    for value in values:
        histogram.observe(value)
    assert sum(histogram.counts) == len(values)
    for bound, at_most in zip(BOUNDS, (sum(histogram.counts[: n + 1]) for n in range(len(BOUNDS))), strict=True):
        assert at_most == sum(value <= bound for value in values)


def test_a_child_is_the_same_series_whenever_it_is_asked_for():
    counters = Counters(Cells())
    counters.child("GET", "200").inc()
    counters.child("GET", "200").inc()
    counters.child("GET", "404").inc()
    assert {labels: counter.value for labels, counter in counters} == {("GET", "200"): 2, ("GET", "404"): 1}


def test_no_two_series_share_a_cell_even_across_pages():
    cells = Cells()
    counters = Counters(cells)
    histograms = Histograms(cells, BOUNDS)
    count = PAGE // 2
    for n in range(count):
        counters.child(str(n)).inc(n)
        histograms.child(str(n)).observe(n)
    assert all(counter.value == int(labels[0]) for labels, counter in counters)
    assert all(histogram.sum == int(labels[0]) for labels, histogram in histograms)
    assert all(sum(histogram.counts) == 1 for _, histogram in histograms)


def test_series_may_appear_while_a_scrape_reads():
    counters = Counters(Cells())
    counters.child("first")
    for labels, _ in counters:
        counters.child(*labels, "and another")
    assert len(list(counters)) == 2


def test_bounds_that_do_not_increase_are_refused():
    with pytest.raises(ValueError, match="increase"):
        Histograms(Cells(), (1.0, 0.5))
