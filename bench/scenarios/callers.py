"""Callers at an even pace, whatever happened to those before: an open loop in one process.

A request's time counts from when it was due, so that whoever holds up the loop, or this process itself, holds up what
comes after. How late requests were sent is kept beside the figures: it is the error of the measurement.
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import cast

import httptools

from bench.scenarios.plans import BODY, DRIPS

PATIENCE = 4.0
"""Seconds after which a caller leaves: twice the total time-out of the systems."""

WHOLE = frozenset({len(BODY), DRIPS})
"""Lengths of complete bodies."""


class Asked:
    """One request and what became of it. Seconds count from the zero hour."""

    __slots__ = ("due", "ended", "good", "late", "status", "target")

    def __init__(self, due: float) -> None:
        self.due = due
        self.late = 0.0  # sent so much after it was due
        self.ended = 0.0  # 0 while it is under way
        self.status = 0  # 0 when no head came
        self.good = False
        self.target = 0  # who has answered; 0 when the proxy itself did

    @property
    def took(self) -> float:
        return self.ended - self.due


class Load:
    """`rate` requests a second to one port of this machine."""

    def __init__(self, port: int, rate: float, heard: Callable[[Asked], None]) -> None:
        """`heard` is told of each request when it has ended."""
        self._port = port
        self._rate = rate
        self._heard = heard
        self.idle: list[Caller] = []
        self.zero = 0.0
        self._open: set[Caller] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._all_ended = asyncio.Event()

    async def warm_up(self, count: int) -> None:
        """One after the other, all of which must be answered well."""
        self.zero = time.monotonic()
        for _ in range(count):
            asked = Asked(self.now)
            await self._ask(asked)
            await self._all_ended.wait()
            if not asked.good:
                raise RuntimeError(f"answers {asked.status} before anything is wrong")

    async def run(self, zero: float, ended: Callable[[float], bool]) -> list[Asked]:
        """All requests that were due until the second that has `ended`, once all are answered or given up."""
        self.zero = zero
        made: list[Asked] = []
        for number in itertools.count():
            due = number / self._rate
            if (wait := due - self.now) > 0:
                await asyncio.sleep(wait)
            if ended(due):
                break
            asked = Asked(due)
            made.append(asked)
            task = asyncio.create_task(self._ask(asked))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*self._tasks)
        await self._all_ended.wait()
        for caller in [*self._open]:
            caller.close()
        await asyncio.sleep(0)
        return made

    @property
    def now(self) -> float:
        return time.monotonic() - self.zero

    def finished(self, asked: Asked, *, good: bool) -> None:
        asked.ended = self.now
        asked.good = good
        self._heard(asked)
        self._under_way -= 1
        if not self._under_way:
            self._all_ended.set()

    async def _ask(self, asked: Asked) -> None:
        self._under_way += 1
        self._all_ended.clear()
        while self.idle:
            caller = self.idle.pop()
            if caller.usable:
                break
        else:
            loop = asyncio.get_running_loop()
            try:
                _, caller = await loop.create_connection(lambda: Caller(self), "127.0.0.1", self._port)
            except OSError:
                self.finished(asked, good=False)
                return
            self._open.add(caller)
        asked.late = self.now - asked.due
        caller.ask(asked)

    def gone(self, caller: "Caller") -> None:
        self._open.discard(caller)


class Caller(asyncio.Protocol):
    """One kept-alive connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._asked: Asked | None = None
        self._length = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not derived from it

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(complete=False)  # in the middle of a body, perhaps
        self._load.gone(self)

    @property
    def usable(self) -> bool:
        return not self._transport.is_closing()

    def close(self) -> None:
        self._transport.abort()

    def ask(self, asked: Asked) -> None:
        self._asked = asked
        self._length = 0
        self._parser = httptools.HttpResponseParser(self)
        left = PATIENCE - (self._load.now - asked.due)
        self._timer = asyncio.get_running_loop().call_later(left, self.close)
        self._transport.write(b"GET /load HTTP/1.1\r\nHost: api\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    # -- told by the parser --------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-target" and self._asked is not None:
            self._asked.target = int(value)

    def on_headers_complete(self) -> None:
        if self._asked is not None:
            self._asked.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._length += len(body)

    def on_message_complete(self) -> None:
        keeps = self._parser.should_keep_alive()
        self._finish(complete=True)
        if keeps:
            self._load.idle.append(self)
        else:
            self._transport.close()

    def _finish(self, *, complete: bool) -> None:
        asked, self._asked = self._asked, None
        if asked is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._load.finished(asked, good=complete and asked.status == 200 and self._length in WHOLE)
