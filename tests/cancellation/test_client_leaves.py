"""A client leaves while its request is somewhere on its way: everything that was taken for it is given back.

Each case checks connections, pool, tasks, and the trial of a half-open circuit: were its place lost, or were
leaving held against the upstream, no further request would get through.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from gateway.exchange import ANONYMOUS, Call, Caller, Reply
from gateway.handler import Handler, Route
from gateway.http.pool import Pool
from gateway.http.server import Limits, Server
from gateway.resilience.breaker import Circuit, State
from gateway.resilience.verdict import Verdict
from gateway.routing.router import Router, Rule
from tests.wire.actors import OK, Client, Gateway, Upstream, Visit, simple
from tests.wire.conftest import Start

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"
TRIAL = "timeouts: {connect: 5s, try: 8s}, breaker: {consecutive_failures: 1, open_for: 20ms, trials: 1}"
SOON = 1.0
"""Seconds after which everything must be free; a FIN needs 0.75 of them, as it may be a half-close."""

Leave = Callable[[Client], None]

leaving = pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["fin", "rst"])


def circuit_of(gateway: Gateway) -> Circuit:
    return gateway.runtime.upstreams["up"].targets[0].circuit


async def half_open(gateway: Gateway) -> Circuit:
    """The circuit, about to try the upstream once."""
    circuit = circuit_of(gateway)
    circuit.admit().settle(Verdict.FAILURE)
    assert circuit.state is State.OPEN
    await asyncio.sleep(0.025)
    return circuit


async def freed(gateway: Gateway, connections: int = 0) -> None:
    """Wait until no connection is left on either side; not for long."""
    started = time.monotonic()
    async with asyncio.timeout(SOON):
        while gateway.busy() or len(gateway.server.connections) > connections:
            await asyncio.sleep(0.002)
    took = time.monotonic() - started
    assert took < SOON, f"{took:.2f} s"


async def works(gateway: Gateway, upstream: Upstream) -> None:
    """The circuit lets a request through, and closes."""
    upstream.script = answering
    client = await gateway.client()
    assert (await client.ask(GET)).status == 200
    assert circuit_of(gateway).state is State.CLOSED
    client.close()


async def answering(visit: Visit) -> None:
    while True:
        await visit.request()
        await visit.write(OK)


# -- stages at the upstream ------------------------------------------------------------------------------


class Stage:
    """How far a request gets before its client leaves: the upstream's part, and the client's."""

    def __init__(self, name: str, reply: bytes = b"", send: bytes = GET, *, reads: bool = True) -> None:
        self.name = name
        self.reply = reply
        self.send = send
        self.reads = reads
        self.reached = asyncio.Event()

    async def play(self, visit: Visit) -> None:
        while b"\r\n\r\n" not in visit.received:
            if not await visit.read():
                return
        if self.reply:
            await visit.write(self.reply)
        self.reached.set()
        while self.reads and await visit.read():
            pass
        if not self.reads:
            await asyncio.sleep(30)


STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
STAGES: dict[str, tuple[bytes, bytes, bool]] = {
    "waiting for the head": (b"", GET, True),
    "in the middle of the head": (b"HTTP/1.1 200 OK\r\nContent-Le", GET, True),
    "after a 100": (b"HTTP/1.1 100 Continue\r\n\r\n", GET, True),
    "before the reply's body": (STREAM, GET, True),
    "in the reply's body": (STREAM + b"5\r\nhello\r\n", GET, True),
    "in a body of known length": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello", GET, True),
    "in a body until the end": (b"HTTP/1.1 200 OK\r\n\r\nhello", GET, True),
    "in a body that nobody reads": (STREAM + b"1000000\r\n" + b"x" * 0x1000000 + b"\r\n", GET, True),
    "before the request's body": (b"", POST, True),
    "in the request's body": (b"", POST + b"x" * 100_000, True),
    "in a body the upstream does not read": (b"", POST + b"x" * 9_000_000, False),
    "in both bodies": (STREAM + b"5\r\nhello\r\n", POST + b"x" * 100_000, True),
    "with another request behind": (b"", GET * 3, True),
}


@leaving
@pytest.mark.parametrize("stage", STAGES)
async def test_a_client_that_leaves_frees_all(start: Start, upstream: Upstream, stage: str, leave: Leave) -> None:
    reply, send, reads = STAGES[stage]
    playing = Stage(stage, reply, send, reads=reads)
    upstream.script = playing.play
    gateway = await start(up=TRIAL, route="body_limit: none")
    circuit = await half_open(gateway)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
    client = Client(reader, writer)
    writer.write(send)
    async with asyncio.timeout(2):
        if len(reply) < 100_000:
            await playing.reached.wait()
            await asyncio.sleep(0.02)
        else:
            await asyncio.sleep(0.3)  # the reply does not fit: everything is full
    if len(send) > 1_000_000:
        leave = Client.reset  # a FIN would come behind what cannot be sent
    leave(client)
    await freed(gateway)
    assert circuit.ready()
    assert circuit.state in (State.HALF_OPEN, State.CLOSED)  # and nothing was held against the upstream
    if reads:
        async with asyncio.timeout(1):
            await upstream.visits[0].ended.wait()
    assert len(upstream.visits) == 1  # the requests behind were not sent
    await works(gateway, upstream)


# -- stages before the upstream --------------------------------------------------------------------------


@contextmanager
def full_listener() -> Iterator[int]:
    """A port where connecting never ends: its queue is full and nobody accepts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        try:
            yield listener.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()


@leaving
async def test_while_connecting(start: Start, leave: Leave) -> None:
    with full_listener() as port:
        gateway = await start(simple(Upstream(), up=TRIAL).replace(":0", f":{port}"))
        circuit = await half_open(gateway)
        client = await gateway.client()
        await client.send(GET)
        async with asyncio.timeout(1):
            while not gateway.busy():
                await asyncio.sleep(0.002)
        assert not circuit.ready()  # the only trial is under way
        leave(client)
        await freed(gateway)
        assert circuit.ready()


@leaving
async def test_while_it_waits_for_a_connection(start: Start, upstream: Upstream, leave: Leave) -> None:
    gateway = await start(up=TRIAL)
    target = gateway.runtime.upstreams["up"].targets[0]
    target.pool = Pool("127.0.0.1", upstream.port, limit=1, connect_timeout=5.0)
    only = await target.pool.connect(time.monotonic() + 1)
    circuit = await half_open(gateway)
    client = await gateway.client()
    await client.send(GET)
    async with asyncio.timeout(1):
        while circuit.ready():
            await asyncio.sleep(0.002)
    leave(client)
    async with asyncio.timeout(SOON):
        while gateway.server.connections:
            await asyncio.sleep(0.002)
    assert circuit.ready()
    target.pool.release(only)
    assert (target.pool.busy, target.pool.idle) == (0, 1)
    await works(gateway, upstream)


@leaving
async def test_between_two_tries(start: Start, upstream: Upstream, leave: Leave) -> None:
    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.write(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")

    upstream.script = script
    gateway = await start(up="retry: {attempts: 3}, breaker: off")
    client = await gateway.client()
    await client.send(GET)
    await upstream.hears(b"\r\n\r\n")
    await asyncio.sleep(0.05)
    leave(client)
    await freed(gateway)
    await asyncio.sleep(0.3)
    assert len(upstream.requests) == 1


@leaving
@pytest.mark.parametrize("stage", ["identify", "quota", "send"])
async def test_in_a_slow_stage(leave: Leave, stage: str) -> None:
    """Stages that ask somebody over the network are cancelled, and what is behind them is not reached."""
    reached, ended = asyncio.Event(), []

    async def slow(name: str) -> None:
        if name != stage:
            return
        reached.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append(name)
            raise

    async def identify(call: Call) -> Caller:
        await slow("identify")
        return ANONYMOUS

    async def take_quota(call: Call, caller: Caller) -> None:
        await slow("quota")

    async def send(call: Call) -> Reply:
        assert stage == "send"
        await slow("send")
        raise AssertionError("not reached")

    statuses: list[int] = []

    def finished(call: Call, status: int, sent: int, received: int, took: float) -> None:
        statuses.append(status)

    route = Route("r", identify, lambda method, caller: None, take_quota, send, None)
    handler = Handler(Router([Rule("/**", target=route, name="r")]), finished, instance="x")
    server = Server(handler, Limits(drain_timeout=0.1))
    address = await server.listen("127.0.0.1:0")
    client = Client(*await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2])))
    await client.send(GET)
    async with asyncio.timeout(2):
        await reached.wait()
        leave(client)
        while server.connections or not statuses:
            await asyncio.sleep(0.002)
    assert ended == [stage]
    assert statuses == [499]
    await server.close()


@leaving
async def test_while_a_silent_store_counts(start: Start, upstream: Upstream, leave: Leave) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()

    store = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = store.sockets[0].getsockname()[1]
    gateway = await start(
        more=f'store: {{url: "redis://127.0.0.1:{port}/0", timeout: 3s}}',
        route="rate_limit: [{by: ip, limit: 10/second}]",
    )
    clients: list[Awaitable[None]] = []
    for _ in range(3):
        client = await gateway.client()
        clients.append(client.send(GET))
        await clients[-1]
        await asyncio.sleep(0.02)
        leave(client)
    await freed(gateway)
    assert upstream.visits == []
    store.close()
