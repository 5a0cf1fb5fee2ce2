"""The gateway is told to stop while all kinds of exchanges are under way: each ends by its own protocol's means."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import websockets

from tests.system.gateways import Process, Start, proxy
from tests.system.load import Load, figure
from tests.system.proc import children, needs_proc, wait_gone
from tests.system.upstream import Upstream

DRAIN = 3.0
LAME_DUCK = 0.8


def patient(upstream: Upstream, **parts: object) -> str:
    wire = {"drain_timeout": f"{DRAIN}s", "lame_duck": f"{LAME_DUCK}s"}
    return proxy(upstream.port, workers=2, wire=wire, **parts)


async def ended(gateway: Process, patience: float = 15.0) -> int:
    return await asyncio.to_thread(gateway.process.wait, patience)


async def exchange(port: int, sent: bytes, *, pieces: int = 1, every: float = 0.0) -> bytes:
    """Everything that comes back, to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for _ in range(pieces):
            writer.write(sent)
            await writer.drain()
            await asyncio.sleep(every)
        return await reader.read()
    finally:
        writer.close()


def head(path: str, method: str = "GET", more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


async def upload(port: int, size: int, seconds: float) -> bytes:
    """The reply to a body that takes its time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head("/upload", "POST", f"Content-Length: {size}\r\n"))
        for _ in range(20):
            await asyncio.sleep(seconds / 20)
            writer.write(b"x" * (size // 20))
            await writer.drain()
        return await reader.read()
    finally:
        writer.close()


@pytest.fixture
async def talker() -> AsyncIterator[int]:
    """A WebSocket server that repeats what it hears; its port."""

    async def repeat(connection: websockets.ServerConnection) -> None:
        with suppress(websockets.ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    async with websockets.serve(repeat, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_everything_under_way_is_finished_or_closed_politely(start: Start, upstream: Upstream, talker: int):
    upstreams = {
        "up": {"targets": [f"http://127.0.0.1:{upstream.port}"]},
        "ws": {"targets": [f"http://127.0.0.1:{talker}"]},
    }
    routes = [
        {"name": "all", "match": {"path": "/**"}, "upstream": "up"},
        {"name": "talk", "match": {"path": "/talk"}, "upstream": "ws"},
    ]
    gateway = start(patient(upstream, upstreams=upstreams, routes=routes))
    socket_ = await websockets.connect(f"ws://127.0.0.1:{gateway.port}/talk")
    await socket_.send("hello")
    assert await socket_.recv() == "hello"
    slow = [asyncio.create_task(exchange(gateway.port, head("/wait/2"))) for _ in range(6)]
    uploaded = asyncio.create_task(upload(gateway.port, 2_000_000, 2.0))
    events = asyncio.create_task(exchange(gateway.port, head("/events")))
    with Load(gateway.port) as load:
        await asyncio.sleep(0.4)
        gateway.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        await asyncio.sleep(LAME_DUCK / 4)
        status, said = await asyncio.to_thread(gateway.operate, "/readyz")
        assert status == 503
        assert "draining" in said
        load.phase = "lame duck"
        await asyncio.sleep(LAME_DUCK / 4)
    load.check()  # new ones, too, were accepted all the while
    with pytest.raises(websockets.ConnectionClosed) as closed:
        await socket_.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert time.monotonic() - began < LAME_DUCK + 0.5
    await asyncio.sleep(0.1)  # the other worker has heard it, too
    with pytest.raises(ConnectionRefusedError):
        await exchange(gateway.port, head("/late"))
    for reply in await asyncio.gather(*slow):
        assert reply.startswith(b"HTTP/1.1 200 ")
        assert reply.endswith(b"/wait/2")
        assert b"\r\nconnection: close\r\n" in reply.lower()
    assert (await uploaded).endswith(b"\r\n\r\n2000000")
    assert await ended(gateway) == 0
    took = time.monotonic() - began
    figure(f"stopped after {took:.2f} s, of {LAME_DUCK} and {DRAIN}")
    assert took < LAME_DUCK + DRAIN + 1.5
    # The stream would never end: it was cut when the time was over, and not as if it had been complete.
    with suppress(ConnectionResetError):
        assert b"0\r\n\r\n" not in (await events)[-7:]
    assert took > LAME_DUCK + DRAIN - 0.1


async def test_with_nothing_under_way_it_ends_soon(start: Start, upstream: Upstream):
    gateway = start(patient(upstream))
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head("/x"))
    await reader.readuntil(b"/x")
    gateway.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert await ended(gateway) == 0
    assert time.monotonic() - began < LAME_DUCK + 1.6, "an idle connection is closed after a second"
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_keep_alive_clients_are_told_to_leave_and_none_fails(start: Start, upstream: Upstream, number: signal.Signals):
    gateway = start(patient(upstream))
    with Load(gateway.port, kept=12, fresh=0) as load:
        time.sleep(0.4)
        load.phase = "stopping"
        gateway.process.send_signal(number)
        assert gateway.process.wait(10) == 0
    # All that may have failed are attempts to come back after the end.
    assert [failure for failure in load.failures if not failure.what.startswith("connecting: ConnectionRefused")] == []
    assert load.asked > 50


def test_the_admin_api_drains_like_a_signal(start: Start, upstream: Upstream):
    gateway = start(patient(upstream))
    assert gateway.operate("/api/v1/drain", "POST")[0] == 202
    assert gateway.ready() == 503
    assert gateway.process.wait(10) == 0


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_leaves_no_process_behind(start: Start, upstream: Upstream, number: signal.Signals):
    limits = {"some": {"by": "ip", "limit": "9/second"}}
    routes = [{"name": "all", "match": {"path": "/**"}, "upstream": "up", "rate_limit": ["some"]}]
    gateway = start(patient(upstream, rate_limits=limits, routes=routes))
    family = children(gateway.pid)
    assert len(family) == 4, "two workers, the operator, and a store for the limits"
    with socket.create_connection(("127.0.0.1", gateway.port), 2.0) as client:
        client.sendall(head("/wait/9"))
        time.sleep(0.2)
        gateway.process.send_signal(number)
        gateway.wait_for("draining")
        began = time.monotonic()
        gateway.process.send_signal(number)
        assert gateway.process.wait(5) == -number
        assert time.monotonic() - began < 1
        assert wait_gone(family, 1) == []
        with suppress(ConnectionResetError):
            assert client.recv(100) == b""
