from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import REGISTRY

from gateway import __version__
from gateway.telemetry.metrics import Metrics


def sample(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def test_what_was_counted_is_what_a_scrape_says():
    metrics = Metrics()
    metrics.requests.child("orders", "", "GET", "200", "acme").inc(3)
    labels = {"route": "orders", "version": "", "method": "GET", "status": "200", "consumer": "acme"}
    assert sample(metrics, "gateway_requests_total", **labels) == 3


def test_a_histogram_is_cumulative_and_its_last_bucket_is_its_count():
    metrics = Metrics()
    child = metrics.own_duration.child("orders")
    for seconds in (0.00004, 0.00008, 0.3, 7.0):
        child.observe(seconds)
    name = "gateway_own_duration_seconds"
    assert sample(metrics, f"{name}_bucket", route="orders", le="5e-05") == 1
    assert sample(metrics, f"{name}_bucket", route="orders", le="0.0001") == 2
    assert sample(metrics, f"{name}_bucket", route="orders", le="0.5") == 3
    assert sample(metrics, f"{name}_bucket", route="orders", le="+Inf") == 4
    assert sample(metrics, f"{name}_count", route="orders") == 4
    assert abs(sample(metrics, f"{name}_sum", route="orders") - 7.30012) < 1e-9


def test_a_gauge_says_what_was_written_last():
    metrics = Metrics()
    metrics.breaker_state.replace({("orders", "http://a"): 0.0})
    assert sample(metrics, "gateway_breaker_state", upstream="orders", target="http://a") == 0
    metrics.breaker_state.replace({("orders", "http://a"): 2.0})
    assert sample(metrics, "gateway_breaker_state", upstream="orders", target="http://a") == 2


def test_a_gauge_that_is_no_longer_there_is_not_shown():
    metrics = Metrics()
    metrics.connections.replace({("127.0.0.1:8080",): 3.0, ("unix:/run/gw",): 4.0})
    metrics.connections.replace({("unix:/run/gw",): 5.0})
    assert sample(metrics, "gateway_connections", listener="127.0.0.1:8080") is None
    assert sample(metrics, "gateway_connections", listener="unix:/run/gw") == 5


def test_each_runtime_has_a_registry_of_its_own_and_leaves_the_global_one_alone():
    first, second = Metrics(), Metrics()
    first.auth.child("idp", "ok").inc()
    assert sample(second, "gateway_auth_total", provider="idp", result="ok") is None
    assert REGISTRY.get_sample_value("gateway_auth_total", {"provider": "idp", "result": "ok"}) is None
    assert isinstance(first.registry, CollectorRegistry)


def test_the_build_is_described():
    text = generate_latest(Metrics().registry).decode()
    assert 'gateway_build_info{python="' in text
    assert f'version="{__version__}"' in text


def test_no_metric_is_named_twice():
    names = [family.name for family in Metrics().families]
    assert len(names) == len(set(names))


def test_the_openmetrics_form_is_valid_for_every_family():
    metrics = Metrics()
    metrics.requests.child("orders", "", "GET", "200", 'a "quoted"\nname').inc()
    metrics.request_duration.child("orders", "GET", "2xx").observe(0.2)
    metrics.loop_lag.replace({(): 0.5})
    metrics.access_log_dropped.child().inc(7)
    families = {
        family.name: family for family in text_string_to_metric_families(openmetrics(metrics.registry).decode())
    }
    assert families["gateway_requests"].samples[0].labels["consumer"] == 'a "quoted"\nname'
    assert families["gateway_loop_lag_seconds"].samples[0].value == 0.5
    assert families["gateway_access_log_dropped"].samples[0].value == 7
    assert all(family.documentation for family in families.values())
