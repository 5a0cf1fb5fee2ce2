"""Attacks from upstreams (A44, A45 and more): bodies where none may be, broken off, endless, or without framing."""

import asyncio

import pytest

from tests.wire.actors import OK, Client, Gateway, Upstream, Visit
from tests.wire.conftest import Start
from tests.wire.payloads import get, message, post
from tests.wire.replies import EXTRA, is_a_502, left, reply, saying


@pytest.mark.parametrize(
    "body", [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", b"ok", b"2\r\nok\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize(
    ("method", "head"),
    [
        (b"HEAD", reply(b"Content-Length: 45")),
        (b"HEAD", reply(b"Transfer-Encoding: chunked")),
        (b"HEAD", reply()),
        (b"GET", reply(b"Content-Length: 45", status=b"HTTP/1.1 304 Not Modified")),
        (b"GET", reply(b"Content-Length: 45", status=b"HTTP/1.1 204 No Content")),
        (b"GET", reply(b"Transfer-Encoding: chunked", status=b"HTTP/1.1 204 No Content")),
    ],
)
async def test_a44_a_body_where_none_may_be_is_ignored_and_the_connection_dropped(
    client: Client, upstream: Upstream, method: bytes, head: bytes, body: bytes
) -> None:
    upstream.script = saying(head + body)
    await client.send(message(method + b" /1 HTTP/1.1"))
    answer = await client.answer(head_only=True)
    assert answer.status == int(head[9:12])
    upstream.script = saying(OK)
    second = await client.ask(get(target=b"/2"))
    assert (second.status, second.body) == (200, b"ok")
    assert len(upstream.visits) == 2


@pytest.mark.parametrize(
    "data",
    [
        reply(b"Content-Length: 100", body=b"first"),
        reply(b"Transfer-Encoding: chunked", body=b"5\r\nfirst\r\n"),
        reply(b"Transfer-Encoding: chunked", body=b"5\r\nfirst\r\n5\r\nse"),
        reply(b"Transfer-Encoding: chunked", body=b"5\r\nfirst\r\n0\r\n"),
        reply(b"Transfer-Encoding: chunked", body=b"5\r\nfirst\r\n0\r\nX: y\r\n"),
    ],
)
@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a45_a_truncated_reply_is_not_ended_cleanly(
    client: Client, upstream: Upstream, data: bytes, how: str, version: bytes
) -> None:
    async def truncating(visit: Visit) -> None:
        await visit.request()
        await visit.write(data)
        await asyncio.sleep(0.02)
        visit.close() if how == "end" else visit.reset()

    upstream.script = truncating
    await client.send(message(b"GET / HTTP/1.%b" % version[-1:]))
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    received = b""
    try:
        async with asyncio.timeout(5):
            while more := await client.reader.read(1000):
                received += more
    except ConnectionError:
        return  # reset: unmistakable
    assert version == b"1.1"  # else the end would look like the end of the body
    assert not received.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    "part", [b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\n", b"HT", b"HTTP/1.1 100 Continue\r\n\r\n"]
)
async def test_a45_a_truncated_head_is_a_502(client: Client, upstream: Upstream, part: bytes) -> None:
    upstream.script = saying(part, end=True)
    await is_a_502(client, upstream)


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
@pytest.mark.parametrize(
    "line", [b"X: " + b"y" * 100_000, b"X: y\r\n" * 20_000, b"X" * 100_000], ids=["value", "fields", "name"]
)
async def test_a_huge_head_of_a_reply_is_a_502(client: Client, upstream: Upstream, line: bytes, end: bytes) -> None:
    upstream.script = saying(b"HTTP/1.1 200 OK\r\n" + line + end)
    await is_a_502(client, upstream)


@pytest.mark.parametrize("trailer", [b"X: " + b"y" * 300_000, b"X: y\r\n" * 50_000], ids=["one", "many"])
async def test_endless_trailers_of_a_reply_break_it_off(client: Client, upstream: Upstream, trailer: bytes) -> None:
    upstream.script = saying(reply(b"Transfer-Encoding: chunked", body=b"5\r\nfirst\r\n"), b"0\r\n" + trailer)
    await client.send(get())
    assert b"0\r\n\r\n" not in await client.rest()
    await left(upstream.visits[0])


async def test_trailers_of_a_reply_are_dropped(client: Client, upstream: Upstream) -> None:
    body = b"2\r\nok\r\n0\r\nContent-Type: x\r\nX-Checksum: 1\r\n\r\n"
    upstream.script = saying(reply(b"Transfer-Encoding: chunked", b"Trailer: X-Checksum", body=body))
    answer = await client.ask(get())
    assert answer.body == b"ok"
    assert "content-type" not in answer.headers
    assert (await client.ask(get())).status == 200
    assert len(upstream.visits) == 1


@pytest.mark.parametrize(
    "data",
    [
        reply(body=b"ok"),
        reply(b"Connection: close", body=b"ok"),
        reply(status=b"HTTP/1.0 200 OK", body=b"ok"),
        reply(b"Connection: keep-alive", status=b"HTTP/1.0 200 OK", body=b"ok"),
    ],
)
async def test_a_reply_without_framing_lasts_until_the_end_of_its_connection(
    client: Client, upstream: Upstream, data: bytes
) -> None:
    upstream.script = saying(data, b"HTTP/1.1 ", end=True)
    assert (await client.ask(get())).body == b"okHTTP/1.1 "
    upstream.script = saying(OK)
    assert (await client.ask(get())).body == b"ok"


@pytest.mark.parametrize(
    ("fields", "visits"),
    [([], 2), ([b"Connection: keep-alive"], 1), ([b"Connection: close"], 2), ([b"Connection: keep-alive, close"], 2)],
)
async def test_a_connection_to_an_http_1_0_upstream_is_kept_only_when_it_says_so(
    client: Client, upstream: Upstream, fields: list[bytes], visits: int
) -> None:
    upstream.script = saying(reply(b"Content-Length: 2", *fields, status=b"HTTP/1.0 200 OK", body=b"ok"))
    for _ in range(2):
        assert (await client.ask(get())).body == b"ok"
    assert len(upstream.visits) == visits


async def test_a_late_reply_to_a_given_up_request_meets_no_other(start: Start, upstream: Upstream) -> None:
    gateway: Gateway = await start(up="timeouts: {try: 50ms}, retry: off, breaker: off")
    client = await gateway.client()

    async def late(visit: Visit) -> None:
        await visit.request()
        await asyncio.sleep(0.1)
        await visit.write(EXTRA)

    upstream.script = late
    assert (await client.ask(post(b"Content-Length: 2", body=b"hi"))).status == 504
    upstream.script = saying(OK)
    await asyncio.sleep(0.1)
    assert (await client.ask(get())).body == b"ok"
    assert len(upstream.visits) == 2
