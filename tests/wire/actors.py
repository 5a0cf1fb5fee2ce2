"""The two ends a wire test plays: a raw client and an upstream that records what reaches it, byte by byte."""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.assemble import assemble
from gateway.config import load
from gateway.http.server import Limits, Server
from gateway.runtime import Runtime

Script = Callable[["Visit"], Awaitable[None]]
"""What an upstream does with one connection."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATIENCE = 5.0
"""Seconds after which an answer that does not come is a failure."""


@dataclass(slots=True)
class Visit:
    """One connection to the upstream, as it sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytearray = field(default_factory=bytearray)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """The gateway has ended or reset the connection."""

    async def read(self, size: int = 65536) -> bytes:
        """What comes next; b"" once the gateway has ended its side."""
        try:
            data = await self.reader.read(size)
        except ConnectionError:
            data = b""
        self.received += data
        if not data:
            self.ended.set()
        return data

    async def request(self) -> bytes:
        """One whole request: its head, and the body that its framing announces."""
        seen = bytearray()
        while b"\r\n\r\n" not in seen:
            data = await self.read()
            if not data:
                raise ConnectionError("the gateway has left")
            seen += data
        head, _, body = bytes(seen).partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if length:
            while len(body) < int(length[1]):
                body += await self._more()
        elif re.search(rb"(?i)\r\ntransfer-encoding: chunked", head):
            while not body.endswith(b"0\r\n\r\n"):
                body += await self._more()
        return head + b"\r\n\r\n" + body

    async def _more(self) -> bytes:
        data = await self.read()
        if not data:
            raise ConnectionError("the gateway has left")
        return data

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """End with RST instead of FIN."""
        self.writer.transport.abort()


def replying(reply: bytes = OK) -> Script:
    """Answers every request of a connection with the same bytes."""

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.write(reply)

    return script


class Upstream:
    """A scripted HTTP server that keeps all it receives."""

    def __init__(self, script: Script | None = None) -> None:
        self.script: Script = script or replying()
        self.visits: list[Visit] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def received(self) -> bytes:
        """All bytes of all connections."""
        return b"".join(bytes(visit.received) for visit in self.visits)

    @property
    def requests(self) -> list[bytes]:
        """The request lines that arrived, in order."""
        return re.findall(rb"(?m)^([A-Z]+ \S+) HTTP/1\.1\r$", self.received)

    async def hears(self, data: bytes) -> None:
        """Wait until `data` has arrived."""
        async with asyncio.timeout(PATIENCE):
            while data not in self.received:
                await asyncio.sleep(0.002)

    async def start(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> "Upstream":
        self._server = await asyncio.start_server(self._visited, host, 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for visit in self.visits:
            visit.writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        visit = Visit(reader, writer)
        self.visits.append(visit)
        try:
            await self.script(visit)
        except ConnectionError:
            visit.ended.set()
        finally:
            while not visit.ended.is_set() and not writer.is_closing():
                await visit.read()
            writer.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply as a client reads it."""

    status: int
    headers: dict[str, str]
    """Names lowercase; repeated ones joined with a comma."""
    body: bytes


class Client:
    """A socket of its own to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, head_only: bool = False) -> Answer:
        """The next reply. Raises AssertionError when the gateway ends the connection instead."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    head = await self.reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError as error:
                    raise AssertionError(f"no reply, but {error.partial!r} and the end") from None
                status = int(head[9:12])
                if status >= 200 or status == 101:
                    break
            headers: dict[str, str] = {}
            for line in head.decode("latin-1").split("\r\n")[1:-2]:
                name, _, value = line.partition(": ")
                name = name.lower()
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            if head_only or status in (101, 204, 304):
                return Answer(status, headers, b"")
            return Answer(status, headers, await self._body(headers))

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
            return body
        return await self.reader.read()

    async def rest(self) -> bytes:
        """Everything until the gateway ends the connection; a reset counts as the end."""
        async with asyncio.timeout(PATIENCE):
            data = b""
            while True:
                try:
                    more = await self.reader.read(65536)
                except ConnectionError:
                    return data
                if not more:
                    return data
                data += more

    async def ends(self) -> bool:
        """Whether the gateway ends the connection without another byte."""
        return await self.rest() == b""

    async def ask(self, data: bytes) -> Answer:
        await self.send(data)
        return await self.answer()

    def end(self) -> None:
        """Send FIN, and go on reading."""
        self.writer.write_eof()

    def reset(self) -> None:
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


class Gateway:
    """A whole gateway in this process, from YAML text to a listening socket."""

    def __init__(self, runtime: Runtime, server: Server, port: int) -> None:
        self.runtime = runtime
        self.server = server
        self.port = port
        self.clients: list[Client] = []

    @classmethod
    async def start(cls, folder: Path, yaml: str, limits: Limits | None = None) -> "Gateway":
        path = folder / "routes.yaml"
        path.write_text(yaml)
        config = load(path, {})
        runtime = assemble(config)
        runtime.start()
        server = Server(runtime.handler, limits or Limits(drain_timeout=0.2), config.trusted_proxies)
        address = await server.listen("127.0.0.1:0")
        return cls(runtime, server, int(address.rpartition(":")[2]))

    async def client(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        client = Client(reader, writer)
        self.clients.append(client)
        return client

    async def secure(self, tls: ssl.SSLContext) -> int:
        """Listen with TLS as well; returns the port."""
        self.server.tls = tls
        address = await self.server.listen("127.0.0.1:0", secure=True)
        return int(address.rpartition(":")[2])

    async def tls_client(self, port: int, context: ssl.SSLContext, name: str | None = "gateway.test") -> Client:
        """A client that asks for the certificate of `name`."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=name or "", limit=2**20
        )
        client = Client(reader, writer)
        self.clients.append(client)
        return client

    def busy(self) -> int:
        """Connections to upstreams that are in use."""
        return sum(target.pool.busy for up in self.runtime.upstreams.values() for target in up.targets)

    async def quiet(self) -> None:
        """Wait until nothing is under way any more; fails when something stays: a leak."""
        for client in self.clients:
            client.writer.transport.abort()
        async with asyncio.timeout(PATIENCE):
            while self.server.connections or self.busy():
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        for client in self.clients:
            client.writer.transport.abort()
        await self.server.close()
        await self.runtime.close()


def simple(upstream: Upstream, route: str = "", more: str = "", up: str = "retry: off, breaker: off") -> str:
    """The YAML of one open route to one upstream, with `route` inside the route and `more` at the top level."""
    return f"""
listen: {{admin: "off"}}
{more}
upstreams:
  up: {{targets: ["http://127.0.0.1:{upstream.port}"], {up}}}
routes:
  - {{name: all, match: {{path: "/**"}}, upstream: up{", " + route if route else ""}}}
"""
