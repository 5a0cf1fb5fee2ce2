import math
import random
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed_text
from prometheus_client.utils import floatToGoString

from gateway.telemetry.exemplars import Exemplar
from gateway.telemetry.exposition import family_of
from gateway.telemetry.rendering import Reading, Renderer, number
from gateway.telemetry.tally import Family

BOUNDS = (0.00005, 0.1, 1.0, 30.0)
FAMILIES = (
    Family("a_total", "counter", 'Things, "quoted" \\ and\nbroken.', ("route", "and", "zone")),
    Family("b_total", "counter", "Without labels."),
    Family("c", "gauge", "Of some place.", ("place",)),
    Family("d_seconds", "histogram", "Times.", ("route", "a"), BOUNDS),  # `le` stands between the two
    Family("e_seconds", "histogram", "Times without labels.", (), BOUNDS),
)
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Readings:
    """A source for both printers."""

    def __init__(self, *readings):
        self.readings = readings
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def collect(self):
        return [family_of(*reading) for reading in self.readings]


def rendered(source, as_openmetrics, renderer=None):
    return b"".join((renderer or Renderer()).render(source.readings, as_openmetrics))


TEXTS = ["", "orders", "with space", 'a "quote"', "back\\slash", "new\nline", "%s", "100 %", "{}", "ü€😀", "\r\t\x01"]
NUMBERS = [0.0, 1.0, 7.0, 999_999.0, 1e6, 123_456_789.0, 1e15, 1e16, 1e22, 0.5, 1e-7, 1_234_567.25, math.inf]


def a_reading(dice, family):
    """Some series, some of them with exemplars."""
    series, exemplars = {}, {}
    for _ in range(dice.randrange(4)):
        labels = tuple(dice.choice(TEXTS) for _ in family.labels)
        buckets = [dice.choice(NUMBERS[:9]) for _ in range(len(BOUNDS) + 1)]
        series[labels] = [dice.choice(NUMBERS)] if family.kind != "histogram" else [dice.choice(NUMBERS), *buckets]
        if family.kind == "gauge" and dice.random() < 0.3:
            series[labels] = [dice.choice([-math.inf, -2.5, -1e9, math.nan])]
        if family.kind == "histogram" and dice.random() < 0.4:
            exemplars[labels] = [
                dice.choice([None, Exemplar(TRACE, dice.choice(NUMBERS), round(1.79e9 + dice.random(), 3))])
                for _ in buckets
            ]
    return Reading(family, series, exemplars)


sources = st.integers(0, 2**32).map(lambda seed: Readings(*map(partial(a_reading, random.Random(seed)), FAMILIES)))
numbers = st.floats(allow_nan=False) | st.integers(0, 2**60).map(float)


@settings(max_examples=150, deadline=None)
@given(sources)
def test_the_text_is_what_prometheus_client_prints_byte_for_byte(source):
    assert rendered(source, False) == generate_latest(source.registry)
    assert rendered(source, True) == openmetrics(source.registry)


@settings(max_examples=50, deadline=None)
@given(sources)
def test_the_text_says_to_a_parser_what_prometheus_client_would(source):
    pairs = [(parsed_text, False, generate_latest), (parsed_openmetrics, True, openmetrics)]
    for parsed, as_openmetrics, reference in pairs:
        found = list(parsed(rendered(source, as_openmetrics).decode()))
        assert found == list(parsed(reference(source.registry).decode()))
        assert [family.name.removesuffix("_total") for family in found] == ["a", "b", "c", "d_seconds", "e_seconds"]


@settings(max_examples=50, deadline=None)
@given(sources, sources)
def test_what_was_kept_of_one_scrape_does_not_show_in_the_next(first, second):
    renderer = Renderer()
    rendered(first, True, renderer)
    assert rendered(second, True, renderer) == rendered(second, True)


@given(numbers | st.floats())
def test_a_number_is_written_as_go_does(value):
    assert number(value) == floatToGoString(value)


@pytest.mark.parametrize("value", [0.0, -1.5, 1e6, 1e6 - 1, 1e16, 1.5e300, 1e-9, math.inf, -math.inf, math.nan])
def test_a_special_number_is_written_as_go_does(value):
    assert number(value) == floatToGoString(value)


def test_a_gauge_that_is_not_there_is_not_shown():
    source = Readings(Reading(FAMILIES[2], {("x",): [math.nan], ("y",): [1.0]}))
    assert b'c{place="y"} 1.0\n' in rendered(source, False)
    assert b'"x"' not in rendered(source, False)


def test_exemplars_are_for_openmetrics_only():
    found = {("r", ""): [None, Exemplar(TRACE, 0.07, 1_790_000_000.25), None, None, None]}
    source = Readings(Reading(FAMILIES[3], {("r", ""): [0.07, 0.0, 1.0, 0.0, 0.0, 0.0]}, found))
    lines = rendered(source, True).decode().splitlines()
    assert [line for line in lines if "#" in line[1:]] == [
        f'd_seconds_bucket{{a="",le="0.1",route="r"}} 1.0 # {{trace_id="{TRACE}"}} 0.07 1790000000.25'
    ]
    assert "trace_id" not in rendered(source, False).decode()


def test_templates_of_series_that_are_gone_are_not_kept_for_ever():
    renderer = Renderer()
    for build in range(1000):
        rendered(Readings(Reading(FAMILIES[2], {(str(build),): [1.0]})), False, renderer)
    assert len(renderer._templates["c"]) < 200
