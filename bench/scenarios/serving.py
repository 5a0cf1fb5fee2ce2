"""A target's own process: answers well or badly by the clock, and counts who comes."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import uvloop

from bench.scenarios.plans import BODY, DRIPS, Crew, Fault, Plan, Spell
from gateway.http.reset import reset

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Target: %d\r\nContent-Length: %d\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nX-Target: %d\r\nContent-Length: 0\r\n\r\n"
PROBE = b"GET /health "
"""Not counted, and answered as any other request."""

SLOW = 1.0
"""Seconds that a slow answer takes."""
CUT_AFTER = 0.02
"""Seconds between half a body and the reset: it has left by then."""
DRIP = 0.05
"""Seconds between bytes that drip."""
LOOK = 0.01
"""Seconds between looks at the clock: is it time to listen, or to stop?"""
BUCKETS = 10
"""Counts of arrivals in a second."""


def serve(number: int, port: int, plan: Plan, zero: Any, counts: Any, seed: int) -> None:
    uvloop.run(Server(number, port, plan, zero, counts, random.Random(seed)).run())


class Server:
    """The process's own view of it."""

    def __init__(self, number: int, port: int, plan: Plan, zero: Any, counts: Any, dice: random.Random) -> None:
        self._port = port
        self._spells = plan.spells
        self._zero = zero
        self._counts = counts
        self.dice = dice
        self.well = HEAD % (number, len(BODY)) + BODY
        self.unavailable = UNAVAILABLE % number
        self.dripping = HEAD % (number, DRIPS)
        self.work = Work(plan.crew, self) if plan.crew is not None else None
        self.open: set[Connection] = set()

    async def run(self) -> None:
        """Listen whenever it is time to."""
        loop = asyncio.get_running_loop()
        listening: asyncio.Server | None = None
        while True:
            refusing = self.spell().fault is Fault.REFUSE
            if refusing and listening is not None:
                listening.close()
                listening = None
                for connection in [*self.open]:
                    connection.reset()
            elif not refusing and listening is None:
                listening = await loop.create_server(lambda: Connection(self), "127.0.0.1", self._port, backlog=1024)
            await asyncio.sleep(LOOK)

    def spell(self) -> Spell:
        """The one it is under now."""
        now = self._now()
        for spell in self._spells:
            if spell.begin <= now < spell.end:
                return spell
        return WELL

    def count(self) -> None:
        bucket = int(self._now() * BUCKETS)
        if 0 <= bucket < len(self._counts):
            self._counts[bucket] += 1

    def _now(self) -> float:
        zero = float(self._zero.value)
        return time.monotonic() - zero if zero else -1.0


WELL = Spell(0.0, 0.0, Fault.WELL)


class Work:
    """A limited crew and its queue. What was begun is finished, whoever has left meanwhile, as in most servers."""

    def __init__(self, crew: Crew, server: Server) -> None:
        self._crew = crew
        self._server = server
        self._free = crew.workers
        self._queue: deque[Callable[[], None]] = deque()

    def take(self, done: Callable[[], None]) -> bool:
        """Whether there is room for one more, who hears when it is `done`."""
        if self._free:
            self._free -= 1
            self._begin(done)
        elif len(self._queue) < self._crew.queue:
            self._queue.append(done)
        else:
            return False
        return True

    def _begin(self, done: Callable[[], None]) -> None:
        tired = self._server.spell().fault is Fault.TIRED
        seconds = self._server.dice.expovariate(1 / self._crew.seconds) * (2 if tired else 1)
        asyncio.get_running_loop().call_later(seconds, self._end, done)

    def _end(self, done: Callable[[], None]) -> None:
        done()
        if self._queue:
            self._begin(self._queue.popleft())
        else:
            self._free += 1


class Connection(asyncio.Protocol):
    """Requests without bodies, one at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not derived from it
        self._server.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.open.discard(self)

    def data_received(self, data: bytes) -> None:
        head, end, self._held = (self._held + data).partition(b"\r\n\r\n")
        if not end:
            self._held = head
            return
        if not head.startswith(PROBE):
            self._server.count()
        self._answer()

    def reset(self) -> None:
        """As a process that dies in the middle of something."""
        reset(self._transport)

    def _answer(self) -> None:
        server, spell = self._server, self._server.spell()
        fault = spell.fault if spell.share == 1.0 or server.dice.random() < spell.share else Fault.WELL
        later = asyncio.get_running_loop().call_later
        match fault:
            case Fault.SLOW:
                later(SLOW, self._write, server.well)
            case Fault.UNAVAILABLE:
                self._write(server.unavailable)
            case Fault.RESET | Fault.REFUSE:
                self.reset()
            case Fault.CUT:
                self._write(server.well[: -len(BODY) // 2])
                later(CUT_AFTER, self.reset)
            case Fault.DRIP:
                self._write(server.dripping)
                self._drip(DRIPS)
            case Fault.WITHHOLD:
                self._write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                self._drip(-1)
            case _ if server.work is None or server.work.take(lambda: self._write(server.well)):
                if server.work is None:
                    self._write(server.well)
            case _:
                self._write(server.unavailable)

    def _drip(self, left: int) -> None:
        if left and not self._transport.is_closing():
            self._write(b"x")
            asyncio.get_running_loop().call_later(DRIP, self._drip, left - 1)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)
