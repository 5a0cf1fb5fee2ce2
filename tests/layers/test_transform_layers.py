"""What changes requests and replies, around a Send; and the ends that ask nobody."""

import pytest

from gateway.errors import Refused, UpstreamFailed
from gateway.exchange import Call, Caller, Headers, Reply
from gateway.pipe import pipe
from gateway.transform.answer import Content, header_fields, text_body
from gateway.transform.fields import CallFields
from gateway.transform.paths import add_prefix, strip_prefix
from gateway.transform.public_address import PublicAddress
from gateway.transform.query import query_edit
from gateway.transform.redirect import compile_url, locator, redirect
from gateway.transform.request import transformed
from gateway.transform.request_headers import request_headers
from gateway.transform.respond import respond
from gateway.transform.response_headers import response_headers
from gateway.transform.template import PATH, compile_text
from tests.fakes import explosive, make_call, replying

FIELDS = CallFields(frozenset({"id"}))


def call(path: bytes = b"/api/orders", query: bytes = b"", consumer: str = "alice") -> Call:
    made = make_call()
    made.request.target = path + query
    made.path, made.query, made.params, made.caller = path, query, {"id": "a b"}, Caller(consumer)
    return made


# -- requests


async def test_a_request_goes_on_changed_and_is_afterwards_what_the_client_has_asked_for() -> None:
    seen: list[tuple[bytes, bytes, bytes, frozenset[bytes]]] = []

    async def send(of: Call) -> Reply:
        seen.append((of.path, of.query, of.lines, of.removed))
        return Reply(201, [(b"location", b"/v1/orders/7")])

    edits = [
        request_headers({"X-Path": "{path}"}, {}, [], FIELDS),
        query_edit({}, {"a": "1"}, [], FIELDS),
        strip_prefix("/api"),
        add_prefix(b"/v1"),
    ]
    of = call()
    reply = await pipe(transformed(edits, PublicAddress((), location=True)), to=send)(of)
    assert seen == [(b"/v1/orders", b"?a=1", b"x-path: /api/orders\r\n", frozenset({b"x-path"}))]
    assert (of.path, of.query, of.lines, of.removed) == (b"/api/orders", b"", b"", frozenset())
    assert reply.headers == [(b"location", b"/api/orders/7")]


@pytest.mark.parametrize("error", [UpstreamFailed("upstream_failed", sent=True), Refused("bad_request", 400)])
async def test_a_request_that_fails_is_what_it_was_as_well(error: Exception) -> None:
    async def send(of: Call) -> Reply:
        assert of.path == b"/orders"
        raise error

    of = call()
    with pytest.raises(type(error)):
        await pipe(transformed([strip_prefix("/api")], None), to=send)(of)
    assert of.path == b"/api/orders"


async def test_a_path_that_cannot_be_is_refused_before_anybody_is_asked() -> None:
    of = call(consumer="..")
    layer = transformed([add_prefix(compile_text("/t/{consumer}", FIELDS, PATH))], None)
    with pytest.raises(Refused):
        await pipe(layer, to=explosive())(of)
    assert of.path == b"/api/orders"


# -- replies


async def test_fields_of_replies_are_set_added_and_removed() -> None:
    headers: Headers = [(b"server", b"x"), (b"x-a", b"1"), (b"x-a", b"2"), (b"x-b", b"3")]
    layer = response_headers(
        {"X-A": "{request.id}", "X-None": "{claim.none}"}, {"X-B": "{consumer}"}, ["Server"], FIELDS
    )
    reply = await pipe(layer, to=replying(200, headers))(call())
    assert reply.headers == [(b"x-b", b"3"), (b"x-a", b"test-request"), (b"x-b", b"alice")]
    assert reply.lines is None


async def test_c10_no_value_adds_a_field_to_a_reply() -> None:
    layer = response_headers({"X-A": "{consumer}"}, {}, [], FIELDS)
    reply = await pipe(layer, to=replying(200))(call(consumer="a\r\nSet-Cookie: b"))
    assert reply.headers == [(b"x-a", b"a%0D%0ASet-Cookie: b")]


# -- redirects


@pytest.mark.parametrize(
    ("to", "keep", "query", "location"),
    [
        ("https://docs.example.com", False, b"?a=1", b"https://docs.example.com"),
        ("https://docs.example.com/x", True, b"?a=1", b"https://docs.example.com/x?a=1"),
        ("https://docs.example.com/x?v=2#top", True, b"?a=1", b"https://docs.example.com/x?v=2&a=1#top"),
        ("https://docs.example.com/x", True, b"", b"https://docs.example.com/x"),
        ("https://{host}{path}", True, b"?a=%20", b"https://example.com/api/orders?a=%20"),
        ("/v2{path}/{param.id}", False, b"", b"/v2/api/orders/a%20b"),
        ("/größe?who={consumer}", False, b"", b"/gr%C3%B6%C3%9Fe?who=alice"),
        ("/{claim.none}/evil.example", False, b"", b"/evil.example"),
        ("/a%2Fb", False, b"", b"/a%2Fb"),
    ],
)
async def test_clients_are_sent_where_the_template_says(to: str, keep: bool, query: bytes, location: bytes) -> None:
    send = redirect(locator(compile_url(to, frozenset({"id"})), keep), 308)
    reply = await send(call(query=query))
    assert (reply.status, reply.headers, reply.body) == (308, [(b"location", location)], b"")


async def test_c10_no_value_splits_a_location() -> None:
    send = redirect(locator(compile_url("/{consumer}?a={consumer}", frozenset()), False), 302)
    reply = await send(call(consumer="/evil\r\nX: y?#&"))
    assert reply.headers == [(b"location", b"/%2Fevil%0D%0AX%3A%20y%3F%23%26?a=%2Fevil%0D%0AX%3A%20y%3F%23%26")]


async def test_without_a_host_nobody_is_sent_to_it() -> None:
    of = call()
    of.host = b""
    with pytest.raises(Refused, match="Host"):
        await redirect(locator(compile_url("https://{host}/", frozenset()), False), 301)(of)


# -- answers


async def test_an_answer_is_filled_in_and_always_another_one() -> None:
    content = Content(
        header_fields({"X-Id": "{request.id}"}, FIELDS), text_body("<{consumer}>", "text/html", FIELDS), b"text/html"
    )
    send = respond(418, content)
    first, second = await send(call()), await send(call(consumer="<b>"))
    assert (first.status, first.body, second.body) == (418, b"<alice>", b"<&lt;b&gt;>")
    assert first.headers == [(b"x-id", b"test-request"), (b"content-type", b"text/html")]
    assert first.headers is not second.headers
