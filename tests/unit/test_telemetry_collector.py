import shutil
import subprocess

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.telemetry.cells import SharedCells, Summary
from gateway.telemetry.collector import INSTANCE, MetricsCollector
from gateway.telemetry.exposition import BUILD_INFO, Scrape
from gateway.telemetry.metrics import Metrics

NOW = 1_790_000_000.0

SNAPSHOT = {
    "reasons": [],
    "worker_restarts": 3,
    "workers": {"configured": 4, "ready": 2},
    "reloads": {"success": 5, "failure": 1},
    "last_reload": {"ok": False, "at": NOW - 60},
    "config": {"hash": "5f2b"},
    "certificates": {"example.com": NOW + 86400, "old.example.com": NOW - 5},
    "live": ["0", "1"],
    "started": NOW - 3600,
}


class Instance:
    """Two workers' metrics, and what an operator would say about them."""

    def __init__(self, folder):
        self.cells = [SharedCells(folder / name) for name in ("0", "1")]
        self.workers = [Metrics(cells) for cells in self.cells]
        self.live = ["0", "1"]
        self.snapshot = SNAPSHOT
        self.registry = CollectorRegistry(auto_describe=False)
        self.collector = MetricsCollector(Summary(folder), lambda: self.live, lambda: self.snapshot, lambda: NOW)
        self.registry.register(self.collector)
        self.folder = folder

    def __call__(self, name, **labels):
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def instance(tmp_path):
    instance = Instance(tmp_path)
    yield instance
    for cells in instance.cells:
        cells.close()


def test_the_workers_counts_are_one(instance):
    for metrics in instance.workers:
        metrics.auth.child("idp", "ok").inc(2)
        metrics.own_duration.child("orders").observe(0.00008)
    instance.workers[0].own_duration.child("orders").observe(7)
    assert instance("gateway_auth_total", provider="idp", result="ok") == 4
    assert instance("gateway_own_duration_seconds_bucket", route="orders", le="0.0001") == 2
    assert instance("gateway_own_duration_seconds_count", route="orders") == 3
    assert instance("gateway_own_duration_seconds_sum", route="orders") == pytest.approx(7.00016)


def test_each_gauge_has_its_way_to_be_one(instance):
    labels = ("orders", "http://a")
    for metrics, state, up, open_ in zip(instance.workers, (2.0, 0.0), (1.0, 0.0), (3.0, 4.0), strict=True):
        metrics.breaker_state.replace({labels: state})
        metrics.store_up.replace({("redis",): up})
        metrics.connections.replace({("http",): open_})
        metrics.upstream_connections.replace({("orders", "busy"): open_})
        metrics.loop_lag.replace({(): open_ / 10})
    assert instance("gateway_breaker_state", upstream="orders", target="http://a") == 2
    assert instance("gateway_store_up", store="redis") == 0
    assert instance("gateway_connections", listener="http") == 7
    assert instance("gateway_upstream_connections", upstream="orders", state="busy") == 7
    assert instance("gateway_loop_lag_seconds") == 0.4


def test_the_gauges_of_a_worker_that_has_ended_end_with_it(instance):
    for metrics in instance.workers:
        metrics.connections.replace({("http",): 5.0})
        metrics.fallbacks.child("orders", "static", "open").inc()
    instance.live = ["1"]
    assert instance("gateway_connections", listener="http") == 5
    assert instance("gateway_fallbacks_total", route="orders", kind="static", reason="open") == 2


def test_the_supervisor_is_heard(instance):
    assert instance("gateway_worker_restarts_total") == 3
    assert instance("gateway_workers", state="configured") == 4
    assert instance("gateway_workers", state="ready") == 2
    assert instance("gateway_config_reloads_total", result="success") == 5
    assert instance("gateway_config_reloads_total", result="failure") == 1
    assert instance("gateway_config_last_reload_successful") == 0
    assert instance("gateway_config_last_reload_success_timestamp_seconds") == NOW - 60
    assert instance("gateway_config_info", hash="5f2b") == 1
    assert instance("process_start_time_seconds") == NOW - 3600


def test_a_certificate_says_how_long_it_is_still_good_for(instance):
    assert instance("gateway_certificate_expiry_seconds", certificate="example.com") == 86400
    assert instance("gateway_certificate_expiry_seconds", certificate="old.example.com") == -5


def test_the_newest_exemplar_of_all_workers_is_shown_and_only_in_openmetrics(instance):
    series = ("orders", "GET", "2xx")
    for metrics, trace, at in zip(instance.workers, ("a" * 32, "b" * 32), (5.5, 4.5), strict=True):
        metrics.request_duration.child(*series).observe(0.03)
        metrics.exemplars.note(series, 0.03, trace, at)
    scrape = Scrape(instance.collector.read)
    text, _ = scrape.answer("application/openmetrics-text")
    assert text.count(b"# {") == 1
    assert (
        b'gateway_request_duration_seconds_bucket{le="0.05",method="GET",route="orders",status_class="2xx"} 2.0'
        b' # {trace_id="' + b"a" * 32 + b'"} 0.03 5.5\n'
    ) in text
    assert text == generate_latest(instance.registry)
    assert b"# {" not in scrape.answer("")[0]


def test_without_traces_there_is_nothing_about_exemplars(instance):
    instance.workers[0].request_duration.child("orders", "GET", "2xx").observe(0.03)
    assert b"exemplar" not in (instance.folder / "0" / "series").read_bytes()


def test_before_the_supervisor_has_spoken_the_workers_are_heard(instance):
    instance.snapshot = None
    instance.workers[0].auth.child("idp", "ok").inc()
    assert instance("gateway_auth_total", provider="idp", result="ok") == 1
    assert instance("gateway_workers", state="ready") is None


def test_everything_is_there_once_and_in_valid_form(instance):
    instance.workers[0].requests.child("orders", "", "GET", "200", 'a "quoted"\nname').inc()
    families = list(text_string_to_metric_families(generate_latest(instance.registry).decode()))
    defined = [*Metrics().families, BUILD_INFO, *(family for family, _ in INSTANCE)]
    assert sorted(family.name for family in families) == sorted(f.name.removesuffix("_total") for f in defined)
    assert all(family.documentation for family in families)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here: Debian has it in prometheus")
def test_promtool_has_nothing_to_say_against_any_metric(instance):
    """Names, units, suffixes, help texts."""
    metrics = instance.workers[0]
    for family, children in metrics._kept:
        labels = ("x",) * len(family.labels)
        if family.kind == "gauge":
            children.replace({labels: 1.0})
        else:
            children.child(*labels)
    text, _ = Scrape(instance.collector.read).answer("")
    assert all(b"\n%b" % family.name.encode() in text for family in metrics.families)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
