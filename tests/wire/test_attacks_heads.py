"""Attacks on a request's head (A21-A27, A32-A36): what is malformed or ambiguous is answered here and goes nowhere."""

import pytest

from tests.wire.actors import Client, Upstream
from tests.wire.conftest import Start
from tests.wire.payloads import CHUNKED, HELLO, NEXT, get, message, post, refused
from tests.wire.strict import read_requests

CONTROLS = [bytes((code,)) for code in (*range(32), 127) if code != 9]
"""Every control byte; only the tab may stand in a value (RFC 9110 5.5)."""


@pytest.mark.parametrize(
    "shape", [b"X: a%bb", b"X: %bb", b"X: b%b", b"Cookie: a=%b;", b"Host%b: a", b"X%bY: b", b"%bX: b"]
)
async def test_a21_a22_a_control_byte_in_a_field_is_refused(start: Start, upstream: Upstream, shape: bytes) -> None:
    gateway = await start()
    for control in CONTROLS:
        await refused(await gateway.client(), upstream, get(shape % control))


@pytest.mark.parametrize("tail", [b"\r\nX-Evil: 1", b"\nX-Evil: 1", b"\rX-Evil: 1", b"\x00"])
async def test_a21_no_line_end_can_be_smuggled_into_a_value(client: Client, upstream: Upstream, tail: bytes) -> None:
    if tail.startswith(b"\r\n"):  # that is simply the next field
        assert (await client.ask(get(b"X: y" + tail))).status == 200
        assert b"\r\nx-evil: 1\r\n" in upstream.received
        return
    await refused(client, upstream, get(b"X: y" + tail))


async def test_a22_tabs_and_high_bytes_in_a_value_go_on_as_they_are(client: Client, upstream: Upstream) -> None:
    assert (await client.ask(get(b"X:\t a\tb \xe2\x98\x83 \t", b"Y:", b"Z:\t"))).status == 200
    ((request,), _) = read_requests(upstream.received)
    assert (request.headers[b"x"], request.headers[b"y"], request.headers[b"z"]) == (b"a\tb \xe2\x98\x83", b"", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\nZ: z\r\n\r\n",
        b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_a23_a_line_feed_alone_ends_no_line(client: Client, upstream: Upstream, data: bytes) -> None:
    await refused(client, upstream, data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\rHost: a\r\r",
        b"GET / HTTP/1.1\r\nHost: a\r\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\rX",
        b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
        b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET\r / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\r: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX:\ry\r\n\r\n",
    ],
)
async def test_a24_a_carriage_return_alone_is_refused(client: Client, upstream: Upstream, data: bytes) -> None:
    await refused(client, upstream, data)


@pytest.mark.parametrize("ends", [b"\r\n", b"\r\n\r\n\r\n"])
async def test_a24_empty_lines_before_a_request_are_skipped(client: Client, upstream: Upstream, ends: bytes) -> None:
    for _ in range(2):
        assert (await client.ask(ends + get(target=b"/x"))).status == 200
    assert [r.target for r in read_requests(upstream.received)[0]] == [b"/x", b"/x"]


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b":",
        b": x",
        b"X",
        b"X y",
        b"X Y: z",
        b"=",
        b"\xffX: y",
        b"X\xe4: y",
        *(b"X%c: y" % c for c in b'"(),/;<=>?@[\\]{}'),
    ],
)
async def test_a25_an_empty_or_malformed_field_name_is_refused(
    client: Client, upstream: Upstream, field: bytes
) -> None:
    if field:
        await refused(client, upstream, get(field))
    else:  # an empty line ends the head
        assert (await client.ask(get())).status == 200


@pytest.mark.parametrize("space", [b" ", b"\t", b"  ", b" \t"])
@pytest.mark.parametrize("field", [b"X: y", b"Host: b", b"Content-Length: 5", b"X", b""])
async def test_a26_white_space_before_the_first_field_is_refused(
    client: Client, upstream: Upstream, space: bytes, field: bytes
) -> None:
    await refused(client, upstream, message(b"GET / HTTP/1.1", space + field, b"Host: a", host=b""))


@pytest.mark.parametrize(
    "fields", [[CHUNKED], [CHUNKED, b"Connection: keep-alive"], [b"Transfer-Encoding: gzip, chunked"]]
)
async def test_a27_transfer_encoding_on_http_1_0_is_refused(
    client: Client, upstream: Upstream, fields: list[bytes]
) -> None:
    await refused(client, upstream, post(*fields, body=HELLO, version=b"1.0"))


@pytest.mark.parametrize("settings", [b"", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"])
async def test_a32_the_preface_of_http_2_is_refused(client: Client, upstream: Upstream, settings: bytes) -> None:
    await refused(client, upstream, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)


async def test_a32_an_upgrade_to_h2c_is_ignored_and_never_tunnelled(client: Client, upstream: Upstream) -> None:
    fields = b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"
    await client.send(get(*fields) + get(target=b"/next"))
    assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    requests, left = read_requests(upstream.received)
    assert [request.target for request in requests] == [b"/", b"/next"]
    assert left == b""
    assert b"h2c" not in upstream.received


async def test_a32_an_upgrade_to_h2c_with_a_body_is_refused(client: Client, upstream: Upstream) -> None:
    await refused(client, upstream, post(b"Upgrade: h2c", b"Connection: upgrade", b"Content-Length: 45", body=NEXT))


@pytest.mark.parametrize(
    "data",
    [
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n" + NEXT,
        b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
        message(b"TRACE / HTTP/1.1"),
        message(b"TRACE / HTTP/1.1", b"Content-Length: 5", body=b"hello"),
    ],
)
async def test_a33_connect_and_trace_are_not_served(client: Client, upstream: Upstream, data: bytes) -> None:
    answer = await client.ask(data)
    assert answer.status in (400, 405)
    assert answer.headers["connection"] == "close"
    assert await client.ends()
    assert upstream.received == b""


async def test_a34_options_for_the_server_itself_is_answered_here(client: Client, upstream: Upstream) -> None:
    answer = await client.ask(message(b"OPTIONS * HTTP/1.1"))
    assert (answer.status, "GET" in answer.headers["allow"]) == (204, True)
    assert (await client.ask(get())).status == 200
    assert upstream.requests == [b"GET /"]


@pytest.mark.parametrize("method", [b"FOO", b"get", b"Get", b"GETX", b"XGET", b"G", b"M-SEARCHX", b"!", b"A" * 64])
async def test_a35_an_unknown_method_is_not_served(client: Client, upstream: Upstream, method: bytes) -> None:
    await refused(client, upstream, message(method + b" / HTTP/1.1"), 501)


@pytest.mark.parametrize(
    "method", [b"G(T", b"GE\xf6", b"<GET>", b"GET/", b"G\x00T", b"", b'"GET"', b"A" * 65, b"{}", b"\x16\x03\x01"]
)
async def test_a35_a_method_that_is_no_token_is_refused(client: Client, upstream: Upstream, method: bytes) -> None:
    await refused(client, upstream, message(method + b" / HTTP/1.1"))


async def test_a35_a_method_that_the_route_does_not_take_is_answered_with_those_it_does(
    start: Start, upstream: Upstream
) -> None:
    yaml = f"""
listen: {{admin: "off"}}
upstreams: {{up: {{targets: ["http://127.0.0.1:{upstream.port}"]}}}}
routes: [{{name: all, match: {{path: "/**", methods: [GET, POST]}}, upstream: up}}]
"""
    client = await (await start(yaml)).client()
    answer = await client.ask(message(b"DELETE / HTTP/1.1"))
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert upstream.received == b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get(target=b"/" + b"a" * 8192), 414),
        (get(target=b"/?" + b"a" * 60000), 414),
        (b"GET /" + b"a" * 100_000, 414),
        (get(b"X: " + b"a" * 32768), 431),
        (get(b"X" * 32768 + b": a"), 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000, 431),
        (get(*(b"X-%d: y" % n for n in range(100))), 431),
        (get(*(b"X: y" for _ in range(2000))), 431),
    ],
    ids=["target", "query", "endless target", "value", "name", "endless value", "101 fields", "2001 fields"],
)
async def test_a36_a_head_beyond_its_limits_is_refused(
    client: Client, upstream: Upstream, data: bytes, status: int
) -> None:
    await refused(client, upstream, data, status)


@pytest.mark.parametrize(
    "data",
    [get(target=b"/" + b"a" * 8191), get(b"X: " + b"a" * 32000), get(*(b"X-%d: y" % n for n in range(99)))],
    ids=["target", "value", "100 fields"],
)
async def test_a36_a_head_just_within_its_limits_is_served(client: Client, upstream: Upstream, data: bytes) -> None:
    assert (await client.ask(data)).status == 200
    assert len(read_requests(upstream.received)[0]) == 1
