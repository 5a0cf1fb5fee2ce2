"""Which version a text names: names, aliases, baselines, and what only looks like one."""

import pytest

from gateway.routing.pattern import fold
from gateway.routing.version_names import UNKNOWN, Names, numbered

NAMES = Names(["v10", "v2", "v1"], {"latest": "v10"})
BASELINES = Names(["v1.1+", "v1.10+", "v2", "v3+"], {})
DATES = Names(["2026-01-01+", "2026-06-15+"], {})


@pytest.mark.parametrize(
    ("earlier", "later"),
    [("v2", "v10"), ("v1.1", "v1.10"), ("v1.9", "v1.10"), ("v1", "v1.1"), ("2026-01-01", "2026-11-21"), ("9", "10")],
)
def test_versions_compare_by_their_numbers(earlier, later):
    assert numbered(earlier) < numbered(later)


def test_zeros_at_the_end_make_no_difference():
    assert numbered("v1") == numbered("v1.0") == numbered("v1.0.0")
    assert numbered("v0") != numbered("v1")


@pytest.mark.parametrize(
    "text", ["", "v", "1v", "v1.", ".1", "v1..2", "v1.2.3.4.5", "v" + "1" * 10, "v１", "v1\n", "a-1"]
)
def test_what_has_no_numbers_to_compare(text):
    assert numbered(text) is None


@pytest.mark.parametrize(
    ("text", "version"),
    [("v1", "v1"), ("latest", "v10"), ("v10", "v10"), ("v3", None), ("v1.0", None), ("V1", None), ("", None)],
)
def test_a_plain_version_has_its_name_and_its_aliases_and_nothing_else(text, version):
    assert NAMES.known(text) == version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v1", None),  # before the first
        ("v1.0.9", None),
        ("v1.1", "v1.1"),
        ("v1.1.0", "v1.1"),
        ("v1.2", "v1.1"),
        ("v1.9.9", "v1.1"),
        ("v1.10", "v1.10"),
        ("v1.999", "v1.10"),
        ("v2", "v2"),
        ("v2.1", None),  # v2 has taken over, and is no baseline
        ("v3", "v3"),
        ("v4.5", "v3"),
        ("w4", None),
        ("4", None),
        ("v4-1", None),
        ("v1.1+", None),
    ],
)
def test_a_baseline_serves_later_versions_until_the_next_takes_over(text, version):
    assert BASELINES.known(text) == version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("2025-12-31", None),
        ("2026-01-01", "2026-01-01"),
        ("2026-06-14", "2026-01-01"),
        ("2026-06-15", "2026-06-15"),
        ("2031-01-01", "2026-06-15"),
        ("9999", None),  # no date
    ],
)
def test_dates_are_versions_too(text, version):
    assert DATES.known(text) == version


@pytest.mark.parametrize("segment", ["v3", "V1", "v1.", "v1;x", "LATEST", "v7.2", "ｖ1", "v1 "])
def test_a_segment_that_looks_like_a_version_is_an_unknown_one(segment):
    assert NAMES.read(segment) == UNKNOWN


@pytest.mark.parametrize("segment", ["orders", "x1", "1", "2026-01-01", "version", "v", "vv1", "v1-2", "v1x"])
def test_any_other_segment_is_none(segment):
    assert NAMES.read(segment) is None


@pytest.mark.parametrize("segment", ["v1", "V1", "v1.", "latest", "v3", "orders", "v1.5 ", "...", "2026-01-01"])
@pytest.mark.parametrize("names", [NAMES, BASELINES, DATES, Names(["Beta", "V2"], {})])
def test_a_segment_and_its_folded_form_are_both_versions_or_neither(names, segment):
    assert (names.read(segment) is None) == (names.read(fold(segment)) is None)


def test_versions_are_listed_by_number_those_without_last():
    assert NAMES.listed == ("v1", "v2", "v10")
    assert Names(["beta", "v10", "v2+", "alpha"], {}).listed == ("v2+", "v10", "beta", "alpha")
