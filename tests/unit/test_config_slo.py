"""What a route promises."""

from pathlib import Path

import pytest

from gateway.config import load
from gateway.config.effective import effective
from tests.configs import complaint, loaded, route


def test_a_route_promises_nothing_unless_it_says_so(tmp_path: Path) -> None:
    assert loaded(tmp_path, route("priority: low")).routes[0].slo is None


def test_promises_are_shares_and_seconds(tmp_path: Path) -> None:
    slo = loaded(tmp_path, route("slo: {availability: 99.95%, latency: {p: 99, under: 300ms}}")).routes[0].slo

    assert slo is not None
    assert slo.latency is not None
    assert (slo.availability, slo.latency.p, slo.latency.under) == (0.9995, 0.99, 0.3)


def test_one_promise_is_enough(tmp_path: Path) -> None:
    available = loaded(tmp_path, route("slo: {availability: 50%}")).routes[0].slo
    fast = loaded(tmp_path, route("slo: {latency: {p: 99.99, under: 1s}}")).routes[0].slo

    assert available is not None
    assert fast is not None
    assert (available.availability, available.latency) == (0.5, None)
    assert fast.latency is not None
    assert fast.availability is None
    assert fast.latency.p == 0.9999


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("{}", "6:10: routes[0].slo: needs availability, latency or both"),
        ("{availability: 49.9%}", "6:25: routes[0].slo.availability: must be from 50% to 99.999%"),
        ("{availability: 100%}", "6:25: routes[0].slo.availability: must be from 50% to 99.999%"),
        ("{availability: 0.999}", "6:25: routes[0].slo.availability: 0.999 is not a share"),
        ("{latency: {p: 99}}", "6:20: routes[0].slo.latency.under: is required"),
        ("{latency: {p: 49, under: 1s}}", "6:24: routes[0].slo.latency.p: 49 is not a percentile from 50 to 99.99"),
        ("{latency: {p: 100, under: 1s}}", "6:24: routes[0].slo.latency.p: 100 is not a percentile"),
        ("{latency: {p: p99, under: 1s}}", "6:24: routes[0].slo.latency.p: 'p99' is not a percentile"),
        ("{latency: {p: true, under: 1s}}", "6:24: routes[0].slo.latency.p: true is not a percentile"),
        ("{latency: {p: 'nan', under: 1s}}", "6:24: routes[0].slo.latency.p: 'nan' is not a percentile"),
        ("{latency: {p: 99, under: 0s}}", "6:35: routes[0].slo.latency.under: must be longer than nothing"),
        ("{latencies: {p: 99, under: 1s}}", "6:11: routes[0].slo.latencies: unknown key"),
    ],
)
def test_a_promise_that_nobody_could_keep_or_watch_is_refused(tmp_path: Path, written: str, wrong: str) -> None:
    assert complaint(tmp_path, route(f"slo: {written}")).startswith(wrong)


def test_a_percentile_is_shown_as_it_was_written(tmp_path: Path) -> None:
    config = loaded(tmp_path, route("slo: {availability: 99.9%, latency: {p: 99.95, under: 300ms}}"))

    (shown,) = effective(config)["routes"]

    assert shown["slo"] == {"availability": "99.9%", "latency": {"p": 99.95, "under": "300ms"}}


def test_the_example_in_the_repository_promises_something() -> None:
    config = load(Path(__file__).parents[2] / "config/routes.yaml", {"JWT_SECRET": "s" * 32})

    assert any(each.slo is not None for each in config.routes)
