"""An upstream in a thread of its own that answers as the path says, and counts who came.

/wait/SECONDS/… answers late, /status/CODE/… with that status, /events sends events until nobody listens,
/client tells the X-Forwarded-For it was sent; any other path is answered with itself. A body is counted.
"""

import asyncio
import re
from contextlib import suppress
from threading import Thread

import uvloop

LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")
FORWARDED = re.compile(rb"(?i)\r\nx-forwarded-for: ([^\r]*)")
EVENT = b"d\r\ndata: tick\n\n\n\r\n"


class Upstream:
    """Running, as long as its `with` is."""

    def __init__(self) -> None:
        self.port = 0
        self.requests = 0
        self.connections = 0
        """All that there ever were."""
        self._loop = uvloop.new_event_loop()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._ending = asyncio.Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Upstream":
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        self._ending.set()
        for writer in list(self._open):
            writer.transport.abort()
        while self._open:
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                await self._answer(head, await self._body(head, reader), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _body(self, head: bytes, reader: asyncio.StreamReader) -> int:
        """Its length, after all of it has come."""
        found = LENGTH.search(head)
        left = length = int(found[1]) if found else 0
        while left:
            piece = await reader.read(min(left, 65536))
            if not piece:
                raise ConnectionError("the body broke off")
            left -= len(piece)
        return length

    async def _answer(self, head: bytes, length: int, writer: asyncio.StreamWriter) -> None:
        path = head.split(b" ", 2)[1]
        status, body = 200, path
        match path.decode().strip("/").split("/"):
            case ["wait", seconds, *_]:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), float(seconds))
            case ["status", code, *_]:
                status = int(code)
            case ["client", *_]:
                found = FORWARDED.search(head)
                body = found[1] if found else b""
            case ["upload", *_]:
                body = b"%d" % length
            case ["events", *_]:
                await self._stream(writer)
        if writer.is_closing():
            raise ConnectionError("nobody waits for it any more")
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(EVENT)
            await writer.drain()
            await asyncio.sleep(0.05)
        raise ConnectionError("nobody listens any more")
