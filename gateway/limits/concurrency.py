"""How many requests may be under way at the same time: gates, and the layer that keeps a call inside of one.

Who finds the gate full waits in line, first come, first served, as far as the line and its time limit go; then it
is refused. A place is handed from who leaves to who has waited longest, so no newcomer ever comes before them, and
nobody looks again and again. It is held until the reply's body has ended, or the tunnel, and given back exactly once.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from gateway.errors import GatewayError, Shed
from gateway.exchange import NEVER, Call, Hop, Reply, Stream, Tunnel
from gateway.pipe import Layer, Send
from gateway.wrapped import Wrapped

FREE, QUEUED, REFUSED, TIMEOUT = "free", "queued", "refused", "timeout"
"""How asking for a place ends: at once, in turn, with the line full, or after waiting in vain."""

RETRY_AFTER = 1.0
"""Seconds to say: places come free all the time, but nobody can say when one does for somebody who is not in line."""

DETAIL = "Too many requests are under way at the same time."


def share(number: int, workers: int) -> int:
    """What each of `workers` gets of `number`, rounded up: none of them is left with nothing."""
    return -(-number // workers)


class Gate:
    """At most `limit` inside, and at most `queue` in line. Belongs to one event loop."""

    __slots__ = ("_on_idle", "_queue", "_queue_timeout", "_waiting", "busy", "limit")

    def __init__(
        self, limit: int, queue: int = 0, queue_timeout: float = 0.5, on_idle: Callable[[], object] | None = None
    ) -> None:
        """`queue_timeout` in seconds. `on_idle` is called when the last one has left."""
        self.limit = limit
        self.busy = 0
        self._queue = queue
        self._queue_timeout = queue_timeout
        self._on_idle = on_idle
        # Ordered, for whose turn it is; by key, because whoever gives up may stand anywhere in a long line.
        # While somebody waits in it, the gate is full.
        self._waiting: OrderedDict[asyncio.Future[str], None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Gate {self.busy}/{self.limit}, {self.queued} in line>"

    @property
    def queued(self) -> int:
        """How many wait in line."""
        return len(self._waiting)

    def take(self) -> bool:
        """Enter if there is a place at once."""
        if self.busy < self.limit:
            self.busy += 1
            return True
        return False

    async def enter(self, patience: float = NEVER) -> str:
        """Enter, at once or in turn after at most `patience` seconds: FREE or QUEUED, and `leave` must follow.

        REFUSED and TIMEOUT say that there was no place. Cancelled, it leaves nothing behind.
        """
        if self.take():
            return FREE
        if len(self._waiting) >= self._queue:
            return REFUSED
        if patience <= 0:
            return TIMEOUT
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[str] = loop.create_future()
        self._waiting[waiter] = None
        timer = loop.call_later(min(patience, self._queue_timeout), self._expire, waiter)
        try:
            return await waiter
        except BaseException:
            if waiter in self._waiting:
                del self._waiting[waiter]
            elif not waiter.cancelled() and waiter.result() == QUEUED:
                self.leave()  # our turn came in the moment we left: it is the next one's
            raise
        finally:
            timer.cancel()

    def leave(self) -> None:
        """Give the place back; who has waited longest gets it."""
        if self._waiting and self.busy <= self.limit and self._hand():
            return
        self.busy -= 1
        if not self.busy and self._on_idle is not None:
            self._on_idle()

    def resize(self, limit: int) -> None:
        """Let so many in from now on; nobody who is inside has to leave."""
        self.limit = limit
        while self.busy < limit and self._hand():
            self.busy += 1

    def _hand(self) -> bool:
        """Let in who has waited longest, if there is anybody."""
        while self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():  # else it was cancelled, and has not had the time to leave the line
                waiter.set_result(QUEUED)
                return True
        return False

    def _expire(self, waiter: "asyncio.Future[str]") -> None:
        if not waiter.done():
            del self._waiting[waiter]
            waiter.set_result(TIMEOUT)


class Gates:
    """A gate for each key, all alike; each is there only while somebody is inside of it."""

    __slots__ = ("_gates", "_queue", "_queue_timeout", "limit")

    def __init__(self, limit: int, queue: int = 0, queue_timeout: float = 0.5) -> None:
        """For each key; `queue_timeout` in seconds."""
        self.limit = limit
        self._queue = queue
        self._queue_timeout = queue_timeout
        self._gates: dict[bytes, Gate] = {}

    def __len__(self) -> int:
        return len(self._gates)

    @property
    def busy(self) -> int:
        """How many are inside of all gates together."""
        return sum(gate.busy for gate in self._gates.values())

    @property
    def queued(self) -> int:
        """How many wait in all lines together."""
        return sum(gate.queued for gate in self._gates.values())

    def of(self, key: bytes) -> Gate:
        """The gate of `key`, to be entered before the next await."""
        gate = self._gates.get(key)
        if gate is None:
            forget = partial(self._gates.pop, key)
            gate = self._gates[key] = Gate(self.limit, self._queue, self._queue_timeout, forget)
        return gate


def limited(
    name: str,
    gate_of: Callable[[Call], Gate],
    clock: Callable[[], float] = time.monotonic,
    *,
    stage: str = "concurrency",
) -> Layer:
    """Let a call go on when there is a place for it in `gate_of(call)`; `stage` and `name` are for the hop.

    Raises Shed where there is none. Only calls that found the gate full report a hop.
    """

    async def wait(gate: Gate, call: Call) -> None:
        started = clock()
        outcome = "cancelled"
        try:
            outcome = await gate.enter(call.deadline - started)
        finally:
            call.hops.append(Hop(stage, name, outcome, started, clock() - started))
        if outcome != QUEUED:
            raise Shed("overloaded", 503, DETAIL, retry_after=RETRY_AFTER)

    def layer(send: Send) -> Send:
        async def inside(call: Call) -> Reply:
            gate = gate_of(call)
            if not gate.take():
                await wait(gate, call)
            try:
                reply = await send(call)
            except BaseException:
                gate.leave()
                raise
            if reply.tunnel is not None:
                reply.tunnel = HeldTunnel(reply.tunnel, gate)
            elif isinstance(reply.body, bytes):
                gate.leave()
            else:
                reply.body = HeldStream(reply.body, gate)
            return reply

        return inside

    return layer


class HeldStream(Wrapped):
    """A reply's body that keeps its place in `gate` until it ends, breaks off or is closed. A Stream."""

    __slots__ = ("_gate",)

    def __init__(self, body: Stream, gate: Gate) -> None:
        super().__init__(body)
        self._gate: Gate | None = gate  # None once the place has been given back

    async def read(self) -> bytes:
        """The next piece; b"" at the end."""
        try:
            data = await self._inner.read()
        except GatewayError:
            self._leave()
            raise
        self.received = self._inner.received
        if not data:
            self._leave()
        return data

    def close(self) -> None:
        """Nobody will read the rest."""
        try:
            self._inner.close()
        finally:
            self._leave()

    def _leave(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.leave()


class HeldTunnel:
    """A tunnel that keeps its place in `gate` until both ends are closed. Implements exchange.Tunnel."""

    __slots__ = ("_gate", "_tunnel")

    def __init__(self, tunnel: Tunnel, gate: Gate) -> None:
        self._tunnel = tunnel
        self._gate: Gate | None = gate  # None once the place has been given back

    async def run(self, near: asyncio.Transport, held: bytes) -> tuple[int, int]:
        """Join both ends until both are closed; returns bytes received from client and upstream."""
        try:
            return await self._tunnel.run(near, held)
        finally:
            self._leave()

    def close(self) -> None:
        """The client went away before."""
        try:
            self._tunnel.close()
        finally:
            self._leave()

    def drain(self) -> None:
        """End soon, and politely."""
        self._tunnel.drain()

    def _leave(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.leave()
