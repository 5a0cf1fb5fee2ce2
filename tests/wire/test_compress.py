"""Compressed replies over real sockets: framing, promptness, back-pressure, and ends that are none."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from tests.decoding import CODINGS, decoded, decoder
from tests.wire.actors import PATIENCE, Client, Gateway, Upstream, Visit
from tests.wire.conftest import Start
from tests.wire.payloads import get, message

TEXT = b'{"items": [' + b'{"id": 1, "name": "a name"}, ' * 20_000 + b"{}]}"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
STREAM = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

Compressing = Callable[[], Awaitable[Gateway]]


@pytest.fixture
def compressing(start: Start) -> Compressing:
    """Starts a gateway whose one route compresses."""

    return partial(start, route="compress: true")


def accepting(coding: str) -> bytes:
    return get(b"Accept-Encoding: " + coding.encode())


async def piece(client: Client) -> bytes:
    """One chunk of a chunked body."""
    async with asyncio.timeout(PATIENCE):
        size = int(await client.reader.readuntil(b"\r\n"), 16)
        return (await client.reader.readexactly(size + 2))[:-2]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [1024, 3000, 200_000, len(TEXT)])
async def test_a_reply_of_any_size_arrives_whole_and_the_connection_is_kept(
    upstream: Upstream, compressing: Compressing, coding: str, size: int
) -> None:
    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.write(HEAD + b'Content-Length: %d\r\nETag: "a"\r\n\r\n' % size + TEXT[:size])

    upstream.script = script
    client = await (await compressing()).client()
    for _ in range(2):
        answer = await client.ask(accepting(coding))
        assert answer.headers["content-encoding"] == coding
        assert answer.headers["etag"] == 'W/"a"'
        assert answer.headers["vary"] == "accept-encoding"
        assert decoded(coding, answer.body) == TEXT[:size]
    assert b"accept-encoding: " + coding.encode() in upstream.received.lower()


async def test_without_accept_encoding_nothing_changes_but_vary(upstream: Upstream, compressing: Compressing) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(HEAD + b'Content-Length: 3000\r\nETag: "a"\r\n\r\n' + TEXT[:3000])

    upstream.script = script
    answer = await (await (await compressing()).client()).ask(get())
    assert (answer.body, answer.headers["etag"], answer.headers["vary"]) == (TEXT[:3000], '"a"', "accept-encoding")
    assert "content-encoding" not in answer.headers


async def test_http_1_0_reads_to_the_end_of_the_connection(upstream: Upstream, compressing: Compressing) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(STREAM)
        await asyncio.sleep(0.02)
        await visit.write(b"3e8\r\n" + TEXT[:1000] + b"\r\n0\r\n\r\n")

    upstream.script = script
    client = await (await compressing()).client()
    answer = await client.ask(message(b"GET / HTTP/1.0", b"Accept-Encoding: gzip"))
    assert "transfer-encoding" not in answer.headers
    assert decoded("gzip", answer.body) == TEXT[:1000]


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_slow_stream_comes_out_as_it_goes_in(upstream: Upstream, compressing: Compressing, coding: str) -> None:
    turn = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(STREAM)
        for line in (b"one\n", b"two\n", b"six\n"):
            await visit.write(b"4\r\n" + line + b"\r\n")
            await turn.wait()
            turn.clear()
        await visit.write(b"0\r\n\r\n")

    upstream.script = script
    client, reading = await (await compressing()).client(), decoder(coding)
    await client.send(accepting(coding))
    async with asyncio.timeout(PATIENCE):
        await client.reader.readuntil(b"\r\n\r\n")
    for line in (b"one\n", b"two\n", b"six\n"):
        seen = b""
        while seen != line:
            seen += reading.decompress(await piece(client))
        turn.set()
    while not reading.eof:
        assert reading.decompress(await piece(client)) == b""
    assert await piece(client) == b""


async def test_an_event_stream_stays_as_it_is(upstream: Upstream, compressing: Compressing) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(STREAM.replace(b"application/json", b"text/event-stream") + b"9\r\ndata: 1\n\n\r\n0\r\n\r\n")

    upstream.script = script
    answer = await (await (await compressing()).client()).ask(accepting("gzip"))
    assert (answer.body, "vary" in answer.headers) == (b"data: 1\n\n", False)


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_body_that_breaks_off_is_never_complete(
    upstream: Upstream, compressing: Compressing, coding: str
) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(HEAD + b"Content-Length: 900000\r\n\r\n" + TEXT[:300_000])
        await asyncio.sleep(0.05)
        visit.reset()

    upstream.script = script
    client = await (await compressing()).client()
    await client.send(accepting(coding))
    received = await client.rest()
    assert received.startswith(b"HTTP/1.1 200")
    assert not received.endswith(b"0\r\n\r\n")


async def test_a_client_that_leaves_frees_the_upstream(upstream: Upstream, compressing: Compressing) -> None:
    left = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(STREAM)
        try:
            while not visit.writer.is_closing():
                await visit.write(b"1000\r\n" + TEXT[:4096] + b"\r\n")
                await asyncio.sleep(0.001)
        except ConnectionError:
            pass
        left.set()

    upstream.script = script
    gateway = await compressing()
    client = await gateway.client()
    await client.send(accepting("gzip"))
    async with asyncio.timeout(PATIENCE):
        await client.reader.readuntil(b"\r\n\r\n")
        client.reset()
        await left.wait()
        while gateway.busy():
            await asyncio.sleep(0.002)


async def test_a_client_that_does_not_read_holds_the_upstream_back(
    upstream: Upstream, compressing: Compressing
) -> None:
    noise = bytes(n * n * 31 % 251 ^ n * 7 % 256 for n in range(65536))
    written = 0

    async def script(visit: Visit) -> None:
        nonlocal written
        await visit.request()
        await visit.write(STREAM)
        for number in range(1000):
            await visit.write(b"10000\r\n" + noise[number % 997 :] + noise[: number % 997] + b"\r\n")
            written += len(noise)

    upstream.script = script
    client = await (await compressing()).client()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(accepting("gzip"))
    before = -1
    async with asyncio.timeout(PATIENCE):
        while before != written:
            before = written
            await asyncio.sleep(0.3)
    assert written < 32 * 1024 * 1024, f"{written} bytes were taken from the upstream"


async def test_head_and_get_say_the_same(upstream: Upstream, compressing: Compressing) -> None:
    async def script(visit: Visit) -> None:
        while True:
            asked = await visit.request()
            body = b"" if asked.startswith(b"HEAD") else TEXT[:3000]
            await visit.write(HEAD + b'Content-Length: 3000\r\nETag: "a"\r\nAccept-Ranges: bytes\r\n\r\n' + body)

    upstream.script = script
    client = await (await compressing()).client()
    await client.send(message(b"HEAD / HTTP/1.1", b"Accept-Encoding: gzip"))
    head = await client.answer(head_only=True)
    got = await client.ask(accepting("gzip"))
    differ = {"content-length", "date", "x-request-id"}
    assert {k: v for k, v in head.headers.items() if k not in differ} == {
        k: v for k, v in got.headers.items() if k not in differ
    }
    assert "content-length" not in head.headers
