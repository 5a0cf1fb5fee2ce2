"""A constant, moderate load from a thread of its own, which takes note of every request that did not go well.

Some clients keep their connection and ask again and again; others open one for each request. A connection
that the server has closed between two requests is made anew, as browsers and pools do; a request that was
sent and not answered is a failure, whatever the reason.
"""

import asyncio
import itertools
import ssl
import sys
import time
from collections import Counter
from dataclasses import dataclass
from threading import Event, Thread

import uvloop

PATIENCE = 5.0
"""Seconds after which an answer that does not come is a failure."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a client met."""

    what: str
    phase: str
    at: float
    """Seconds since the load began."""
    port: int
    """The client's own; 0 when it was not let in."""


class Connection:
    """One client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.port: int = writer.get_extra_info("sockname")[1]

    @property
    def usable(self) -> bool:
        """The server has not closed it, as far as can be seen before asking."""
        return not (self.reader.at_eof() or self.reader.exception() or self.writer.transport.is_closing())

    async def ask(self, path: str, *, last: bool) -> tuple[int, bytes, bool]:
        """Status, body, and whether the server keeps the connection."""
        more = "Connection: close\r\n" if last else ""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        return int(head[9:12]), body, b"\r\nconnection: close\r\n" not in head

    def close(self) -> None:
        self.writer.transport.abort()


class Load:
    """Runs while its `with` does; its figures are final afterwards."""

    def __init__(
        self, port: int, *, kept: int = 8, fresh: int = 4, pause: float = 0.025, tls: ssl.SSLContext | None = None,
        path: str = "/load", fine: int = 200,
    ) -> None:  # fmt: skip
        """`kept` and `fresh` clients, each of which rests for `pause` seconds after an answer; `fine` is the status."""
        self.answers: Counter[int] = Counter()
        self.connections = 0
        self.failures: list[Failure] = []
        self.phase = "start"
        self.slowest = 0.0
        """Seconds that the slowest answer took; set it to 0 to measure anew."""
        self._port = port
        self._kept = kept
        self._fresh = fresh
        self._pause = pause
        self._tls = tls
        self._path = path
        self._fine = fine
        self._numbers = itertools.count()
        self._stop = False
        self._going = Event()
        self._began = time.monotonic()
        self._thread = Thread(target=self._run, daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> "Load":
        self._thread.start()
        assert self._going.wait(PATIENCE + 1), f"nobody was answered: {self.failures[:5]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join(PATIENCE + 5)
        assert not self._thread.is_alive(), "a client hangs"
        if self._error is not None:
            raise self._error

    @property
    def asked(self) -> int:
        """Answers of all kinds."""
        return sum(self.answers.values())

    def go_on(self, more: int) -> None:
        """Return when there were `more` answers from now on: what follows meets clients at work, however slow."""
        enough, until = self.asked + more, time.monotonic() + PATIENCE
        while self.asked < enough:
            assert time.monotonic() < until, f"only {self.asked} of {enough} requests"
            time.sleep(0.005)

    def check(self, least: int = 50) -> None:
        """No request has failed, and there were enough of them to say so."""
        shown = "\n".join(map(str, self.failures[:20]))
        assert not self.failures, f"{len(self.failures)} of {self.asked} requests failed:\n{shown}"
        assert self.asked >= least, f"only {self.asked} requests"

    # -- in the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._clients())
        except BaseException as error:  # for the thread that waits for this one
            self._error = error

    async def _clients(self) -> None:
        count = self._kept + self._fresh
        async with asyncio.TaskGroup() as clients:
            for number in range(count):
                fresh = number >= self._kept
                clients.create_task(self._client(fresh, number / count * self._pause))

    async def _client(self, fresh: bool, delay: float) -> None:
        connection: Connection | None = None
        await asyncio.sleep(delay)
        while not self._stop:
            if connection is not None and not connection.usable:
                connection.close()
                connection = None
            if connection is None:
                connection = await self._connect()
            if connection is not None and not await self._ask(connection, last=fresh):
                connection.close()
                connection = None
            self._going.set()
            await asyncio.sleep(self._pause)
        if connection is not None:
            connection.close()

    async def _connect(self) -> Connection | None:
        name = "localhost" if self._tls is not None else None
        try:
            async with asyncio.timeout(PATIENCE):
                streams = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._tls, server_hostname=name)
        except (OSError, TimeoutError) as error:
            self._failed(f"connecting: {error!r}", 0)
            return None
        self.connections += 1
        return Connection(*streams)

    async def _ask(self, connection: Connection, *, last: bool) -> bool:
        """Whether the connection can be used again."""
        path = f"{self._path}/{next(self._numbers)}"
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                status, body, keeps = await connection.ask(path, last=last)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self._failed(f"{path}: {error!r}", connection.port)
            return False
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.answers[status] += 1
        if status != self._fine:
            self._failed(f"{path}: {status} {body[:200]!r}", connection.port)
        elif status == 200 and body != path.encode():
            self._failed(f"{path}: wrong body {body[:200]!r}", connection.port)
        return keeps and not last

    def _failed(self, what: str, port: int) -> None:
        self.failures.append(Failure(what, self.phase, round(time.monotonic() - self._began, 3), port))


def figure(text: str) -> None:
    """Show what was measured: with `pytest -s`, and whenever the test fails."""
    sys.stdout.write(f"{text}\n")
