"""Stand-ins named for what they do: clock, dice, sleep, targets, and Sends that reply, fail or explode.

No mock library: each is a few lines of real behaviour, so that a test reads as a story.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from gateway.exchange import Call, Fields, Headers, Peer, Reply, Request, Stream, Target
from gateway.pipe import Send
from gateway.resilience.breaker import ALWAYS, Circuit
from gateway.upstream.balance import Picker, picker
from gateway.upstream.members import Member


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Dice:
    """Always falls as told: a number from 0 to 1."""

    def __init__(self, falls: float = 1.0) -> None:
        self.falls = falls

    def __call__(self) -> float:
        return self.falls


class Sleep:
    """Records what it was asked for and moves the clock instead of waiting."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.waits: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._clock.advance(seconds)
        await asyncio.sleep(0)


class Chunks:
    """A request or reply body that arrives in pieces; a piece may be an error."""

    def __init__(self, *pieces: bytes | Exception, length: int | None = None) -> None:
        self.length = length
        self.limit: int | None = None
        self.received = 0
        self.started = True
        self.closed = False
        self._pieces = list(pieces)

    @property
    def done(self) -> bool:
        return self.closed or not self._pieces

    async def read(self) -> bytes:
        if self.done:
            return b""
        piece = self._pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        self.received += len(piece)
        return piece

    def close(self) -> None:
        self.closed = True


async def read_all(body: bytes | Stream) -> bytes:
    """The whole of a body, as an upstream would read it."""
    if isinstance(body, bytes):
        return body
    pieces = []
    while piece := await body.read():
        pieces.append(piece)
    return b"".join(pieces)


def make_call(method: str = "GET", headers: Headers | None = None, body: bytes | Stream = b"") -> Call:
    """A call as the handler would have opened it."""
    peer = Peer("192.0.2.7", 50000)
    return Call(Request(method, b"/", Fields(headers or [], host=b"example.com"), peer, body=body), "test-request")


class FakeTarget:
    """A target whose tries are whatever `send` does."""

    def __init__(self, name: str = "a", circuit: Circuit = ALWAYS, send: Send | None = None) -> None:
        self.name = name
        self.upstream = "orders"
        self.circuit = circuit
        self.busy = 0
        self._send = send or replying(200)

    def __repr__(self) -> str:
        return f"<target {self.name}>"

    async def send(self, call: Call) -> Reply:
        return await self._send(call)


async def to_target(call: Call) -> Reply:
    """The end of the road: one try at the target that was picked."""
    assert call.target is not None
    return await call.target.send(call)


def replying(status: int, headers: Headers | None = None, body: bytes | Stream = b"") -> Send:
    """Answers every call."""

    async def send(call: Call) -> Reply:
        return Reply(status, list(headers or []), body)

    return send


def failing(error: BaseException) -> Send:
    """Fails every call."""

    async def send(call: Call) -> Reply:
        raise error

    return send


def explosive() -> Send:
    """Must not be reached."""

    async def send(call: Call) -> Reply:
        raise AssertionError("this call should have been stopped further up")

    return send


def delayed(send: Send, gate: asyncio.Event) -> Send:
    """Goes on once the gate is opened."""

    async def later(call: Call) -> Reply:
        await gate.wait()
        return await send(call)

    return later


class Script:
    """Plays its acts in turn, one a call; counts the calls. More calls than acts fail the test."""

    def __init__(self, *acts: Reply | BaseException | Callable[[Call], Awaitable[Reply]]) -> None:
        self._acts = list(acts)
        self.calls: list[Call] = []

    async def __call__(self, call: Call) -> Reply:
        assert len(self.calls) < len(self._acts), "one call more than the script has acts"
        act = self._acts[len(self.calls)]
        self.calls.append(call)
        if isinstance(act, BaseException):
            raise act
        if isinstance(act, Reply):
            return act
        return await act(call)


def stages(call: Call) -> Sequence[tuple[str, str]]:
    """(stage, name) of each hop: what happened to the call, in short."""
    return [(hop.stage, hop.name) for hop in call.hops]


def in_turn(targets: Sequence[Target]) -> Picker:
    """Each of `targets` takes its turn; the clock of their balancing stands still."""
    return picker("round_robin", [Member(target) for target in targets], clock=lambda: 0.0, dice=lambda: 0.0)
