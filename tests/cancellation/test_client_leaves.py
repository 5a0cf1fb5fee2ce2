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
    """An upstream that goes so far with a request, and then only listens."""

    def __init__(self, reply: bytes) -> None:
        self.reply = reply
        self.reached = asyncio.Event()

    async def play(self, visit: Visit) -> None:
        while b"\r\n\r\n" not in visit.received:
            if not await visit.read():
                return
        if self.reply:
            await visit.write(self.reply)
        self.reached.set()
        while await visit.read():
            pass


STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
STAGES: dict[str, tuple[bytes, bytes]] = {
    "waiting for the head": (b"", GET),
    "in the middle of the head": (b"HTTP/1.1 200 OK\r\nContent-Le", GET),
    "after a 100": (b"HTTP/1.1 100 Continue\r\n\r\n", GET),
    "before the reply's body": (STREAM, GET),
    "in the reply's body": (STREAM + b"5\r\nhello\r\n", GET),
    "in a body of known length": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello", GET),
    "in a body until the end": (b"HTTP/1.1 200 OK\r\n\r\nhello", GET),
    "in a body that nobody reads": (STREAM + b"1000000\r\n" + b"x" * 0x1000000 + b"\r\n", GET),
    "before the request's body": (b"", POST),
    "in the request's body": (b"", POST + b"x" * 100_000),
    "in both bodies": (STREAM + b"5\r\nhello\r\n", POST + b"x" * 100_000),
}


@leaving
@pytest.mark.parametrize("stage", STAGES)
async def test_a_client_that_leaves_frees_all(start: Start, upstream: Upstream, stage: str, leave: Leave) -> None:
    reply, send = STAGES[stage]
    playing = Stage(reply)
    upstream.script = playing.play
    gateway = await start(up=TRIAL, route="body_limit: none")
    circuit = await half_open(gateway)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
    writer.write(send)
    async with asyncio.timeout(2):
        if len(reply) < 100_000:
            await playing.reached.wait()
            await asyncio.sleep(0.02)
        else:
            await asyncio.sleep(0.3)  # the reply does not fit: every buffer is full
    leave(Client(reader, writer))
    await freed(gateway)
    assert circuit.ready()
    assert circuit.state in (State.HALF_OPEN, State.CLOSED)  # nothing was held against the upstream
    async with asyncio.timeout(1):
        await upstream.visits[0].ended.wait()
    assert len(upstream.visits) == 1
    await works(gateway, upstream)


@leaving
@pytest.mark.parametrize("why", ["pipelined", "upload"])
async def test_leaving_unseen_lasts_no_longer_than_the_upstreams_timeout(
    start: Start, upstream: Upstream, why: str, leave: Leave
) -> None:
    """A socket that is not read does not tell of its end: not behind a pipelined request, nor behind a body
    that the upstream does not take."""
    hold = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await hold.wait()

    upstream.script = script
    gateway = await start(up="timeouts: {idle: 300ms, try: 300ms}, retry: off", route="body_limit: none")
    client = await gateway.client()
    client.writer.write(GET * 3 if why == "pipelined" else POST + b"x" * 20_000_000)
    await asyncio.sleep(0.1)
    leave(client)
    client.reset()  # what a closing client has not sent yet, its kernel goes on trying to send
    await freed(gateway)
    hold.set()


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

    route = Route(
        "r", lambda call: None, identify, lambda *_: None, lambda *_: None, take_quota, send, lambda _: send, None
    )
    handler = Handler(Router([Rule("/**", None, None, (), (), target=route, name="r")]), finished, instance="x")
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
