"""The state of the live feed from two readings: exact counts, rates of the time between, percentiles of Prometheus."""

import time
from typing import Any

import pytest

from gateway.telemetry.cells import SharedCells, Summary, Totals
from gateway.telemetry.live import MOST, MOST_TARGETS, Layout, Target, Upstream, listeners, loop_lag, quantile, state
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.reading import NAMES, Reading, reading

BOUNDS = {family.name: family.bounds for family in Metrics().families if family.bounds}
URL = "http://10.0.0.1:80"
UP = {"up": Upstream([Target(URL, healthy=True, held=False)], circuits=True, ejects=True)}


def totals(metrics: Metrics) -> Totals:
    """As a summary of the sets of all workers would tell them."""
    return {family.name: {labels: each.values for labels, each in children} for family, children in metrics._kept}


def read(metrics: Metrics) -> Reading:
    return reading(totals(metrics))


def layout(routes: dict[str, tuple[str, ...]] | None = None, upstreams: dict[str, Upstream] | None = None) -> Layout:
    return Layout(routes or {"all": ("up",)}, upstreams if upstreams is not None else UP, BOUNDS)


def seen(metrics: Metrics, before: Reading, seconds: float = 10.0, **changes: Any) -> dict[str, Any]:
    return state(before, read(metrics), seconds, layout(**changes))


def ask(metrics: Metrics, route: str, status: int, times: int = 1, took: float = 0.004, consumer: str = "") -> None:
    metrics.requests.child(route, "", "GET", str(status), consumer).inc(times)
    for _ in range(times):
        metrics.request_duration.child(route, "GET", f"{status // 100}xx").observe(took)
        metrics.own_duration.child(route).observe(took / 10)


# -- percentiles -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "buckets", "expected"),
    [
        (0.5, [10, 0, 0, 0], 0.5),  # half of the first bucket, which begins at zero
        (0.9, [0, 10, 0, 0], 1.9),
        (0.5, [5, 5, 0, 0], 1.0),  # exactly at a bound
        (0.75, [5, 5, 0, 0], 1.5),
        (0.99, [0, 0, 0, 3], 4.0),  # above all bounds: the highest
        (1.0, [1, 0, 1, 0], 4.0),
    ],
)
def test_a_percentile_is_what_histogram_quantile_says(share: float, buckets: list[float], expected: float) -> None:
    assert quantile(share, (1.0, 2.0, 4.0), buckets) == pytest.approx(expected)


@pytest.mark.parametrize("buckets", [[], [0.0, 0.0, 0.0, 0.0]])
def test_without_observations_there_is_no_percentile(buckets: list[float]) -> None:
    assert quantile(0.5, (1.0, 2.0, 4.0), buckets) is None


# -- requests ----------------------------------------------------------------------------------------


def test_counts_run_since_the_start_and_rates_are_about_the_time_between() -> None:
    metrics = Metrics()
    ask(metrics, "all", 200, 100)
    before = read(metrics)
    ask(metrics, "all", 200, 15)
    ask(metrics, "all", 503, 5)

    said = seen(metrics, before)

    (route,) = said["routes"]
    assert (route["requests"], route["errors"], route["rate"], route["error_rate"]) == (120, 5, 2.0, 0.25)
    assert (said["totals"]["requests"], said["totals"]["rate"]) == (120, 2.0)
    assert said["statuses"] == {"2xx": 115, "5xx": 5}


def test_percentiles_know_nothing_of_what_was_before() -> None:
    metrics = Metrics()
    ask(metrics, "all", 200, 1000, took=20.0)
    before = read(metrics)
    ask(metrics, "all", 200, 10, took=0.004)

    (route,) = seen(metrics, before)["routes"]

    assert route["p99_ms"] == pytest.approx(4.975)  # in the bucket from 2.5 to 5 ms
    assert route["own_p99_ms"] == pytest.approx(0.4975, abs=0.001)
    assert seen(metrics, read(metrics))["routes"][0]["p99_ms"] is None


def test_refusals_are_no_errors() -> None:
    metrics = Metrics()
    before = read(metrics)
    for status in (401, 403, 429, 404, 499):
        ask(metrics, "all", status)

    (route,) = seen(metrics, before)["routes"]

    assert (route["requests"], route["refused"], route["errors"], route["error_rate"]) == (5, 3, 0, 0.0)


def test_what_no_route_took_and_strange_statuses_are_counted_too() -> None:
    metrics = Metrics()
    before = read(metrics)
    ask(metrics, "none", 404, 3)
    metrics.requests.child("all", "", "other", "other", "").inc()

    said = seen(metrics, before)

    assert [(each["name"], each["requests"]) for each in said["routes"]] == [("none", 3), ("all", 1)]
    assert said["statuses"] == {"4xx": 3, "other": 1}
    assert said["totals"]["requests"] == 4


def test_a_route_that_is_not_configured_any_more_still_counts() -> None:
    metrics = Metrics()
    ask(metrics, "gone", 200, 7)

    said = seen(metrics, read(metrics))

    assert [(each["name"], each["requests"], each["upstreams"]) for each in said["routes"]] == [
        ("gone", 7, []),
        ("all", 0, ["up"]),
    ]


def test_what_ended_workers_have_counted_stays(tmp_path: Any) -> None:
    ended, living = Metrics(SharedCells(tmp_path / "0")), Metrics(SharedCells(tmp_path / "1"))
    ask(ended, "all", 200, 3)
    ask(living, "all", 200, 4)
    living.loop_lag.replace({(): 0.002})
    ended.loop_lag.replace({(): 9.0})

    now = reading(Summary(tmp_path).collect([each for each in living.families if each.name in NAMES], {"1"}))

    assert state(now, now, 1.0, layout())["totals"]["requests"] == 7
    assert loop_lag(now) == 2.0  # of a gauge only the living speak


def test_the_busiest_routes_are_told_and_how_many_are_not() -> None:
    metrics = Metrics()
    routes = {f"r{number}": ("up",) for number in range(MOST + 50)}
    before = read(metrics)
    for number in range(40):
        ask(metrics, f"r{MOST + number}", 200, number + 1)

    said = seen(metrics, before, routes=routes)

    assert len(said["routes"]) == MOST
    assert said["more"]["routes"] == 50
    assert [each["name"] for each in said["routes"][:2]] == [f"r{MOST + 39}", f"r{MOST + 38}"]
    assert said["totals"]["requests"] == sum(range(41))


def test_among_too_many_a_quiet_route_that_fails_is_told() -> None:
    metrics = Metrics()
    routes = {f"r{number}": ("up",) for number in range(MOST + 50)}
    ask(metrics, "r1", 503)
    before = read(metrics)
    for number in range(2, MOST + 50):
        ask(metrics, f"r{number}", 200, 2)
    ask(metrics, "r0", 503)

    names = [each["name"] for each in seen(metrics, before, routes=routes)["routes"]]

    assert names[0] == "r0"
    assert "r1" not in names  # that was before


def test_among_too_many_an_upstream_that_nobody_can_ask_is_told() -> None:
    metrics = Metrics()
    upstreams = {
        f"up{number}": Upstream([Target(URL, healthy=number != 0, held=number == 1)], circuits=True, ejects=False)
        for number in range(MOST + 50)
    }
    for name in upstreams:
        metrics.attempts.child(name, URL, "200").inc(0 if name in ("up0", "up1", "up2") else 9)
    metrics.breaker_state.replace({(name, URL): 2.0 if name == "up2" else 0.0 for name in upstreams})

    names = [each["name"] for each in seen(metrics, Reading(), upstreams=upstreams)["upstreams"]]

    assert set(names[:3]) == {"up0", "up1", "up2"}
    assert len(names) == MOST


def test_the_objectives_that_are_missed_most_come_first() -> None:
    metrics = Metrics()
    metrics.slo_objective.replace({("a", "latency"): 0.99, ("b", "availability"): 0.999, ("c", "latency"): 0.9})
    for route, slo in (("a", "latency"), ("b", "availability")):
        metrics.slo_requests.child(route, slo, "good").inc(95)
        metrics.slo_requests.child(route, slo, "bad").inc(5)

    assert [each["route"] for each in seen(metrics, read(metrics))["slo"]] == ["b", "a", "c"]


def test_consumers_come_by_use() -> None:
    metrics = Metrics()
    before = read(metrics)
    ask(metrics, "all", 200, 2, consumer="acme")
    ask(metrics, "all", 429, 3, consumer="globex")

    assert seen(metrics, before)["consumers"] == [
        {"name": "globex", "requests": 3, "rate": 0.3, "errors": 0, "refused": 3},
        {"name": "acme", "requests": 2, "rate": 0.2, "errors": 0, "refused": 0},
    ]


def test_reasons_and_objectives() -> None:
    metrics = Metrics()
    metrics.ended.child("all", "rate_limited").inc(20)
    before = read(metrics)
    metrics.ended.child("all", "circuit_open").inc(5)
    metrics.slo_objective.replace({("all", "availability"): 0.999})
    metrics.slo_requests.child("all", "availability", "good").inc(9)

    said = seen(metrics, before)

    assert said["reasons"] == [
        {"route": "all", "reason": "circuit_open", "count": 5, "rate": 0.5},
        {"route": "all", "reason": "rate_limited", "count": 20, "rate": 0.0},
    ]
    assert said["totals"]["ended"] == 25
    assert said["slo"] == [{"route": "all", "slo": "availability", "objective": 0.999, "good": 9, "bad": 0}]


# -- upstreams ---------------------------------------------------------------------------------------


def test_failed_tries_are_errors_and_given_up_ones_are_not() -> None:
    metrics = Metrics()
    before = read(metrics)
    for outcome in ("200", "503", "upstream_timeout", "cancelled"):
        metrics.attempts.child("up", URL, outcome).inc()

    (upstream,) = seen(metrics, before)["upstreams"]

    assert (upstream["rate"], upstream["error_rate"]) == (0.4, 0.5)
    assert (upstream["targets"][0]["rate"], upstream["targets"][0]["error_rate"]) == (0.4, 0.5)


@pytest.mark.parametrize(
    ("in_use", "healthy", "ejects", "ejected"),
    [(1.0, True, True, False), (0.0, True, True, True), (0.0, False, True, False), (0.0, True, False, False)],
)
def test_a_target_is_ejected_when_it_is_well_and_not_used(
    in_use: float, healthy: bool, ejects: bool, ejected: bool
) -> None:
    metrics = Metrics()
    metrics.target_healthy.replace({("up", URL): in_use})
    upstreams = {"up": Upstream([Target(URL, healthy, held=False)], circuits=True, ejects=ejects)}

    (upstream,) = seen(metrics, read(metrics), upstreams=upstreams)["upstreams"]

    assert (upstream["targets"][0]["healthy"], upstream["targets"][0]["ejected"]) == (healthy, ejected)


def test_circuits_connections_and_pauses_are_as_the_gauges_say() -> None:
    metrics = Metrics()
    metrics.breaker_state.replace({("up", URL): 2.0})
    metrics.upstream_connections.replace({("up", "busy"): 3.0, ("up", "idle"): 1.0})
    metrics.upstream_paused.replace({("up",): 12.34})
    metrics.retries.child("up", "503").inc(2)
    metrics.connections.replace({("http",): 8.0})

    now = read(metrics)
    (upstream,) = seen(metrics, now)["upstreams"]

    assert upstream["targets"][0]["circuit"] == "open"
    assert (upstream["connections"], upstream["paused"], upstream["retries"]) == ({"busy": 3, "idle": 1}, 12.3, 2)
    assert listeners(now) == {"http": 8}


def test_of_too_many_targets_those_in_trouble_are_told() -> None:
    targets = [Target(f"http://10.0.0.{number}", healthy=number != 90, held=False) for number in range(100)]

    (upstream,) = seen(Metrics(), Reading(), upstreams={"up": Upstream(targets, circuits=False, ejects=False)})[
        "upstreams"
    ]

    assert (len(upstream["targets"]), upstream["more"]) == (MOST_TARGETS, 100 - MOST_TARGETS)
    assert upstream["targets"][0]["url"] == "http://10.0.0.90"


def test_a_thousand_routes_take_less_than_50_milliseconds() -> None:
    metrics = Metrics()
    routes = {f"route-{number}": ("up",) for number in range(1000)}
    for name in routes:
        for status in (200, 404, 503):
            ask(metrics, name, status)
        metrics.bytes.child(name, "out").inc()
    cells = totals(metrics)
    before = reading(cells)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        state(before, reading(cells), 10.0, layout(routes=routes))
        took.append(time.perf_counter() - began)

    assert min(took) < 0.05, f"{min(took) * 1e3:.1f} ms"
