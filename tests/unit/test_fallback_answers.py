import json

import pytest

from gateway.exchange import Caller
from gateway.resilience.fallback_answers import Failed, Static, header_fields, json_body, text_body
from gateway.transform.answer import type_of
from tests.fakes import make_call


def failed(consumer: str = "acme") -> Failed:
    call = make_call()
    call.request.target = b"/orders/./7%20%38?a=b"
    call.route, call.path, call.caller = "orders", b"/inside", Caller(consumer=consumer)
    return Failed(call, 503, "open")


ALL = "{request.id} {route} {consumer} {path} {status} {reason}"
FILLED = "test-request orders acme /orders/7%208 503 open"


def test_all_fields_can_be_told_in_text_json_and_headers() -> None:
    as_text = Static(frozenset(), 200, header_fields({"X-Why": ALL}), text_body(ALL), b"text/plain").reply(failed())
    as_json = Static(frozenset(), 200, (), json_body({"why": [ALL]})).reply(failed())
    assert as_text.headers[0] == (b"x-why", FILLED.encode())
    assert as_text.body == FILLED.encode()
    assert isinstance(as_json.body, bytes)
    assert json.loads(as_json.body) == {"why": [FILLED]}


def test_a_reply_says_that_it_is_a_fallback_and_of_what_kind() -> None:
    reply = Static(frozenset(), 200, body=b"<html>", content_type=b"text/html", kind="file").reply(failed())
    assert (reply.status, reply.fallback, reply.body) == (200, "file", b"<html>")
    assert reply.headers == [(b"x-gateway-fallback", b"file"), (b"content-type", b"text/html")]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b'<i>"&'),
        ("text/html; charset=utf-8", b"&lt;i&gt;&quot;&amp;"),
        ("application/XHTML+xml", b"&lt;i&gt;&quot;&amp;"),
        ("application/problem+json", b'<i>\\"&'),
    ],
)
def test_a_consumers_name_stays_text_whatever_it_is_put_into(content_type: str, body: bytes) -> None:
    template = text_body("{consumer}", content_type)
    assert callable(template)
    assert template(failed('<i>"&')) == body


def test_c10_a_consumers_name_adds_no_header() -> None:
    [(name, value)] = header_fields({"X-Who": "{consumer}"})
    assert name == b"x-who"
    assert callable(value)
    assert value(failed("a\r\nx-admin: yes")) == b"a%0D%0Ax-admin: yes"


@pytest.mark.parametrize(
    ("file", "content_type"),
    [
        ("away.html", "text/html; charset=utf-8"),
        ("away.txt", "text/plain; charset=utf-8"),
        ("away.json", "application/json"),
        ("logo.SVG", "image/svg+xml"),
        ("away.html.gz", "application/octet-stream"),
        ("away", "application/octet-stream"),
        ("/etc/x.unheard-of", "application/octet-stream"),
    ],
)
def test_a_file_has_the_type_of_its_suffix(file: str, content_type: str) -> None:
    assert type_of(file) == content_type
