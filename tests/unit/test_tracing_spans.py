"""The spans that are made of a finished call."""

import json
from typing import Any

import pytest

from gateway.errors import ClientGone, Refused, Shed, UpstreamFailed
from gateway.exchange import Call, Caller, Fields, Hop, Peer, Request
from gateway.tracing.context import Context, try_span
from gateway.tracing.otlp import encode
from gateway.tracing.spans import CLIENT, INTERNAL, SERVER, Span, copied, finished, spans_of
from tests.collector import attributes, check
from tests.fakes import FakeTarget

ID, PARENT, OWN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 0xABCDEF
A, B = "http://10.0.0.1:9001", "https://orders.example"
OFFSET = 1_790_000_000_000_000_000


def hop(stage: str, name: str = "", outcome: str = "", started: float = 100.0, took: float = 0.25, **more: Any) -> Hop:
    return Hop(stage, name, outcome, started, took, **more)


def call_with(*hops: Hop, method: str = "GET", target: bytes = b"/orders/1?token=secret", **members: Any) -> Call:
    fields = Fields([(b"user-agent", b"curl/8\x80")], host=b"api.example:8443")
    call = Call(Request(method, target, fields, Peer("10.9.9.9", 50000), 99.5), "request-7")
    call.hops = list(hops)
    call.tried = [FakeTarget(each.name) for each in hops if each.stage == "try"]
    for name, value in members.items():
        setattr(call, name, value)
    return call


def told(made: list[Span]) -> list[Span]:
    """As a collector reads them."""
    read: list[Span] = json.loads(b"[" + encode(made) + b"]")
    return read


def spans(call: Call, status: int = 200, pattern: str = "/orders/**") -> list[Span]:
    trace = Context(ID, OWN, True, PARENT, b"a=1")
    made = told(spans_of(finished(call, trace, pattern, status, 20, 10, 2.0), OFFSET))
    for span in made:
        check(span)
    assert len({span["spanId"] for span in made}) == len(made)
    return made


def test_the_requests_own_span_tells_what_the_conventions_ask_for() -> None:
    members = {"route": "orders", "version": "v2", "caller": Caller("acme", label="acme"), "client_ip": "192.0.2.7"}
    (span,) = spans(call_with(**members))
    assert (span["name"], span["kind"]) == ("GET /orders/**", SERVER)
    assert (span["traceId"], span["spanId"], span["parentSpanId"]) == (ID, f"{OWN:016x}", PARENT)
    assert span["traceState"] == "a=1"
    assert int(span["startTimeUnixNano"]) == OFFSET + 99_500_000_000
    assert int(span["endTimeUnixNano"]) == OFFSET + 101_500_000_000
    assert "status" not in span
    assert attributes(span) == {
        "http.request.method": "GET",
        "http.route": "/orders/**",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/orders/1",
        "client.address": "192.0.2.7",
        "network.peer.address": "10.9.9.9",
        "network.protocol.version": "1.1",
        "server.address": "api.example:8443",
        "user_agent.original": "curl/8\\x80",
        "http.request.body.size": 10,
        "http.response.body.size": 20,
        "gateway.request_id": "request-7",
        "gateway.route": "orders",
        "gateway.version": "v2",
        "gateway.consumer": "acme",
    }


def test_a_request_without_a_route_is_named_by_its_method_and_unknown_methods_are_one() -> None:
    assert spans(call_with(), 404, "")[0]["name"] == "GET"
    own, tried = spans(call_with(hop("try", A, "200"), method="BREW"), 404, "")
    assert (own["name"], tried["name"]) == ("HTTP", "HTTP")
    said = attributes(own)
    assert (said["http.request.method"], said["http.request.method_original"]) == ("_OTHER", "BREW")


@pytest.mark.parametrize(
    "target", [b"/a?token=secret", b"http://user:secret@host/a?b=secret", b"*", b"/" + b"s" * 9000]
)
def test_no_query_no_credentials_and_nothing_endless_is_exported(target: bytes) -> None:
    call = call_with(target=target, path=b"/a", query=b"?token=secret")
    text = str(spans(call))
    assert "secret" not in text
    assert len(text) < 5000


def test_every_try_is_a_client_span_with_the_id_that_its_upstream_was_told() -> None:
    first = hop("try", A, "timeout", 100.0)
    second = hop("try", B, "200", 101.0)
    wait = hop("wait", "timeout", "retry", 100.5)
    own, one, between, two = spans(call_with(first, wait, second))
    assert [one["kind"], between["kind"], two["kind"]] == [CLIENT, INTERNAL, CLIENT]
    trace = Context(ID, OWN, True)
    for span, started in ((one, 100.0), (two, 101.0)):
        assert trace.lines(started).split(b"-")[2].decode() == span["spanId"]
        assert span["parentSpanId"] == own["spanId"]
    assert attributes(one) == {
        "http.request.method": "GET",
        "error.type": "timeout",
        "network.protocol.version": "1.1",
        "server.address": "10.0.0.1",
        "server.port": 9001,
        "gateway.upstream": "orders",
        "gateway.target": A,
        "gateway.outcome": "timeout",
    }
    said = attributes(two)
    assert (said["http.request.resend_count"], said["http.response.status_code"]) == (1, 200)
    assert (said["server.address"], said["server.port"]) == ("orders.example", 443)
    assert one["status"] == {"code": 2}
    assert "status" not in two
    assert between["name"] == "wait timeout"


@pytest.mark.parametrize(
    ("outcome", "failed"), [("200", False), ("404", False), ("500", True), ("reset", True), ("cancelled", False)]
)
def test_a_try_failed_with_5xx_or_without_a_reply_but_not_when_another_one_won(outcome: str, failed: bool) -> None:
    tried = spans(call_with(hop("try", A, outcome)))[1]
    assert ("status" in tried) is failed
    assert attributes(tried).get("error.type") == (outcome if failed else None)


def test_hedges_have_spans_of_their_own_and_are_counted_in_the_order_of_their_beginnings() -> None:
    late, won = hop("try", A, "cancelled", 100.0), hop("try", B, "200", 100.03, waited=False)
    race = hop("hedge", "orders", "won", 100.03, waited=False)
    _, one, two, three = spans(call_with(late, won, race))
    assert [attributes(each).get("http.request.resend_count") for each in (one, two)] == [None, 1]
    assert (three["name"], three["kind"]) == ("hedge orders", INTERNAL)


def test_a_connect_is_part_of_its_try() -> None:
    connect, tried = hop("connect", A, "ok", 100.0, 0.01, waited=False), hop("try", A, "200", 100.0)
    _, inner, outer = spans(call_with(connect, tried))
    assert inner["parentSpanId"] == outer["spanId"] == f"{try_span(OWN, 100.0):016x}"
    assert (inner["name"], inner["kind"]) == ("connect", INTERNAL)


def test_what_another_service_was_asked_for_is_a_client_span() -> None:
    asked = hop("ask", "idp")
    shared, local = hop("limit", "per-key", "allowed"), hop("limit", "per-ip", "allowed", waited=False)
    made = spans(call_with(asked, shared, local))[1:]
    assert [(each["name"], each["kind"]) for each in made] == [
        ("ask idp", CLIENT),
        ("limit per-key", CLIENT),
        ("limit per-ip", INTERNAL),
    ]
    assert attributes(made[1]) == {"gateway.name": "per-key", "gateway.outcome": "allowed"}


@pytest.mark.parametrize(
    ("status", "error", "kind", "reason"),
    [
        (503, Shed("circuit_open"), "circuit_open", "circuit_open"),
        (200, UpstreamFailed("upstream_failed", sent=True), "upstream_failed", "upstream_failed"),
        (502, None, "502", None),
        (429, Refused("rate_limited", 429), None, "rate_limited"),
        (404, None, None, None),
    ],
)
def test_a_request_failed_when_it_was_not_the_callers_fault(
    status: int, error: Exception | None, kind: str | None, reason: str | None
) -> None:
    (span,) = spans(call_with(error=error), status)
    said = attributes(span)
    assert (said.get("error.type"), said.get("gateway.reason")) == (kind, reason)
    assert ("status" in span) is (kind is not None)


def test_a_client_that_left_got_no_status_and_nothing_failed() -> None:
    (span,) = spans(call_with(error=ClientGone()), 499)
    assert "http.response.status_code" not in attributes(span)
    assert attributes(span)["gateway.reason"] == "client_gone"
    assert "status" not in span


def test_an_answer_in_the_place_of_a_failure_says_so() -> None:
    instead = hop("fallback", "static", "connect_failure", waited=False)
    own, _, said = spans(call_with(hop("try", A, "connect_failure"), instead, reason="fallback"))
    assert attributes(own)["gateway.reason"] == "fallback"
    assert attributes(said) == {"gateway.name": "static", "gateway.outcome": "connect_failure"}


def test_a_reply_that_streams_has_a_span_for_that() -> None:
    assert spans(call_with(hop("stream", started=100.5, took=1.0)))[1]["name"] == "stream"


def test_a_copy_has_spans_of_its_own_within_the_trace_of_its_original() -> None:
    trace = Context(ID, OWN, True, PARENT)
    original = spans(call_with(hop("try", A, "200", 100.0)))
    copy = call_with(hop("connect", B, "ok", 100.2), hop("try", B, "200", 100.2), path=b"/orders/1")
    made = told(spans_of(copied(copy, trace, Hop("mirror", "shadow", "2xx", 100.1, 0.3, False)), OFFSET))
    for span in made:
        check(span)
    root, connect, tried = made
    assert (root["name"], root["kind"], root["parentSpanId"]) == ("mirror shadow", INTERNAL, f"{OWN:016x}")
    assert (tried["kind"], tried["parentSpanId"]) == (CLIENT, root["spanId"])
    assert connect["parentSpanId"] == tried["spanId"]
    assert not {span["spanId"] for span in made} & {span["spanId"] for span in original}
