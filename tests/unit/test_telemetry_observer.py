from types import SimpleNamespace

import pytest

from gateway.errors import ClientGone, Refused
from gateway.exchange import Call, Caller, Fields, Hop, Peer, Request
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observer import Objectives, Observer

A = SimpleNamespace(name="http://a", upstream="orders")
B = SimpleNamespace(name="http://b", upstream="orders")
SPARE = SimpleNamespace(name="http://c", upstream="spare")


def a_call(*hops, method="GET", route="orders", tried=(), consumer=""):
    call = Call(Request(method, b"/orders", Fields([]), Peer("127.0.0.1", 1)), "id-1")
    call.route = route
    call.hops = list(hops)
    call.tried = list(tried)
    call.target = call.tried[-1] if tried else None
    call.caller = Caller("user-17", "idp", consumer)
    return call


def hop(stage, name, outcome, took=0.0, waited=True):
    return Hop(stage, name, outcome, 0.0, took, waited)


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def observer(metrics):
    return Observer(metrics)


@pytest.fixture
def value(metrics):
    return lambda metric, /, **labels: metrics.registry.get_sample_value(metric, labels)


def test_a_request_is_counted_by_route_method_status_and_consumer(observer, value):
    for _ in range(2):
        observer.finished(a_call(consumer="idp"), 200, 10, 3, 0.02)
    labels = {"route": "orders", "version": "", "method": "GET", "status": "200", "consumer": "idp"}
    assert value("gateway_requests_total", **labels) == 2
    assert value("gateway_bytes_total", route="orders", direction="in") == 6
    assert value("gateway_bytes_total", route="orders", direction="out") == 20
    assert value("gateway_request_duration_seconds_sum", route="orders", method="GET", status_class="2xx") == 0.04


def test_own_time_is_what_is_left_when_the_waits_are_taken_off(observer, value):
    hops = (
        hop("auth", "idp", "ok", 0.001, waited=False),
        hop("try", "http://a", "503", 0.1),
        hop("connect", "http://a", "ok", 0.05, waited=False),
        hop("wait", "503", "retry", 0.2),
        hop("try", "http://b", "200", 0.3),
    )
    observer.finished(a_call(*hops, tried=(A, B)), 200, 0, 0, 0.61)
    assert value("gateway_own_duration_seconds_sum", route="orders") == pytest.approx(0.01)


def test_own_time_is_never_negative(observer, value):
    observer.finished(a_call(hop("try", "http://a", "200", 0.5), tried=(A,)), 200, 0, 0, 0.4)
    assert value("gateway_own_duration_seconds_sum", route="orders") == 0


def test_a_stage_without_a_metric_still_takes_its_time(observer, value):
    observer.finished(a_call(hop("stream", "", "done", 5.0)), 200, 0, 0, 5.25)
    assert value("gateway_own_duration_seconds_sum", route="orders") == 0.25


def test_each_try_counts_for_its_own_target_and_upstream(observer, value):
    hops = (
        hop("try", "http://a", "connect_failure", 0.1),
        hop("wait", "connect_failure", "retry", 0.0),
        hop("try", "http://b", "503", 0.2),
        hop("withheld", "budget", "503", waited=False),
        hop("try", "http://c", "200", 0.3),
    )
    observer.finished(a_call(*hops, tried=(A, B, SPARE)), 200, 0, 0, 1)
    attempts = "gateway_upstream_attempts_total"
    assert value(attempts, upstream="orders", target="http://a", outcome="connect_failure") == 1
    assert value(attempts, upstream="orders", target="http://b", outcome="503") == 1
    assert value(attempts, upstream="spare", target="http://c", outcome="200") == 1
    assert value("gateway_upstream_duration_seconds_sum", upstream="spare", target="http://c") == 0.3


def test_a_retry_counts_by_what_went_wrong_before_and_a_withheld_one_by_why(observer, value):
    hops = (hop("wait", "timeout", "retry"), hop("withheld", "budget", "timeout", waited=False))
    observer.finished(a_call(*hops, tried=(A,)), 502, 0, 0, 1)
    assert value("gateway_retries_total", upstream="orders", reason="timeout") == 1
    assert value("gateway_retries_withheld_total", upstream="orders", reason="budget") == 1


def test_a_wait_that_the_client_did_not_sit_out_is_no_retry(observer, value):
    observer.finished(a_call(hop("wait", "503", "abandoned"), tried=(A,)), 499, 0, 0, 1)
    assert value("gateway_retries_total", upstream="orders", reason="503") is None


def test_a_new_connection_is_measured(observer, value):
    observer.finished(a_call(hop("connect", "http://a", "ok", 0.2, waited=False), tried=(A,)), 200, 0, 0, 1)
    assert value("gateway_upstream_connect_seconds_sum", upstream="orders") == 0.2


def test_the_stages_of_the_door_count_their_decisions(observer, value):
    hops = (
        hop("auth", "idp", "expired", waited=False),
        hop("limit", "standard", "refused", 0.004),
        hop("fallback", "static", "open", waited=False),
    )
    observer.finished(a_call(*hops), 200, 0, 0, 1)
    assert value("gateway_auth_total", provider="idp", result="expired") == 1
    assert value("gateway_rate_limit_decisions_total", route="orders", policy="standard", decision="refused") == 1
    assert value("gateway_fallbacks_total", route="orders", kind="static", reason="open") == 1


def test_each_of_the_limits_that_were_asked_together_decides(observer, value):
    hops = (hop("limit", "standard", "allowed", 0.004), hop("limit", "per_ip", "refused", 0.0))
    observer.finished(a_call(*hops), 429, 0, 0, 1)
    assert value("gateway_rate_limit_decisions_total", route="orders", policy="standard", decision="allowed") == 1
    assert value("gateway_rate_limit_decisions_total", route="orders", policy="per_ip", decision="refused") == 1


def test_what_the_gateway_ended_itself_is_a_refusal(observer, value):
    call = a_call()
    call.error = Refused("rate_limited", 429)
    observer.finished(call, 429, 0, 0, 0)
    observer.finished(call, 429, 0, 0, 0)
    assert value("gateway_refusals_total", route="orders", code="rate_limited") == 2


def test_a_client_that_left_is_a_499_but_no_refusal(observer, value):
    call = a_call()
    call.error = ClientGone()
    observer.finished(call, 499, 0, 0, 0)
    assert value("gateway_refusals_total", route="orders", code="client_gone") is None
    labels = {"route": "orders", "version": "", "method": "GET", "status": "499", "consumer": ""}
    assert value("gateway_requests_total", **labels) == 1


def test_what_clients_invent_makes_no_series(observer, metrics):
    for n in range(50):
        observer.finished(a_call(method=f"VERB{n}", route=""), 404, 0, 0, 0)
        observer.finished(a_call(method="GET", route=""), 600 + n, 0, 0, 0)
    assert {labels for labels, _ in metrics.requests} == {
        ("none", "", "other", "404", ""),
        ("none", "", "GET", "other", ""),
    }


def test_the_subject_of_a_token_is_no_label(observer, metrics):
    observer.finished(a_call(consumer="idp"), 200, 0, 0, 0)
    assert all("user-17" not in labels for labels, _ in metrics.requests)


def test_the_first_byte_of_a_streamed_reply_comes_before_its_end(observer, value):
    call = a_call(Hop("stream", "", "", 100.25, 5.0))
    call.request.received = 100.0
    observer.finished(call, 200, 0, 0, 5.25)
    observer.finished(a_call(), 200, 0, 0, 0.5)
    assert value("gateway_first_byte_seconds_sum", route="orders") == 0.75
    assert value("gateway_first_byte_seconds_count", route="orders") == 2


def test_waits_in_line_are_told_apart_by_what_was_waited_for(observer, value):
    hops = (hop("concurrency", "orders", "queued", 0.25), hop("upstream_concurrency", "orders", "timeout", 0.5))
    observer.finished(a_call(*hops), 503, 0, 0, 1)
    name = "gateway_queue_seconds_sum"
    assert value(name, kind="route", name="orders", outcome="queued") == 0.25
    assert value(name, kind="upstream", name="orders", outcome="timeout") == 0.5


def test_who_answered_instead_of_an_upstream_is_counted_by_reason(observer, value):
    call = a_call()
    call.reason = "fallback"
    observer.finished(call, 200, 0, 0, 0)
    assert value("gateway_ended_total", route="orders", reason="fallback") == 1
    assert value("gateway_refusals_total", route="orders", code="fallback") is None


def test_an_error_is_the_reason_whatever_was_answered_before(observer, value):
    call = a_call()
    call.reason, call.error = "fallback", Refused("body_too_large", 413)
    observer.finished(call, 413, 0, 0, 0)
    assert value("gateway_ended_total", route="orders", reason="body_too_large") == 1
    assert value("gateway_ended_total", route="orders", reason="fallback") is None


def test_a_client_that_left_ended_the_request_but_was_not_refused(observer, value):
    call = a_call()
    call.error = ClientGone()
    observer.finished(call, 499, 0, 0, 0)
    assert value("gateway_ended_total", route="orders", reason="client_gone") == 1
    assert value("gateway_refusals_total", route="orders", code="client_gone") is None


@pytest.fixture
def promising(metrics):
    return Observer(metrics, objectives={"orders": Objectives(0.999, 0.99, 0.25)})


@pytest.fixture
def kept(value):
    def kept(slo):
        name = "gateway_slo_requests_total"
        return [value(name, route="orders", slo=slo, result=result) for result in ("good", "bad")]

    return kept


def test_a_failure_breaks_the_promise_of_availability_whoever_made_it(promising, kept):
    for status in (200, 302, 404, 429, 500, 503):
        promising.finished(a_call(), status, 0, 0, 0.1)
    assert kept("availability") == [4, 2]


def test_latency_is_judged_for_requests_that_did_not_fail(promising, kept):
    for status, took in ((200, 0.25), (200, 0.26), (404, 0.1), (503, 9.0)):
        promising.finished(a_call(), status, 0, 0, took)
    assert kept("latency") == [2, 1]


def test_a_long_stream_is_in_time_when_it_began_in_time(promising, kept):
    call = a_call(Hop("stream", "", "", 100.1, 60.0))
    call.request.received = 100.0
    promising.finished(call, 200, 0, 0, 60.1)
    assert kept("latency") == [1, 0]


def test_a_client_that_left_says_nothing_about_what_was_promised(promising, kept):
    promising.finished(a_call(), 499, 0, 0, 9.0)
    assert kept("availability") == kept("latency") == [None, None]


def test_routes_that_have_promised_nothing_are_not_judged(promising, metrics):
    promising.finished(a_call(route="users"), 500, 0, 0, 0.1)
    assert not [*metrics.slo_requests]


def test_a_promise_about_one_thing_is_no_promise_about_the_other(metrics, kept):
    Observer(metrics, objectives={"orders": Objectives(None, 0.99, 0.25)}).finished(a_call(), 500, 0, 0, 0.1)
    Observer(metrics, objectives={"orders": Objectives(0.9, None, 0.0)}).finished(a_call(), 200, 0, 0, 0.1)
    assert (kept("availability"), kept("latency")) == ([1, None], [None, None])
