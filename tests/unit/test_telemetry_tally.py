import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.tally import PAGE, Cells, Children, Counter, Family, Gauges, Histogram

BOUNDS = (0.1, 1.0, 10.0)


def a_counter():
    return Counter(Cells(), "a_total", ())


def a_histogram(cells=None, labels=()):
    return Histogram(cells or Cells(), "a_seconds", labels, BOUNDS)


def counters(cells):
    return Children(lambda labels: Counter(cells, "a_total", labels))


def test_a_counter_adds_up():
    counter = a_counter()
    counter.inc()
    counter.inc(2.5)
    assert counter.value == 3.5
    assert counter.values == [3.5]


def test_a_value_on_a_bound_belongs_below_it_as_prometheus_has_it():
    histogram = a_histogram()
    for value in (0.1, 0.11, 1.0, 11.0):
        histogram.observe(value)
    assert histogram.counts == [1, 2, 0, 1]
    assert histogram.sum == pytest.approx(12.21)


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_every_observation_lands_in_exactly_one_bucket(values):
    histogram = a_histogram()
    for value in values:
        histogram.observe(value)
    assert sum(histogram.counts) == len(values)
    for bound, at_most in zip(BOUNDS, (sum(histogram.counts[: n + 1]) for n in range(len(BOUNDS))), strict=True):
        assert at_most == sum(value <= bound for value in values)


def test_a_child_is_the_same_series_whenever_it_is_asked_for():
    children = counters(Cells())
    children.child("GET", "200").inc()
    children.child("GET", "200").inc()
    children.child("GET", "404").inc()
    assert {labels: counter.value for labels, counter in children} == {("GET", "200"): 2, ("GET", "404"): 1}


def test_no_two_series_share_a_cell_even_across_pages():
    cells = Cells()
    children = counters(cells)
    histograms = Children(lambda labels: a_histogram(cells, labels))
    count = PAGE // 2
    for n in range(count):
        children.child(str(n)).inc(n)
        histograms.child(str(n)).observe(n)
    assert all(counter.value == int(labels[0]) for labels, counter in children)
    assert all(histogram.sum == int(labels[0]) for labels, histogram in histograms)
    assert all(sum(histogram.counts) == 1 for _, histogram in histograms)


def test_series_may_appear_while_a_scrape_reads():
    children = counters(Cells())
    children.child("first")
    for labels, _ in children:
        children.child(*labels, "and another")
    assert len(list(children)) == 2


def test_a_gauge_that_was_never_set_says_nothing():
    gauges = Gauges(Cells(), "a")
    gauges.replace({})
    assert list(gauges) == []
    assert math.isnan(Cells().claim("a", (), 1, math.nan)[0][0])


def test_gauges_are_replaced_as_a_whole():
    gauges = Gauges(Cells(), "a")
    gauges.replace({("x",): 1.0, ("y",): 2.0})
    gauges.replace({("y",): 3.0})
    assert {labels: gauge.values for labels, gauge in gauges if not math.isnan(gauge.values[0])} == {("y",): [3.0]}
    gauges.replace({("x",): 0.0})
    assert {labels: gauge.values for labels, gauge in gauges if not math.isnan(gauge.values[0])} == {("x",): [0.0]}


def test_bounds_that_do_not_increase_are_refused():
    with pytest.raises(ValueError, match="increase"):
        Family("a_seconds", "histogram", "", bounds=(1.0, 0.5))
