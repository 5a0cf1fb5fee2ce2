"""What the operator process remembers of requests: the newest errors, the slowest, and how they are picked."""

import pytest

from gateway.telemetry.recent import FAILURES, REFUSALS, SHOWN, SLOW_FOR, SLOWEST, Recent
from gateway.telemetry.wanted import Wanted, wanted


def record(number=0, status=503, took=1.0, **more):
    return {
        "at": f"2026-11-21T09:{number // 60:02}:{number % 60:02}.000Z", "id": f"id-{number}", "status": status,
        "duration_ms": took, "own_ms": 0.1, "reason": "circuit_open", "route": "orders", "consumer": None,
        "method": "GET", "path": "/orders/7", "upstream": "up", "target": None, "tries": 1, **more,
    }  # fmt: skip


def test_errors_are_the_newest_first_and_explained():
    recent = Recent()
    for number in range(3):
        recent.failed(record(number))
    assert [each["id"] for each in recent.errors()] == ["id-2", "id-1", "id-0"]
    assert all("circuit" in each["explanation"] for each in recent.errors())
    assert [each["id"] for each in recent.errors(limit=1)] == ["id-2"]


def test_no_flood_of_refusals_pushes_out_what_failed():
    recent = Recent()
    for number in range(50):
        recent.failed(record(number))
    for number in range(50, 1050):
        recent.failed(record(number, 404, reason="no_route"))
    found = recent.errors()
    assert len(found) == 50 + REFUSALS <= SHOWN
    assert sum(each["status"] == 503 for each in found) == 50


def test_where_few_are_asked_for_refusals_are_at_most_half():
    recent = Recent()
    for number in range(50):
        recent.failed(record(number))
    for number in range(50, 150):
        recent.failed(record(number, 429, reason="rate_limited"))
    found = recent.errors(limit=20)
    assert [each["status"] for each in found] == [429] * 10 + [503] * 10  # the newest first
    assert found[0]["id"] == "id-149"
    assert found[10]["id"] == "id-49"
    assert len(recent.errors(wanted([("status", "4xx")]), limit=20)) == 20


def test_it_remembers_only_so_many():
    recent = Recent()
    for number in range(1000):
        recent.failed(record(number))
        recent.lasted(record(number), 0.0)
    assert len(recent.errors(limit=10_000)) == FAILURES
    assert len(recent.slowest(0.0)) == SLOWEST


def test_the_slowest_are_those_of_the_last_five_minutes():
    recent = Recent()
    recent.lasted(record(1, 200, 9000.0, reason=""), 1000.0)
    for number in range(40):
        recent.lasted(record(number, 200, float(number), reason=""), 1100.0)
    assert [each["duration_ms"] for each in recent.slowest(1100.0)][:3] == [9000.0, 39.0, 38.0]
    assert len(recent.slowest(1100.0)) == SLOWEST
    assert [each["duration_ms"] for each in recent.slowest(1000.0 + SLOW_FOR)][:2] == [39.0, 38.0]
    assert recent.slowest(2000.0) == []
    assert recent.slowest(1100.0)[0]["explanation"]


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        ({}, True),
        ({"route": "orders"}, True),
        ({"route": "other"}, False),
        ({"route": ""}, False),
        ({"consumer": ""}, True),
        ({"consumer": "ada"}, False),
        ({"code": "circuit_open"}, True),
        ({"code": "internal"}, False),
        ({"status": "503"}, True),
        ({"status": "5xx"}, True),
        ({"status": "500-503"}, True),
        ({"status": "4xx"}, False),
        ({"status": "400-502"}, False),
        ({"method": "get"}, True),
        ({"method": "POST"}, False),
        ({"min_ms": "1"}, True),
        ({"min_ms": "1.001"}, False),
        ({"path": "/ord"}, True),
        ({"path": "/x"}, False),
        ({"route": "orders", "status": "4xx"}, False),
    ],
)
def test_filters_pick(filters, fits):
    assert wanted(filters.items())(record()) is fits


def test_what_has_no_name_is_found_by_the_empty_one():
    assert Wanted(route="")(record(route=None))
    assert not Wanted(path="/")(record(path=None))


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ([("status", "abc")], "status: is not a status such as 404, 5xx or 400-499"),
        ([("status", "50x")], "status:"),
        ([("status", "0xx")], "status:"),
        ([("status", "499-400")], "status: begins after its end"),
        ([("min_ms", "-1")], "min_ms: is not a number"),
        ([("min_ms", "nan")], "min_ms:"),
        ([("colour", "red")], "'colour': is no filter; there are route, consumer, code"),
        ([("route", "a"), ("route", "b")], "route: is there twice"),
        ([("path", "x" * 2000)], "path: is longer"),
    ],
)
def test_what_is_no_filter_is_said(filters, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        wanted(filters)
