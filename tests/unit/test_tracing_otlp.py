"""What a collector is told, and what it may say."""

import pytest

from gateway.tracing.otlp import around, encode, partial_success, request, traces_url
from tests.collector import spans_in

SPAN = {
    "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "[]", "kind": 1,
    "startTimeUnixNano": "1", "endTimeUnixNano": "2", "attributes": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("https://a.example/otlp", "https://a.example/otlp/v1/traces"),
        ("https://a.example/otlp/v1/traces", "https://a.example/otlp/v1/traces"),
        ("https://a.example/v1/traces/", "https://a.example/v1/traces"),
        ("https://a.example?tenant=b", "https://a.example/v1/traces?tenant=b"),
    ],
)
def test_spans_go_to_the_usual_path_unless_the_url_says_it_already(base: str, url: str) -> None:
    assert traces_url(base) == url


def test_a_request_holds_the_spans_of_several_calls_and_tells_who_sends_them() -> None:
    frame = around({"service.name": 'a"[]', "service.version": "1"}, "1")
    resource, spans = spans_in(request(frame, [encode([SPAN, SPAN]), encode([SPAN])]))
    assert resource == {"service.name": 'a"[]', "service.version": "1"}
    assert spans == [SPAN] * 3


@pytest.mark.parametrize(
    ("body", "rejected", "why"),
    [
        (b"", 0, ""),
        (b"{}", 0, ""),
        (b'{"partialSuccess":{}}', 0, ""),
        (b'{"partialSuccess":{"rejectedSpans":"5","errorMessage":"too old"}}', 5, "too old"),
        (b'{"partialSuccess":{"rejectedSpans":5}}', 5, ""),
        (b'{"partialSuccess":{"rejectedSpans":"-5"}}', 0, ""),
        (b'{"partialSuccess":{"rejectedSpans":"many"}}', 0, ""),
        (b'{"partialSuccess":{"rejectedSpans":5,"errorMessage":null}}', 5, ""),
        (b'{"partialSuccess":{"rejectedSpans":5,"errorMessage":' + b"[" * 1000 + b"]" * 1000 + b"}}", 5, ""),
        (b'{"partialSuccess":null}', 0, ""),
        (b'{"partialSuccess":[1]}', 0, ""),
        (b"[]", 0, ""),
        (b"\x0a\x02", 0, ""),
    ],
)
def test_a_partial_success_is_heard_and_nonsense_is_none(body: bytes, rejected: int, why: str) -> None:
    assert partial_success(body) == (rejected, why)
