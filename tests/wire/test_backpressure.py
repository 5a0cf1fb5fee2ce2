"""Bodies whose reader is slower than their source (G10, G11): everything arrives, and little is held."""

import asyncio
import hashlib

import pytest

from tests.wire.actors import PATIENCE, Client, Gateway, Upstream, Visit
from tests.wire.conftest import Start

SIZE = 64 * 2**20
PIECE = hashlib.shake_256(b"piece").digest(2**18)
KERNEL = 6 * 2**20
"""What the kernel may hold for one socket pair on loopback (tcp_wmem 4 MB and what the receiver may have)."""

HELD = 2 * KERNEL + 2**20
"""Two socket pairs, and what is the gateway's own and this test's own."""


class Source:
    """Counts what it could get rid of."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.pushed = 0

    async def push(self, chunked: bool) -> None:
        for _ in range(SIZE // len(PIECE)):
            self._writer.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)
            await self._writer.drain()
            self.pushed += len(PIECE)
        if chunked:
            self._writer.write(b"0\r\n\r\n")

    async def stalls(self) -> int:
        """Bytes pushed once it cannot push any more."""
        before = -1
        while self.pushed != before:
            before = self.pushed
            await asyncio.sleep(0.2)
        return self.pushed


class Sink:
    """Undoes the framing as far as to know what came, and how much."""

    def __init__(self, reader: asyncio.StreamReader, chunked: bool) -> None:
        self._reader = reader
        self._chunked = chunked
        self._sum = hashlib.sha256()

    async def drink(self) -> str:
        """Read it all, unevenly; the digest of what came."""
        left = SIZE
        while left if not self._chunked else True:
            size = left
            if self._chunked:
                size = int(await self._reader.readuntil(b"\r\n"), 16)
            end = size == 0
            while size:
                data = await self._reader.read(min(size, 2**17))
                assert data, "the body broke off"
                self._sum.update(data)
                size -= len(data)
                left -= len(data)
            if self._chunked:
                assert await self._reader.readexactly(2) == b"\r\n"
            if end:
                break
        assert left == 0
        return self._sum.hexdigest()


WHOLE = hashlib.sha256(PIECE * (SIZE // len(PIECE))).hexdigest()


def framing(chunked: bool) -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % SIZE


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "length"])
async def test_a_download_waits_for_a_slow_reader(start: Start, upstream: Upstream, chunked: bool) -> None:
    source: Source | None = None

    async def script(visit: Visit) -> None:
        nonlocal source
        await visit.request()
        await visit.write(b"HTTP/1.1 200 OK\r\n" + framing(chunked))
        source = Source(visit.writer)
        await source.push(chunked)

    upstream.script = script
    gateway = await start()
    client = await slow_client(gateway)
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.reader.readuntil(b"\r\n\r\n")
    assert source is not None
    held = await source.stalls()
    assert held < HELD, f"{held} bytes are on their way"
    async with asyncio.timeout(30):
        assert await Sink(client.reader, chunked).drink() == WHOLE


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "length"])
async def test_an_upload_waits_for_a_slow_upstream(start: Start, upstream: Upstream, chunked: bool) -> None:
    go_on, digest = asyncio.Event(), ""

    async def script(visit: Visit) -> None:
        nonlocal digest
        await visit.reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        digest = await Sink(visit.reader, chunked).drink()
        await visit.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    upstream.script = script
    gateway = await start(route="body_limit: none")
    client = await gateway.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing(chunked))
    source = Source(client.writer)
    pushing = asyncio.ensure_future(source.push(chunked))
    held = await source.stalls()
    assert held < HELD, f"{held} bytes are on their way"
    go_on.set()
    async with asyncio.timeout(30):
        await pushing
        assert (await client.answer()).status == 201
    assert digest == WHOLE


async def test_a_client_that_stops_reading_its_download_holds_up_nobody_else(start: Start, upstream: Upstream) -> None:
    async def script(visit: Visit) -> None:
        if b"/long" in await visit.request():
            await visit.write(b"HTTP/1.1 200 OK\r\n" + framing(False))
            await Source(visit.writer).push(False)
        else:
            await visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    upstream.script = script
    gateway = await start()
    slow = await slow_client(gateway)
    await slow.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
    await slow.reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(0.2)
    quick = await gateway.client()
    async with asyncio.timeout(PATIENCE):
        assert (await quick.ask(b"GET /short HTTP/1.1\r\nHost: a\r\n\r\n")).body == b"ok"
    slow.reset()
    async with asyncio.timeout(1):
        await gateway.quiet()


async def slow_client(gateway: Gateway) -> Client:
    """Buffers little, so that not reading is felt at the other end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=2**16)
    client = Client(reader, writer)
    gateway.clients.append(client)
    return client
