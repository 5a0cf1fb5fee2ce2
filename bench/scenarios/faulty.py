"""Targets in processes of their own that misbehave by the clock, told at their start what to do when.

All share one zero hour, which comes when the load begins; until then a target is as its first spell says, or well. It
counts the requests that reach it, in memory that outlives its process: a killed target has counted, too.
"""

import asyncio
import random
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ctypes import c_double, c_longlong
from dataclasses import dataclass
from enum import Enum
from multiprocessing import get_context
from multiprocessing.sharedctypes import RawArray, RawValue
from typing import Any, cast

import uvloop

from gateway.http.reset import reset

BODY = bytes(range(65, 91)) * 80
"""2080 bytes: one segment, and large enough to be broken off in the middle."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Target: %d\r\nContent-Length: %d\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nX-Target: %d\r\nContent-Length: 0\r\n\r\n"
PROBE = b"GET /health "
"""Not counted, and answered as any other request."""

SLOW = 1.0
"""Seconds that a slow answer takes."""
CUT_AFTER = 0.02
"""Seconds between half a body and the reset: it has left by then."""
DRIP, DRIPS = 0.05, 20
"""A dripping body has so many bytes, so many seconds apart; a dripping head never ends."""

LOOK = 0.01
"""Seconds between looks at the clock: is it time to listen, or to stop?"""
START_WITHIN = 10.0
BUCKETS = 10
"""Counts of arrivals in a second."""
MINUTE = 60


class Fault(Enum):
    """What a target does instead of answering."""

    WELL = "answers"
    SLOW = "answers late"
    UNAVAILABLE = "answers 503"
    REFUSE = "does not listen"
    RESET = "resets the connection instead of answering"
    CUT = "resets it in the middle of the body"
    DRIP = "sends the body byte by byte"
    WITHHOLD = "sends a head byte by byte, without end"
    TIRED = "needs twice as long for the work"


@dataclass(frozen=True, slots=True)
class Spell:
    """A fault from one second to another, after the zero hour; `share` of the requests meet it."""

    begin: float
    end: float
    fault: Fault
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Crew:
    """What a target can do: requests at a time, mean seconds for one, how many wait. More are answered 503."""

    workers: int
    seconds: float
    queue: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A target's life."""

    spells: tuple[Spell, ...] = ()
    crew: Crew | None = None


class Target:
    """One of them, as its parent sees it."""

    def __init__(self, number: int, port: int, plan: Plan, zero: Any, seed: int) -> None:
        self.number = number
        self.port = port
        self._counts = RawArray(c_longlong, BUCKETS * MINUTE)
        self.process = get_context("spawn").Process(
            target=serve, args=(number, port, plan, zero, self._counts, seed), daemon=True
        )
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def asked(self, begin: float, end: float) -> int:
        """Requests that arrived between these seconds."""
        return sum(self._counts[round(begin * BUCKETS) : round(end * BUCKETS)])

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()


class Zero:
    """The hour from which spells are counted."""

    def __init__(self) -> None:
        self.shared = RawValue(c_double, 0.0)

    def strike(self) -> float:
        """It is now."""
        self.shared.value = time.monotonic()
        return float(self.shared.value)


@contextmanager
def targets(places: Sequence[tuple[int, int, Plan]], zero: Zero, seed: int) -> Iterator[list[Target]]:
    """Run one target for each (number, port, plan) until the block ends."""
    with ExitStack() as stack:
        running = []
        for number, port, plan in places:
            target = Target(number, port, plan, zero.shared, seed + number)
            stack.callback(target.end)
            running.append(target)
        for port in {target.port for target in running}:
            _wait_for(port)
        yield running


def _wait_for(port: int) -> None:
    until = time.monotonic() + START_WITHIN
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.02)
    raise RuntimeError("a target did not start")


# -- in the process of a target --------------------------------------------------------------------------


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
