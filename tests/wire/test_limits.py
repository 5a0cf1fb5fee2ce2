"""The limits of the `wire:` section, with times short enough to wait for."""

import asyncio
import socket

import pytest

from gateway.http.server import Limits
from tests.wire.actors import OK, Client, Upstream, Visit, replying
from tests.wire.conftest import Start
from tests.wire.payloads import CHUNKED, chunks, get, message, post
from tests.wire.strict import read_requests

SHORT = 0.15


def limits(**settings: float) -> Limits:
    """Generous but for `settings`."""
    return Limits(**{"drain_timeout": 0.2, **settings})  # type: ignore[arg-type]


async def is_late(client: Client) -> None:
    """A 408, no sooner than the time that is allowed, and the end."""
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert await client.ends()


@pytest.mark.parametrize(
    "part", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX", b"\r\n\r\nGET", get()[:-1]]
)
async def test_h1_a_head_that_comes_too_slowly_is_a_408(start: Start, upstream: Upstream, part: bytes) -> None:
    client = await (await start(limits=limits(header_timeout=SHORT))).client()
    before = asyncio.get_running_loop().time()
    await client.send(part)
    await is_late(client)
    assert SHORT * 0.9 <= asyncio.get_running_loop().time() - before < SHORT + 1
    assert upstream.received == b""


async def test_h1_single_bytes_do_not_prolong_the_time_for_a_head(start: Start, upstream: Upstream) -> None:
    client = await (await start(limits=limits(header_timeout=SHORT))).client()
    before = asyncio.get_running_loop().time()
    for byte in get(b"X: " + b"y" * 1000):
        await client.send(bytes((byte,)))
        await asyncio.sleep(0.02)
        if client.reader._buffer:  # type: ignore[attr-defined]  # the answer is there
            break
    await is_late(client)
    assert asyncio.get_running_loop().time() - before < SHORT + 1
    assert upstream.received == b""


async def test_a_head_that_comes_in_single_bytes_but_in_time_is_served(start: Start, upstream: Upstream) -> None:
    client = await (await start()).client()
    for _ in range(2):
        for byte in get(b"X: y"):
            await client.send(bytes((byte,)))
        assert (await client.answer()).status == 200
    assert len(read_requests(upstream.received)[0]) == 2


@pytest.mark.parametrize(
    "data", [post(b"Content-Length: 10", body=b"hello"), chunks(b"5\r\nhello\r\n"), chunks(b"5\r\nhel")]
)
async def test_h2_a_body_that_stops_coming_is_a_408(start: Start, upstream: Upstream, data: bytes) -> None:
    client = await (await start(limits=limits(body_timeout=SHORT))).client()
    await client.send(data)
    await is_late(client)
    assert read_requests(upstream.received)[0] == []
    await asyncio.wait_for(upstream.visits[0].ended.wait(), 5)


async def test_a_body_that_keeps_coming_is_not_late(start: Start, upstream: Upstream) -> None:
    client = await (await start(limits=limits(body_timeout=SHORT))).client()
    await client.send(post(b"Content-Length: 5"))
    for _ in range(5):
        await asyncio.sleep(SHORT / 2)
        await client.send(b"x")
    assert (await client.answer()).status == 200


async def test_the_rest_of_a_body_that_was_answered_already_must_come_in_time(start: Start, upstream: Upstream) -> None:
    client = await (await start(route="body_limit: 10B", limits=limits(body_timeout=SHORT))).client()
    assert (await client.ask(post(b"Content-Length: 20", body=b"x"))).status == 413
    await is_late(client)
    assert upstream.received == b""


async def test_h4_an_idle_connection_is_closed(start: Start) -> None:
    gateway = await start(limits=limits(idle_timeout=SHORT))
    fresh, used, half = await gateway.client(), await gateway.client(), await gateway.client()
    assert (await used.ask(get())).status == 200
    await half.send(b"\r\n\r\n")
    assert await fresh.ends()
    assert await used.ends()
    assert await half.ends()
    assert not gateway.server.connections


async def test_a_slow_upstream_does_not_make_a_connection_idle(start: Start, upstream: Upstream) -> None:
    async def slow(visit: Visit) -> None:
        await visit.request()
        await asyncio.sleep(SHORT * 3)
        await visit.write(OK)

    upstream.script = slow
    short = limits(idle_timeout=SHORT, header_timeout=SHORT, body_timeout=SHORT)
    client = await (await start(limits=short)).client()
    assert (await client.ask(get())).status == 200


async def test_h5_connections_beyond_the_limit_get_a_503(start: Start, upstream: Upstream) -> None:
    gateway = await start(limits=limits(connections=2))
    first, second = await gateway.client(), await gateway.client()
    assert (await first.ask(get())).status == 200
    assert (await second.ask(get())).status == 200
    third = await gateway.client()
    answer = await third.answer()
    assert (answer.status, answer.headers["connection"], "retry-after" in answer.headers) == (503, "close", True)
    await third.send(get(target=b"/third"))
    assert await third.ends()
    first.close()
    async with asyncio.timeout(5):
        while len(gateway.server.connections) > 1:
            await asyncio.sleep(0.005)
    assert (await (await gateway.client()).ask(get())).status == 200
    assert b"/third" not in upstream.received


async def test_the_limits_of_a_head_are_those_configured(start: Start, upstream: Upstream) -> None:
    gateway = await start(limits=limits(header_limit=1000, target_limit=100, header_count=5))
    for data, status in [
        (get(target=b"/" + b"a" * 99), 200),
        (get(target=b"/" + b"a" * 100), 414),
        (get(b"X: " + b"y" * 900), 200),
        (get(b"X: " + b"y" * 1000), 431),
        (get(*(b"X: y" for _ in range(4))), 200),
        (get(*(b"X: y" for _ in range(5))), 431),
    ]:
        client = await gateway.client()
        assert (await client.ask(get())).status == 200
        assert (await client.ask(data)).status == status
        if status != 200:
            assert await client.ends()
    assert len(upstream.requests) == 9


async def test_a_repeated_head_with_a_longer_target_is_still_limited(start: Start, upstream: Upstream) -> None:
    client = await (await start(limits=limits(target_limit=100))).client()
    for _ in range(3):
        assert (await client.ask(get())).status == 200
    assert (await client.ask(get(target=b"/" + b"a" * 100))).status == 414
    assert await client.ends()
    assert len(upstream.requests) == 3


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (post(b"Content-Length: 10", body=b"0123456789"), 200),
        (post(b"Content-Length: 11", body=b"0123456789a"), 413),
        (post(b"Content-Length: 11"), 413),
        (chunks(b"a\r\n0123456789\r\n0\r\n\r\n"), 200),
        (chunks(b"b\r\n0123456789a\r\n0\r\n\r\n"), 413),
        (chunks(b"1\r\nx\r\n" * 11 + b"0\r\n\r\n"), 413),
        (message(b"GET / HTTP/1.1", CHUNKED, body=b"b\r\n0123456789a\r\n0\r\n\r\n"), 413),
    ],
)
async def test_h7_a_body_beyond_its_limit_is_a_413(start: Start, upstream: Upstream, data: bytes, status: int) -> None:
    client = await (await start(route="body_limit: 10B")).client()
    assert (await client.ask(data)).status == status
    assert len(read_requests(upstream.received)[0]) == (status == 200)


async def test_h3_a_client_that_does_not_read_its_reply_is_cut_off(start: Start, upstream: Upstream) -> None:
    async def endless(visit: Visit) -> None:
        await visit.request()
        await visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while not visit.writer.is_closing():
            await visit.write(b"x" * 65536)

    upstream.script = endless
    gateway = await start(limits=limits(body_timeout=SHORT))
    client = await gateway.client()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(get())
    async with asyncio.timeout(5):
        while not gateway.server.connections:
            await asyncio.sleep(0.005)
        while gateway.server.connections or gateway.busy():
            await asyncio.sleep(0.01)


async def test_a_client_that_reads_slowly_but_steadily_gets_everything(start: Start, upstream: Upstream) -> None:
    size = 6_000_000
    upstream.script = replying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
    gateway = await start(limits=limits(body_timeout=SHORT))
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", gateway.port))
        await loop.sock_sendall(client, get())
        received = 0
        while data := await loop.sock_recv(client, 80_000):
            received += len(data)
            if received >= size:
                break
            await asyncio.sleep(0.02)
    assert received >= size
