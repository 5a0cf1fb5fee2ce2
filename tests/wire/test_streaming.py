"""Bodies on their way: nothing is buffered that could go on, and every odd ending has one outcome."""

import asyncio
import random
import time

import pytest

from tests.wire.actors import OK, Client, Script, Upstream, Visit
from tests.wire.conftest import Start

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
UNBUFFERED = 0.05


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def ended(visit: Visit) -> None:
    async with asyncio.timeout(1):
        await visit.ended.wait()


# -- server-sent events (G9) -----------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked\r\n\r\n", b"\r\n"], ids=["chunked", "until close"])
async def test_g9_each_event_arrives_as_it_is_sent(client: Client, upstream: Upstream, framing: bytes) -> None:
    sent: list[float] = []

    async def script(visit: Visit) -> None:
        await visit.request()
        sent.append(time.monotonic())
        await visit.write(EVENTS + framing)
        for n in range(5):
            await asyncio.sleep(0.02)
            event = b"data: %d\n\n" % n
            sent.append(time.monotonic())
            await visit.write(chunk(event) if b"chunked" in framing else event)

    upstream.script = script
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nAccept-Encoding: gzip\r\n\r\n")
    head = await client.reader.readuntil(b"\r\n\r\n")
    came = [time.monotonic()]
    assert b"content-type: text/event-stream" in head
    assert b"content-encoding" not in head
    for n in range(5):
        await client.reader.readuntil(b"data: %d\n\n" % n)
        came.append(time.monotonic())
    late = max(b - a for a, b in zip(sent, came, strict=True))
    assert late < UNBUFFERED, f"{late * 1000:.1f} ms"


@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_g9_a_client_that_leaves_frees_the_upstream_within_a_second(
    start: Start, upstream: Upstream, how: str, silent: bool
) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(EVENTS + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"data: 0\n\n"))
        while not silent:
            await asyncio.sleep(0.02)
            await visit.write(chunk(b"data: 1\n\n"))

    upstream.script = script
    gateway = await start()
    client = await gateway.client()
    await client.send(GET)
    await client.reader.readuntil(b"data: 0\n\n")
    left = time.monotonic()
    client.close() if how == "close" else client.reset()
    async with asyncio.timeout(1):
        while gateway.busy() or gateway.server.connections:
            await asyncio.sleep(0.005)
    if silent:
        await ended(upstream.visits[0])
    assert time.monotonic() - left < 1


# -- bodies both ways ------------------------------------------------------------------------------------


async def echo(visit: Visit) -> None:
    """Sends a request's body back in its reply, framed the same way."""
    while True:
        head, _, body = (await visit.request()).partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in head:
            await visit.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        else:
            await visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_a_body_arrives_byte_for_byte_however_it_is_cut(
    client: Client, upstream: Upstream, framing: str, seed: int
) -> None:
    upstream.script = echo
    dice = random.Random(seed)
    body = dice.randbytes(dice.choice([1, 100, 16_384, 70_000, 300_000]))
    cuts = sorted(dice.randrange(len(body) + 1) for _ in range(5))
    parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if b > a]
    for _ in range(2):  # the connection is as good as new afterwards
        if framing == "chunked":
            pieces = [CHUNKED, *map(chunk, parts), b"0\r\n\r\n"]
        else:
            pieces = [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body), *parts]
        for piece in pieces:
            await client.send(piece)
            await asyncio.sleep(dice.choice([0, 0, 0.002]))
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, body)
    assert len(upstream.visits) == 1


async def test_request_and_reply_bodies_flow_at_the_same_time(client: Client, upstream: Upstream) -> None:
    async def script(visit: Visit) -> None:
        while b"\r\n\r\n" not in visit.received:
            await visit.read()
        await visit.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while data := await visit.read():
            await visit.write(data)  # chunks are chunks
            if data.endswith(b"0\r\n\r\n"):
                return

    upstream.script = script
    await client.send(CHUNKED)
    assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    for n in range(10):
        said = b"line %d" % n
        await client.send(chunk(said))
        assert await client.reader.readexactly(len(chunk(said))) == chunk(said)
    await client.send(b"0\r\n\r\n")
    assert await client.reader.readexactly(5) == b"0\r\n\r\n"


async def test_trailers_are_dropped_in_both_directions(client: Client, upstream: Upstream) -> None:
    trailers = b"0\r\nX-Sum: 1\r\nAuthorization: Bearer x\r\n\r\n"
    upstream.script = script_of(
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"ok") + trailers
    )
    answer = await client.ask(CHUNKED + chunk(b"hello") + trailers)
    assert (answer.status, answer.body) == (200, b"ok")
    assert not {"trailer", "x-sum", "authorization"} & set(answer.headers)
    assert b"x-sum" not in upstream.received.lower()
    assert b"authorization" not in upstream.received.lower()


def script_of(*replies: bytes) -> Script:
    async def script(visit: Visit) -> None:
        for reply in replies:
            await visit.request()
            await visit.write(reply)

    return script


# -- replies without a body ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_line", "reply", "status", "length"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", 200, "1234"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, None),
        (b"HEAD", b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n", 404, "9"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        (b"DELETE", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, None),
        (b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nContent-Length: 1234\r\n\r\n', 304, "1234"),
        (b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n', 304, None),
    ],
)
async def test_a_reply_without_a_body_ends_with_its_head(
    client: Client, upstream: Upstream, request_line: bytes, reply: bytes, status: int, length: str | None
) -> None:
    upstream.script = script_of(reply, reply, OK)
    for _ in range(2):
        await client.send(request_line + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = await client.answer(head_only=True)
        assert (answer.status, answer.headers.get("content-length")) == (status, length)
        assert "transfer-encoding" not in answer.headers
    assert (await client.ask(GET)).body == b"ok"  # nothing was left over on either connection
    assert len(upstream.visits) == 1


# -- 100-continue ----------------------------------------------------------------------------------------


def expecting(version: bytes = b"1.1", length: int = 5, route: bytes = b"/") -> bytes:
    line = b"POST %b HTTP/%b\r\n" % (route, version)
    return line + b"Host: a\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % length


async def test_a_client_that_waits_is_told_to_go_on_once_the_upstream_is_there(
    client: Client, upstream: Upstream
) -> None:
    await client.send(expecting())
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    answer = await client.ask(b"hello")
    assert answer.status == 200
    assert b"expect" not in upstream.received.lower()
    assert upstream.received.endswith(b"\r\n\r\nhello")
    assert (await client.ask(GET)).status == 200


async def test_a_body_that_is_there_already_needs_no_100(client: Client, upstream: Upstream) -> None:
    await client.send(expecting() + b"hello")
    assert (await client.reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_an_http_1_0_client_is_never_told_100(client: Client, upstream: Upstream) -> None:
    await client.send(expecting(b"1.0"))
    await asyncio.sleep(0.05)
    await client.send(b"hello")
    assert (await client.reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("why", ["no route", "too large", "unreachable"])
async def test_a_request_that_is_refused_before_its_body_gets_no_100(
    start: Start, upstream: Upstream, why: str
) -> None:
    yaml = f"""
listen: {{admin: "off"}}
upstreams:
  up: {{targets: ["http://127.0.0.1:{upstream.port}"], retry: off, breaker: off}}
  nowhere: {{targets: ["http://127.0.0.1:1"], retry: off, breaker: off}}
routes:
  - {{name: small, match: {{path: /small}}, upstream: up, body_limit: 100B}}
  - {{name: nowhere, match: {{path: /nowhere}}, upstream: nowhere}}
"""
    client = await (await start(yaml)).client()
    route, status = {"no route": (b"/x", 404), "too large": (b"/small", 413), "unreachable": (b"/nowhere", 502)}[why]
    await client.send(expecting(length=200, route=route))
    line = await client.reader.readuntil(b"\r\n")
    assert line.startswith(b"HTTP/1.1 %d " % status)
    rest = await client.rest()  # whether the body comes or not is unknown: nothing can follow
    assert b"connection: close" in rest
    assert upstream.received == b""


# -- replies before the request has ended ----------------------------------------------------------------


@pytest.mark.parametrize("sent", [0, 10, 200_000])
async def test_an_early_reply_reaches_a_client_that_is_still_sending(
    client: Client, upstream: Upstream, sent: int
) -> None:
    reply = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"

    async def script(visit: Visit) -> None:
        while b"\r\n\r\n" not in visit.received:
            await visit.read()
        await visit.write(reply)
        visit.close()

    upstream.script = script
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + b"x" * sent)
    answer = await client.answer()
    assert (answer.status, answer.body, answer.headers["connection"]) == (413, b"big", "close")


async def test_an_early_reply_from_an_upstream_that_reads_no_further_frees_its_connection(
    start: Start, upstream: Upstream
) -> None:
    hold = asyncio.Event()

    async def script(visit: Visit) -> None:
        while b"\r\n\r\n" not in visit.received:
            await visit.read()
        await asyncio.sleep(0.2)  # until every buffer is full
        await visit.write(OK)
        await hold.wait()  # keeps the connection, without reading

    upstream.script = script
    gateway = await start(route="body_limit: none")
    client = await gateway.client()
    client.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 20_000_000)
    assert (await client.answer()).status == 200
    async with asyncio.timeout(1):
        while gateway.busy():
            await asyncio.sleep(0.005)
    hold.set()


# -- half-closed and old clients -------------------------------------------------------------------------


@pytest.mark.usual_patience
@pytest.mark.parametrize("delay", [0.0, 0.3])
async def test_a_half_closed_client_gets_its_answer(client: Client, upstream: Upstream, delay: float) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await asyncio.sleep(delay)
        await visit.write(OK)

    upstream.script = script
    await client.send(GET)
    client.end()
    assert (await client.answer()).body == b"ok"
    assert await client.ends()


@pytest.mark.usual_patience
async def test_a_half_closed_client_gets_all_of_a_long_answer(client: Client, upstream: Upstream) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            await asyncio.sleep(0.3)  # longer in all than a silent client may be half-closed
            await visit.write(chunk(b"part"))
        await visit.write(b"0\r\n\r\n")

    upstream.script = script
    await client.send(GET)
    client.end()
    assert (await client.answer()).body == b"part" * 5


async def test_pipelined_requests_before_a_half_close_are_all_answered(client: Client, upstream: Upstream) -> None:
    await client.send(GET * 3)
    client.end()
    for _ in range(3):
        assert (await client.answer()).body == b"ok"
    assert await client.ends()


@pytest.mark.parametrize(
    ("fields", "kept"), [(b"", False), (b"Connection: keep-alive\r\n", True), (b"Connection: close\r\n", False)]
)
async def test_an_http_1_0_client_is_kept_only_when_it_asks(
    client: Client, upstream: Upstream, fields: bytes, kept: bool
) -> None:
    request = b"GET / HTTP/1.0\r\n" + fields + b"\r\n"
    answer = await client.ask(request)
    assert (answer.status, answer.body) == (200, b"ok")
    if kept:
        assert answer.headers["connection"] == "keep-alive"
        assert (await client.ask(request)).status == 200
    else:
        assert answer.headers["connection"] == "close"
        assert await client.ends()


@pytest.mark.parametrize("keep", [b"", b"Connection: keep-alive\r\n"])
async def test_an_http_1_0_client_gets_a_stream_until_the_end(client: Client, upstream: Upstream, keep: bytes) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"one "))
        await asyncio.sleep(0.02)
        await visit.write(chunk(b"two") + b"0\r\n\r\n")

    upstream.script = script
    answer = await client.ask(b"GET / HTTP/1.0\r\n" + keep + b"\r\n")
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["connection"] == "close"
    assert answer.body == b"one two"
