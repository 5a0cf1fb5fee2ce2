"""Where workers' reports arrive, in the operator process: what went wrong is remembered, what is tailed is handed on.

A datagram socket in the instance's folder, bound anew by each operator process; workers never wait for it. Somebody who
tails is told the moment from which on nothing is missing: when every worker has answered the notice that asks for it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import orjson

from gateway.telemetry.recent import Recent, Record
from gateway.telemetry.reports import ERROR, SLOW, TAIL
from gateway.telemetry.wanted import Wanted

log = logging.getLogger("gateway.operator")

LARGEST = 64 * 1024
AT_ONCE = 50
"""Datagrams that are read in a row: the admin listener must not wait for a flood of them."""

LINES = 2000
"""That wait for one who tails; what is more is lost to them, and they are told."""

MOST_TAPS = 16

TAILED_FOR = 30.0
"""Seconds for which workers are asked at a time: they stop by themselves when the operator process has died."""

MEMBERS: dict[str, type | tuple[type, ...]] = {
    "at": str, "id": str, "status": int, "duration_ms": (int, float), "own_ms": (int, float), "reason": str,
}  # fmt: skip
"""What a record has at least."""


class TooManyTapsError(Exception):
    """Others tail already."""


class Tap:
    """The lines for one who tails, from now on."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._lines: deque[bytes] = deque()
        self._lost = 0
        self._news = asyncio.Event()
        self.ended = False

    def put(self, record: Record, line: bytes) -> None:
        """A request is over."""
        if self._wanted(record):
            if len(self._lines) < LINES:
                self._lines.append(line)
            else:
                self._lost += 1
            self._news.set()

    async def take(self, patience: float) -> tuple[list[bytes], int]:
        """What has come, and how many lines were lost after it; nothing if nothing comes within these seconds."""
        try:
            async with asyncio.timeout(patience):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()
        lines, lost = list(self._lines), self._lost
        self._lines.clear()
        self._lost = 0
        return lines, lost

    def end(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self._news.set()


class Mailbox:
    """Of one instance."""

    def __init__(
        self,
        path: Path,
        post: Callable[..., bool],
        live: Callable[[], Collection[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`post` changes the notices; `live` names the workers that serve; `clock` is the wall clock."""
        self.recent = Recent()
        self._path = path
        self._post = post
        self._live = live
        self.clock = clock
        self._socket: socket.socket | None = None
        self._taps: list[Tap] = []
        self._tail_until = 0.0
        self._heard = asyncio.Event()
        self._tailing: dict[str, float] = {}  # until when each worker has said that it will report every call

    def open(self) -> None:
        """Begin to listen, in the running loop. Where that is not possible the log says so, and nobody reports."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.setblocking(False)
        try:
            self._path.unlink(missing_ok=True)  # of an operator process that has died
            sock.bind(str(self._path))
        except OSError as error:
            sock.close()
            log.error("recent errors and tail show nothing: cannot listen on %s: %s", self._path, error)
            return
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._read)

    def close(self) -> None:
        """Listen no more; whoever tails has reached the end."""
        for tap in self._taps:
            tap.end()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def attach(self, wanted: Wanted) -> Tap:
        """Ask workers to report every call. Raises TooManyTapsError."""
        if len(self._taps) >= MOST_TAPS:
            raise TooManyTapsError
        tap = Tap(wanted)
        self._taps.append(tap)
        self.renew()
        return tap

    def renew(self) -> None:
        """Every few seconds while somebody tails."""
        now = self.clock()
        if self._tail_until < now + TAILED_FOR / 2:
            self._tail_until = now + TAILED_FOR
            self._post(tail_until=self._tail_until)

    def detach(self, tap: Tap) -> None:
        """This one tails no more."""
        self._taps.remove(tap)
        if not self._taps:
            self._tail_until = 0.0
            self._post(tail_until=0.0)

    def silent(self) -> list[str]:
        """The workers that have not said yet that they report every call."""
        now = self.clock()
        return sorted(name for name in self._live() if self._tailing.get(name, 0.0) <= now)

    async def answered(self, patience: float) -> None:
        """Wait until no worker is silent, but no longer than these seconds."""
        try:
            async with asyncio.timeout(patience):
                while self.silent():
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            pass

    def _read(self) -> None:
        assert self._socket is not None
        for _ in range(AT_ONCE):
            try:
                datagram = self._socket.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                log.warning("a report is lost: %s", error)
                return
            self.hear(datagram)

    def hear(self, datagram: bytes) -> None:
        """A batch of reports. One that is not as workers make them is left out, and the log says so."""
        head, _, rest = datagram.partition(b"\n")
        try:
            match orjson.loads(head):
                case {"from": str(name), "tail_until": int() | float() as until}:
                    pass
                case _:
                    raise ValueError("no head")
            for line in rest.splitlines():
                self._deliver(line)
        except ValueError as error:
            log.warning("a report was not understood: %s", error)
            return
        # After its lines: what came before belongs to the time before.
        self._tailing[name] = until
        self._heard.set()

    def _deliver(self, line: bytes) -> None:
        """Raises ValueError."""
        wanted, line = int(line[:1]), line[1:]
        record = _checked(orjson.loads(line))
        if wanted & ERROR:
            self.recent.failed(record)
        if wanted & SLOW:
            self.recent.lasted(record, self.clock())
        if wanted & TAIL:
            for tap in self._taps:
                tap.put(record, line)


def _checked(said: Any) -> Record:
    if not isinstance(said, dict) or not all(isinstance(said.get(name), kind) for name, kind in MEMBERS.items()):
        raise ValueError("not the record of a request")
    return said
