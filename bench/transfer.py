"""Large bodies through the gateway, whose receiving end is slower than its sending end.

Both ends live here. The receiver first reads nothing at all for a moment, then in bursts: whatever the
gateway would buffer, it buffers now.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

PIECE = 256 * 1024
STALL = 1.0
BURST, PAUSE = 4 * 2**20, 0.02
"""The receiver takes this many bytes, then rests for this many seconds: at most some 200 MB/s."""

TIME_LIMIT = 180.0
SAMPLING = 0.02


@asynccontextmanager
async def peer(port: int) -> AsyncIterator[None]:
    """An upstream that takes in what is POSTed, slowly, and sends `/download/SIZE` as fast as it goes."""

    connected: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connected[task] = writer
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                method, target = head.split(" ", 2)[:2]
                if method == "post":
                    await receive(reader, _length(head))
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                else:
                    await send(writer, b"HTTP/1.1 200 OK\r\n", int(target.rpartition("/")[2]))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for writer in connected.values():
            writer.close()
        await asyncio.gather(*connected)


async def growth(port: int, method: str, size: int, resident: Callable[[], int]) -> int:
    """Send or fetch `size` bytes through the gateway at `port`; returns by how much its memory grew at most."""
    # Both directions have been used once before the first look: what is loaded on first use is no growth.
    for each in ("POST", "GET"):
        await _exchange(port, each, 1)
    before = most = resident()
    transfer = asyncio.create_task(_exchange(port, method, size))
    try:
        async with asyncio.timeout(TIME_LIMIT):
            while not transfer.done():
                await asyncio.wait([transfer], timeout=SAMPLING)
                most = max(most, resident())
        transfer.result()
    finally:
        transfer.cancel()
    return most - before


async def _exchange(port: int, method: str, size: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if method == "POST":
            await send(writer, b"POST /upload HTTP/1.1\r\nhost: bench.example\r\n", size)
        else:
            writer.write(b"GET /download/%d HTTP/1.1\r\nhost: bench.example\r\n\r\n" % size)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        if not head.startswith("http/1.1 200 "):
            raise RuntimeError(f"the gateway answered {head.splitlines()[0]}")
        if method == "GET":
            if _length(head) != size:
                raise RuntimeError("the reply has lost its length")
            await receive(reader, size)
    finally:
        writer.close()


async def send(writer: asyncio.StreamWriter, start: bytes, size: int) -> None:
    """A head that begins with `start`, and `size` bytes behind it, as fast as the other side takes them."""
    writer.write(start + b"content-length: %d\r\n\r\n" % size)
    piece = bytes(PIECE)
    left = size
    while left:
        writer.write(piece[:left])
        left -= min(left, PIECE)
        await writer.drain()


async def receive(reader: asyncio.StreamReader, size: int) -> None:
    """Read `size` bytes, reluctantly if they are many. Raises RuntimeError when they end early."""
    if size > BURST:
        await asyncio.sleep(STALL)
    left, burst = size, BURST
    while left:
        piece = await reader.read(min(left, PIECE))
        if not piece:
            raise RuntimeError(f"{left} of {size} bytes never came")
        left -= len(piece)
        burst -= len(piece)
        if burst <= 0:
            burst = BURST
            await asyncio.sleep(PAUSE)


def _length(head: str) -> int:
    return int(head.partition("content-length:")[2].partition("\r\n")[0])
