"""Who reads finished calls, and what routes have promised, as the configuration says."""

from pathlib import Path

import pytest

from gateway.assemble import World, assemble
from gateway.config import load
from gateway.exchange import Call, Fields, Peer, Request
from gateway.telemetry.cells import SharedCells
from gateway.telemetry.configured import exemplary, objectives, shares
from gateway.telemetry.exemplars import SUFFIX, Exemplars, newest
from gateway.telemetry.metrics import SECONDS, Metrics
from gateway.telemetry.observer import Objectives
from gateway.tracing.context import Context

ROUTES = """
upstreams: {up: {targets: ["http://127.0.0.1:9001"]}}
routes:
  - {name: both, match: {path: /both}, upstream: up, slo: {availability: 99.9%, latency: {p: 99, under: 300ms}}}
  - {name: up, match: {path: /up}, upstream: up, slo: {availability: 95%}}
  - {name: fast, match: {path: /fast}, upstream: up, slo: {latency: {p: 50, under: 1s}}}
  - {name: none, match: {path: /none}, upstream: up}
"""


@pytest.fixture
def config(tmp_path: Path):
    file = tmp_path / "routes.yaml"
    file.write_text(ROUTES)
    return load(file, {})


def test_routes_promise_what_is_configured(config):
    assert objectives(config) == {
        "both": Objectives(0.999, 0.99, 0.3),
        "up": Objectives(0.95, None, 0.0),
        "fast": Objectives(None, 0.5, 1.0),
    }


def test_what_was_promised_is_a_metric(config):
    metrics = Metrics()
    assemble(config, World(metrics)).start()
    told = {labels: gauge.values[0] for labels, gauge in metrics.slo_objective}
    assert told == shares(objectives(config))
    assert told["both", "latency"] == 0.99
    assert ("up", "latency") not in told


def test_what_was_promised_is_counted(config):
    metrics = Metrics()
    runtime = assemble(config, World(metrics))
    call = a_call()
    call.route = "both"
    runtime.handler.finished(call, 200, 0, 0, 0.31)
    counted = {labels: counter.value for labels, counter in metrics.slo_requests}
    assert counted["both", "latency", "bad"] == 1
    assert counted["both", "availability", "good"] == 1


def a_call(trace: Context | None = None) -> Call:
    call = Call(Request("GET", b"/", Fields([]), Peer("127.0.0.1", 1)), "id-1")
    call.route, call.trace = "orders", trace
    return call


@pytest.mark.parametrize(("recorded", "noted"), [(True, ["0" * 31 + "7"]), (False, [])])
def test_a_recorded_call_is_an_exemplar_of_its_duration(tmp_path: Path, recorded: bool, noted: list[str]):
    cells = SharedCells(tmp_path / "one")
    name = "gateway_request_duration_seconds"
    read = exemplary(Exemplars(cells, name, SECONDS), lambda: 1000.0)
    trace = Context("0" * 31 + "7", 1, sampled=False)
    trace.recorded = recorded
    read(a_call(trace), 200, 0, 0, 0.02, 0.0)
    read(a_call(), 200, 0, 0, 0.02, 0.0)
    cells.close()
    claimed = cells.known(name + SUFFIX)
    assert claimed == ([("orders", "GET", "2xx")] if noted else [])
    if noted:
        page, at = cells.claim(name + SUFFIX, claimed[0], 6 * (len(SECONDS) + 1))
        found = [each for each in newest([page[at : at + 6 * (len(SECONDS) + 1)]]) if each is not None]
        assert [each.trace_id for each in found] == noted
        assert (found[0].value, found[0].at) == (0.02, 1000.0)


def test_a_promise_begins_with_nothing_good_and_nothing_bad(config):
    metrics = Metrics()
    assemble(config, World(metrics))
    counted = {labels: counter.value for labels, counter in metrics.slo_requests}
    assert {labels[:2] for labels in counted} == set(shares(objectives(config)))
    assert [*counted.values()] == [0.0] * 8
