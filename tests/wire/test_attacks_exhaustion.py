"""Clients that try to use up what the gateway has (section H): time, connections, memory, file descriptors.

H1 to H5 and H7 for one client at a time are in test_limits.py. Here are the subtler ways, and many at once.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from gateway.exchange import Call, Reply
from gateway.http.server import App
from tests.wire.actors import OK, Client, Gateway, Upstream, Visit
from tests.wire.conftest import Start
from tests.wire.payloads import get, post
from tests.wire.test_limits import is_late, limits

SHORT = 0.15
MANY = 200
PAGE = 16 * 1024


class Holding:
    """The app of a gateway, with a wait in front of it."""

    def __init__(self, app: App, wait: Callable[[], "asyncio.Future[None]"]) -> None:
        self._app = app
        self._wait = wait
        self.open = app.open
        self.refuse = app.refuse
        self.finished = app.finished

    async def handle(self, call: Call) -> Reply:
        await self._wait()
        return await self._app.handle(call)


def after(seconds: float) -> Callable[[], "asyncio.Future[None]"]:
    return lambda: asyncio.ensure_future(asyncio.sleep(seconds))


async def connect(gateway: Gateway, stack: ExitStack, count: int) -> list[socket.socket]:
    """Sockets without buffers of their own, all of them accepted."""
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(count):
        made.append(stack.enter_context(socket.socket()))
        made[-1].setblocking(False)
        await loop.sock_connect(made[-1], ("127.0.0.1", gateway.port))
    async with asyncio.timeout(5):
        while len(gateway.server.connections) < min(count, gateway.server.limits.connections):
            await asyncio.sleep(0.005)
    return made


async def test_h1_many_slow_heads_hold_up_nobody_and_end_in_time(start: Start, upstream: Upstream) -> None:
    gateway = await start(limits=limits(header_timeout=0.5))
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        slow = await connect(gateway, stack, MANY)
        for sock in slow:
            await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\nX: ")
        before = loop.time()
        assert (await (await gateway.client()).ask(get())).status == 200
        assert loop.time() - before < 0.4
        for sock in slow:
            async with asyncio.timeout(2):
                assert (await loop.sock_recv(sock, 1000)).startswith(b"HTTP/1.1 408 ")
        assert loop.time() - before < 2
    assert upstream.requests == [b"GET /"]


# -- H2: slow bodies ---------------------------------------------------------------------------------


async def drip(client: Client, size: int, every: float, times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(every)
        await client.send(bytes(size))


async def test_h2_a_body_that_drips_below_the_rate_is_a_408(start: Start) -> None:
    gateway = await start(limits=limits(body_rate=1000, body_start=0.3))
    client = await gateway.client()
    await client.send(post(b"Content-Length: 100000"))
    before = asyncio.get_running_loop().time()
    dripping = asyncio.ensure_future(drip(client, 10, 0.03, 20))
    await is_late(client)
    assert 0.28 <= asyncio.get_running_loop().time() - before < 1
    await asyncio.gather(dripping, return_exceptions=True)


async def test_h2_what_came_fast_at_first_is_credit_until_it_is_used_up(start: Start) -> None:
    gateway = await start(limits=limits(body_rate=1000, body_start=0.1))
    client = await gateway.client()
    await client.send(post(b"Content-Length: 100000"))
    await asyncio.sleep(0.02)
    before = asyncio.get_running_loop().time()
    await client.send(bytes(500))
    await is_late(client)
    assert 0.4 <= asyncio.get_running_loop().time() - before < 1


@pytest.mark.parametrize("rate", [150, 0])
async def test_h2_a_body_above_the_rate_and_any_without_one_is_served(start: Start, rate: int) -> None:
    gateway = await start(limits=limits(body_rate=rate, body_start=0.2))
    client = await gateway.client()
    await client.send(post(b"Content-Length: 400"))
    size, times = (20, 20) if rate else (1, 20)
    await drip(client, size, 0.03, times)
    await client.send(bytes(400 - size * times))
    assert (await client.answer()).status == 200


async def test_h2_a_second_body_has_a_time_of_its_own(start: Start) -> None:
    gateway = await start(limits=limits(body_rate=1000, body_start=0.3))
    client = await gateway.client()
    for _ in range(3):
        await client.send(post(b"Content-Length: 20"))
        await drip(client, 5, 0.05, 4)
        assert (await client.answer()).status == 200


async def test_h2_the_time_of_a_slow_upstream_does_not_count(start: Start, upstream: Upstream) -> None:
    size = 8_000_000  # more than all the buffers on its way hold

    async def stalls(visit: Visit) -> None:
        await asyncio.sleep(0.8)
        while not visit.received.endswith(b"the end") and await visit.read(2**20):
            pass
        await visit.write(OK)

    upstream.script = stalls
    gateway = await start(limits=limits(body_rate=size / 0.7, body_start=0.2))
    client = await gateway.client()
    await client.send(post(b"Content-Length: %d" % size, body=bytes(size - 7)))
    async with asyncio.timeout(5):
        while len(upstream.visits[0].received) < size - 7:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    await client.send(b"the end")
    assert (await client.answer()).status == 200


async def test_h2_the_wait_behind_another_request_does_not_count(start: Start, upstream: Upstream) -> None:
    gateway = await start(limits=limits(body_rate=1000, body_start=0.2))
    app = gateway.server.app
    gateway.server.app = Holding(app, after(0.5))
    client = await gateway.client()
    await client.send(get() + post(b"Content-Length: 10", body=b"12345"))
    assert (await client.answer()).status == 200
    await client.send(b"67890")
    assert (await client.answer()).status == 200
    gateway.server.app = app
    before = asyncio.get_running_loop().time()
    await client.send(post(b"Content-Length: 10", body=b"12345"))
    await is_late(client)
    assert asyncio.get_running_loop().time() - before < 0.5, "the next body has none of that time"


async def test_h2_the_wait_for_100_continue_does_not_count(start: Start) -> None:
    gateway = await start(limits=limits(body_rate=1000, body_start=0.2))
    gateway.server.app = Holding(gateway.server.app, after(0.5))
    client = await gateway.client()
    await client.send(post(b"Content-Length: 10", b"Expect: 100-continue"))
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"0123456789")
    assert (await client.answer()).status == 200
    await client.send(post(b"Content-Length: 10", b"Expect: 100-continue"))
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await is_late(client)


# -- H3: slow readers --------------------------------------------------------------------------------


async def test_h3_the_end_of_a_last_reply_that_is_never_read_is_cut(start: Start, upstream: Upstream) -> None:
    size = 190_000  # the kernel takes most of it, and what is left is too little to hold the reply back

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))

    upstream.script = script
    gateway = await start(limits=limits(idle_timeout=0.4))
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", gateway.port))
        await loop.sock_sendall(client, get(b"Connection: close"))
        async with asyncio.timeout(2):
            while not (
                gateway.server.connections and all(c._transport.is_closing() for c in gateway.server.connections)
            ):
                await asyncio.sleep(0.005)
        (connection,) = gateway.server.connections
        assert 0 < connection._transport.get_write_buffer_size() <= 64 * 1024
        async with asyncio.timeout(2):
            while gateway.server.connections:
                await asyncio.sleep(0.005)


# -- H5: too many connections ------------------------------------------------------------------------


async def test_h5_idle_connections_beyond_the_limit_are_refused_and_the_others_served(start: Start) -> None:
    gateway = await start(limits=limits(connections=MANY))
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        idle = await connect(gateway, stack, MANY)
        for sock in await connect(gateway, stack, MANY):
            async with asyncio.timeout(2):
                assert (await loop.sock_recv(sock, 1000)).startswith(b"HTTP/1.1 503 ")
        for sock in (idle[0], idle[-1]):
            await loop.sock_sendall(sock, get())
            async with asyncio.timeout(2):
                assert (await loop.sock_recv(sock, 1000)).startswith(b"HTTP/1.1 200 ")
        assert gateway.server.open == {"http": MANY, "https": 0}


# -- H15: memory -------------------------------------------------------------------------------------


@contextmanager
def allocated() -> Iterator[Callable[[], int]]:
    """Bytes that Python holds more than at the beginning."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        yield lambda: tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


async def test_h15_an_idle_connection_costs_little(start: Start) -> None:
    gateway = await start(limits=limits(connections=MANY))
    with ExitStack() as stack, allocated() as so_far:
        await connect(gateway, stack, MANY)
        each = so_far() / MANY
    assert each < PAGE, f"{each:.0f} bytes"


@pytest.mark.parametrize("kind", ["many fields", "long field", "target"])
async def test_h15_a_request_costs_less_than_100_times_its_size(start: Start, kind: str) -> None:
    request = {
        "many fields": get(*(b"%x: 1" % number for number in range(98))),
        "long field": get(b"X: " + bytes(30_000).replace(b"\0", b"x")),
        "target": get(target=b"/" + b"a/" * 2000),
    }[kind]
    gateway = await start(limits=limits(connections=MANY))
    released = asyncio.Event()
    gateway.server.app = Holding(gateway.server.app, lambda: asyncio.ensure_future(_wait(released)))
    loop = asyncio.get_running_loop()
    count = 50
    with ExitStack() as stack:
        clients = await connect(gateway, stack, count)
        with allocated() as so_far:
            for client in clients:
                await loop.sock_sendall(client, request)
            await asyncio.sleep(0.1)
            times = so_far() / count / len(request)
        assert times < 100, f"{times:.1f} times"
        released.set()
        for client in clients:
            async with asyncio.timeout(5):
                await loop.sock_recv(client, 100)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


# -- H16: file descriptors ---------------------------------------------------------------------------

STARVING = """
import asyncio, resource, sys
from gateway.errors import reply_to
from gateway.exchange import Call, Reply
from gateway.http.server import Limits, Server

class App:
    def open(self, request): return Call(request, "x")
    async def handle(self, call): return Reply(200, [], b"ok")
    def refuse(self, call, error): return reply_to(error, "x")
    def finished(self, *_): pass

async def main():
    server = Server(App(), Limits())
    print(await server.listen("127.0.0.1:0"), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.close(0.5)

if sys.argv[1] == "uvloop":
    import uvloop as loop
else:
    loop = asyncio
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
loop.run(main())
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_h16_without_file_descriptors_accepting_pauses_and_goes_on(loop: str) -> None:
    root = str(Path(__file__).parents[2])
    gateway = subprocess.Popen(
        [sys.executable, "-c", STARVING, loop],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert gateway.stdin is not None
    assert gateway.stdout is not None
    try:
        with ExitStack() as stack:
            port = int(gateway.stdout.readline().rpartition(b":")[2])
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 5)) for _ in range(60)]
            assert ask(clients[0])
            time.sleep(0.3)
            assert not ask(clients[-1], patience=0.2), "the system gave it enough: there is nothing to see"
            assert ask(clients[1]), "who is connected is served all the same"
            for client in clients[2:50]:
                client.close()
            assert ask(clients[-2], patience=3)
            assert received(clients[-1], patience=3)
    finally:
        _, said = gateway.communicate(timeout=10)
    assert gateway.returncode == 0, said.decode()
    lines = said.decode().splitlines()
    assert lines == ["cannot accept connections: Too many open files; trying again every 0.5 s"]


def ask(client: socket.socket, patience: float = 2.0) -> bool:
    client.sendall(get())
    return received(client, patience)


def received(client: socket.socket, patience: float) -> bool:
    client.settimeout(patience)
    try:
        return client.recv(1000).startswith(b"HTTP/1.1 200 ")
    except TimeoutError:
        return False
