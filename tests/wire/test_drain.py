"""Leaving: what is under way is finished, no client meets a closed socket, and nothing hangs."""

import asyncio
import socket
import time
from collections.abc import Awaitable
from pathlib import Path

import pytest

from gateway.http import connection
from gateway.http.server import Limits
from gateway.http.tls import server_context
from tests.wire.actors import OK, Client, Gateway, Upstream, Visit
from tests.wire.certificates import Authority
from tests.wire.conftest import Start
from tests.wire.payloads import get, post

AMPLE = Limits(drain_timeout=10)
"""Whatever ends sooner was not cut."""

GRACE = 0.3
"""A shorter time for idle connections, so that nobody waits for it."""


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_GRACE", GRACE)


class Draining:
    """A gateway on its way out."""

    def __init__(self, gateway: Gateway, grace: float | None = None) -> None:
        self.started = time.monotonic()
        self._task = asyncio.ensure_future(gateway.server.close(grace))

    async def ends(self, least: float, most: float) -> None:
        """After a time in seconds."""
        async with asyncio.timeout(5):
            await self._task
        took = time.monotonic() - self.started
        assert least <= took <= most, f"{took:.3f} s"


async def after(seconds: float, action: Awaitable[object]) -> None:
    await asyncio.sleep(seconds)
    await action


async def test_without_clients_it_ends_at_once(start: Start) -> None:
    await Draining(await start(limits=AMPLE)).ends(0, 0.1)


async def test_a_client_that_has_been_idle_is_left_at_once(start: Start) -> None:
    gateway = await start(limits=AMPLE)
    client = await gateway.client()
    assert (await client.ask(get())).status == 200
    await asyncio.sleep(GRACE + 0.05)
    draining = Draining(gateway)
    assert await client.ends()
    await draining.ends(0, 0.15)


async def test_an_active_client_reads_that_the_connection_closes(start: Start, upstream: Upstream) -> None:
    gateway = await start(limits=AMPLE)
    client = await gateway.client()
    assert "connection" not in (await client.ask(get())).headers
    draining = Draining(gateway)
    await asyncio.sleep(GRACE / 2)
    answer = await client.ask(get())
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await client.ends()
    await draining.ends(GRACE / 2, GRACE)


async def test_clients_that_say_nothing_more_are_left_after_the_grace(start: Start) -> None:
    gateway = await start(limits=AMPLE)
    used, fresh = await gateway.client(), await gateway.client()
    assert (await used.ask(get())).status == 200
    draining = Draining(gateway)
    assert await used.ends()
    assert await fresh.ends()
    await draining.ends(GRACE * 0.8, GRACE + 0.3)


async def test_a_client_in_the_kernels_queue_is_served(start: Start) -> None:
    gateway = await start(limits=AMPLE)
    waiting = socket.create_connection(("127.0.0.1", gateway.port))  # blocks the loop: nobody has accepted it yet
    draining = Draining(gateway)
    client = Client(*await asyncio.open_connection(sock=waiting))
    gateway.clients.append(client)
    answer = await client.ask(get())
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    with pytest.raises(ConnectionRefusedError):
        await gateway.client()
    await draining.ends(0, GRACE)


async def test_a_request_that_is_coming_in_is_read_to_its_end_and_answered(start: Start) -> None:
    gateway = await start(limits=AMPLE)
    head, body = await gateway.client(), await gateway.client()
    await head.send(get()[:-2])
    await body.send(post(b"Content-Length: 10", body=b"12345"))
    await asyncio.sleep(0.02)
    draining = Draining(gateway)
    await asyncio.sleep(GRACE * 1.5)
    for client, rest in ((head, b"\r\n"), (body, b"67890")):
        answer = await client.ask(rest)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.ends()
    await draining.ends(GRACE * 1.5, GRACE * 3)


async def test_pipelined_requests_are_all_answered_and_the_last_one_says_close(
    start: Start, upstream: Upstream
) -> None:
    released = asyncio.Event()

    async def slow(visit: Visit) -> None:
        while True:
            await visit.request()
            await released.wait()
            await visit.write(OK)

    upstream.script = slow
    gateway = await start(limits=AMPLE)
    client = await gateway.client()
    await client.send(get() * 3)
    await upstream.hears(b"GET / ")
    draining = Draining(gateway)
    released.set()
    answers = [await client.answer() for _ in range(3)]
    assert [answer.headers.get("connection") for answer in answers] == [None, None, "close"]
    assert await client.ends()
    await draining.ends(0, GRACE)


@pytest.mark.parametrize("more", [True, False])
async def test_after_a_stream_that_began_as_kept_alive_one_more_request_is_waited_for(
    start: Start, upstream: Upstream, more: bool
) -> None:
    released = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        await released.wait()
        await visit.write(b"67890")
        await visit.request()
        await visit.write(OK)

    upstream.script = script
    gateway = await start(limits=AMPLE)
    client = await gateway.client()
    await client.send(get())
    assert b"connection" not in await asyncio.wait_for(client.reader.readuntil(b"12345"), 5)
    draining = Draining(gateway)
    await asyncio.sleep(GRACE * 1.5)
    released.set()
    assert await asyncio.wait_for(client.reader.readexactly(5), 5) == b"67890"
    if more:
        answer = await client.ask(get())
        assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await client.ends()
    await draining.ends(GRACE * (1.5 if more else 2.5), GRACE * 4)


@pytest.mark.parametrize("grace", [None, 0.1])
async def test_whoever_has_no_reply_at_the_end_of_the_time_is_told_so(
    start: Start, upstream: Upstream, grace: float | None
) -> None:
    async def silent(visit: Visit) -> None:
        await visit.request()
        await visit.read()

    upstream.script = silent
    gateway = await start(limits=Limits(drain_timeout=0.2))
    client = await gateway.client()
    await client.send(get())
    await upstream.hears(b"GET / ")
    draining = Draining(gateway, grace)
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert b'"code":"shutting_down"' in answer.body
    assert await client.ends()
    await draining.ends(grace or 0.2, (grace or 0.2) + 0.15)
    async with asyncio.timeout(2):
        await upstream.visits[0].ended.wait()


async def test_a_reply_that_is_half_out_when_the_time_is_over_has_no_clean_end(
    start: Start, upstream: Upstream
) -> None:
    async def half(visit: Visit) -> None:
        await visit.request()
        await visit.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n")
        await visit.read()

    upstream.script = half
    gateway = await start(limits=Limits(drain_timeout=0.2))
    client = await gateway.client()
    await client.send(get())
    await client.reader.readuntil(b"12345\r\n")
    draining = Draining(gateway)
    assert await client.rest() == b"", "neither a last chunk nor another reply"
    await draining.ends(0.2, 0.5)


async def test_an_unfinished_handshake_is_cut_and_a_finished_one_is_served(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    gateway = await start(limits=Limits(drain_timeout=0.5))
    port = await gateway.secure(server_context([authority.sign("gateway.test")]))
    silent = Client(*await asyncio.open_connection("127.0.0.1", port))
    begun = await asyncio.open_connection("127.0.0.1", port)
    gateway.clients += [silent, Client(*begun)]
    idle = await gateway.tls_client(port, authority.client())
    draining = Draining(gateway)
    await begun[1].start_tls(authority.client(), server_hostname="gateway.test")
    answer = await gateway.clients[1].ask(get())
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await idle.ends()
    assert await silent.ends()
    await draining.ends(0.5, 0.7)


async def test_closing_twice_is_closing_once(start: Start) -> None:
    gateway = await start(limits=AMPLE)
    client = await gateway.client()
    assert (await client.ask(get())).status == 200
    first, second = Draining(gateway), Draining(gateway)
    assert await client.ends()
    await first.ends(0, GRACE + 0.3)
    await second.ends(0, GRACE + 0.3)
