"""A draining gateway says 1001 to both sides of a WebSocket (G8): between two frames, never inside one."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.utils import accept_key

from gateway.http import tunnel
from gateway.http.reset import reset
from gateway.http.server import Limits
from gateway.http.tls import server_context
from gateway.http.websocket import GOING_AWAY, close_frame
from tests.wire.actors import PATIENCE, Client, Gateway, Upstream, Visit
from tests.wire.certificates import Authority
from tests.wire.conftest import Start
from tests.wire.test_websocket import PLAIN, to, url
from tests.wire.test_websocket_raw import SWITCH, handshake, switching

AMPLE = Limits(drain_timeout=10)
"""Whatever ends sooner was not cut by the server."""

GOODBYE = close_frame(GOING_AWAY, tunnel.REASON)
SAID = (GOING_AWAY, tunnel.REASON)
MASK = bytes(4)
"""What is masked with this looks as it did."""


def message(payload: bytes, mask: bytes = b"") -> bytes:
    """A binary message in one frame."""
    return struct.pack(">BBQ", 0x82, 127 | (0x80 if mask else 0), len(payload)) + mask + payload


class Party:
    """One end of a WebSocket: notes the fragments it hears, and in the end the Close frame."""

    def __init__(self, end: Connection) -> None:
        self.end = end
        self.heard: list[object] = []
        self.listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        try:
            while True:
                async for piece in self.end.recv_streaming():
                    self.heard.append(piece)
        except ConnectionClosed as error:
            self.heard.append(error.rcvd and (int(error.rcvd.code), error.rcvd.reason))

    async def hears(self, *heard: object) -> None:
        """Wait until so much has been heard, and check what."""
        async with asyncio.timeout(PATIENCE):
            while len(self.heard) < len(heard) and not self.listening.done():
                await asyncio.sleep(0.002)
        assert self.heard == list(heard)


class Host:
    """A real WebSocket server for one visitor."""

    def __init__(self) -> None:
        self._visited: asyncio.Future[Party] = asyncio.get_running_loop().create_future()

    async def serve(self, end: ServerConnection) -> None:
        party = Party(end)
        self._visited.set_result(party)
        await party.listening

    async def party(self) -> Party:
        return await asyncio.wait_for(self._visited, PATIENCE)


@pytest.fixture
async def host() -> AsyncIterator[tuple[Host, int]]:
    """A server, and its port."""
    host = Host()
    async with serve(host.serve, "127.0.0.1", 0, compression=None) as server:
        yield host, server.sockets[0].getsockname()[1]


@asynccontextmanager
async def draining(gateway: Gateway, least: float = 0.0, most: float = 2.5) -> AsyncIterator[None]:
    """What is done inside is done during a drain, which takes this many seconds."""
    started = time.monotonic()
    drain = asyncio.ensure_future(gateway.server.close())
    await asyncio.sleep(0)  # the drain has begun
    try:
        yield
        async with asyncio.timeout(PATIENCE):
            await drain
    finally:
        drain.cancel()
    took = time.monotonic() - started
    assert least <= took < most, f"{took:.2f} s"
    assert gateway.busy() == 0


async def raw_client(gateway: Gateway) -> Client:
    client = await gateway.client()
    assert (await client.ask(handshake(line=b"GET /talk HTTP/1.1"))).status == 101
    return client


async def test_both_sides_of_an_idle_tunnel_hear_at_once_that_the_gateway_goes(
    start: Start, host: tuple[Host, int]
) -> None:
    gateway = await start(to(host[1]), AMPLE)
    async with connect(url(gateway.port), proxy=None) as end:
        client, server = Party(end), await host[0].party()
        await end.send("hello")
        await server.hears("hello")
        async with draining(gateway):
            await client.hears(SAID)
            await server.hears("hello", SAID)


async def test_an_upstream_behind_tls_hears_it_too(start: Start, tmp_path: Path) -> None:
    authority, host = Authority(tmp_path), Host()
    async with serve(host.serve, "127.0.0.1", 0, ssl=authority.server("127.0.0.1")) as listening:
        port = listening.sockets[0].getsockname()[1]
        secure = f'targets: ["https://127.0.0.1:{port}"], tls: {{ca: {authority.file}}}'
        gateway = await start(to(0).replace('targets: ["http://127.0.0.1:0"]', secure), AMPLE)
        async with connect(url(gateway.port), proxy=None) as end:
            client, server = Party(end), await host.party()
            async with draining(gateway):
                await client.hears(SAID)
                await server.hears(SAID)


async def test_a_client_behind_tls_hears_it_too(start: Start, host: tuple[Host, int], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    gateway = await start(to(host[1]), AMPLE)
    port = await gateway.secure(server_context([authority.sign("127.0.0.1")]))
    async with connect(f"wss://127.0.0.1:{port}/talk", proxy=None, ssl=authority.client()) as end:
        client, server = Party(end), await host[0].party()
        async with draining(gateway):
            await client.hears(SAID)
            await server.hears(SAID)


@pytest.mark.parametrize("from_client", [True, False], ids=["client", "server"])
async def test_a_message_may_be_left_between_two_of_its_fragments(
    start: Start, host: tuple[Host, int], from_client: bool
) -> None:
    gateway = await start(to(host[1]), AMPLE)
    more = asyncio.Event()

    async def fragments() -> AsyncIterator[str]:
        yield "one"
        yield "two"
        await more.wait()
        yield "three"

    async with connect(url(gateway.port), proxy=None, **dict(PLAIN)) as end:
        client, server = Party(end), await host[0].party()
        sender, reader = (client, server) if from_client else (server, client)
        sending = asyncio.ensure_future(sender.end.send(fragments()))
        await reader.hears("one", "two")
        async with draining(gateway):
            await reader.hears("one", "two", SAID)
            await sender.hears(SAID)
        more.set()
        with pytest.raises(ConnectionClosed):
            await sending


LARGE = bytes(range(256)) * 2000


async def test_a_large_frame_of_the_client_arrives_whole_before_the_goodbye(
    start: Start, host: tuple[Host, int]
) -> None:
    gateway = await start(to(host[1]), AMPLE)
    client, server = await raw_client(gateway), await host[0].party()
    frame = message(LARGE, MASK)
    await client.send(message(b"hello", MASK) + frame[:10_000])
    await server.hears(b"hello")
    async with draining(gateway):
        assert await client.reader.readexactly(len(GOODBYE)) == GOODBYE
        await client.send(frame[10_000:200_000])
        await client.send(frame[200_000:] + message(b"too late", MASK) + close_frame(1001, "", MASK))
        await server.hears(b"hello", LARGE, SAID)
        assert await client.ends()


async def test_a_large_frame_of_the_server_arrives_whole_before_the_goodbye(start: Start, upstream: Upstream) -> None:
    more = asyncio.Event()
    frame = message(LARGE)

    async def script(visit: Visit) -> None:
        key = (await visit.request()).partition(b"sec-websocket-key: ")[2].partition(b"\r\n")[0]
        accept = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        await visit.write(SWITCH.replace(accept, accept_key(key.decode()).encode()))
        await visit.write(message(b"hello") + frame[:10_000])
        await more.wait()
        await visit.write(frame[10_000:200_000])
        await visit.write(frame[200_000:] + message(b"too late") + close_frame(1001))

    upstream.script = script
    gateway = await start(limits=AMPLE)
    async with connect(url(gateway.port), proxy=None, **dict(PLAIN)) as end:
        client = Party(end)
        await client.hears(b"hello")
        async with draining(gateway):
            await asyncio.sleep(0.02)
            await client.hears(b"hello")
            more.set()
            await client.hears(b"hello", LARGE, SAID)


async def test_a_frame_that_never_ends_is_cut_when_the_drain_is_over(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "CLOSING", 0.05)  # begins when the frame has ended
    upstream.script = switching
    gateway = await start(limits=Limits(drain_timeout=0.3))
    client = await raw_client(gateway)
    await client.send(message(LARGE, MASK)[:10])
    await upstream.hears(message(LARGE, MASK)[:10])
    async with draining(gateway, least=0.3):
        assert await client.rest() == GOODBYE
    assert upstream.received.endswith(message(LARGE, MASK)[:10])


@pytest.mark.parametrize("talking", [False, True], ids=["silent", "talking"])
async def test_a_client_that_never_answers_the_goodbye_is_cut_soon(
    start: Start, host: tuple[Host, int], monkeypatch: pytest.MonkeyPatch, talking: bool
) -> None:
    monkeypatch.setattr(tunnel, "CLOSING", 0.3)
    gateway = await start(to(host[1]), AMPLE)
    client, server = await raw_client(gateway), await host[0].party()

    async def talk() -> None:
        while talking:
            client.writer.write(message(b"too late", MASK))
            await asyncio.sleep(0.01)

    async with draining(gateway, least=0.3):
        assert await client.reader.readexactly(len(GOODBYE)) == GOODBYE
        saying = asyncio.ensure_future(talk())
        try:
            assert await client.ends()
            await server.hears(SAID)
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)


async def test_a_closing_handshake_that_is_under_way_ends_by_itself(start: Start, upstream: Upstream) -> None:
    more = asyncio.Event()

    async def script(visit: Visit) -> None:
        await switching(visit)
        await visit.read()
        await more.wait()
        await visit.write(message(b"last words") + close_frame(1000))
        visit.writer.write_eof()

    upstream.script = script
    gateway = await start(limits=AMPLE)
    client = await raw_client(gateway)
    await client.send(close_frame(1000, "", MASK))
    await upstream.hears(close_frame(1000, "", MASK))
    async with draining(gateway):
        more.set()
        assert await client.rest() == message(b"last words") + close_frame(1000)
        client.close()
    assert upstream.received.endswith(b"\r\n\r\n" + close_frame(1000, "", MASK))


async def test_a_closing_handshake_that_was_under_way_has_no_longer_than_another(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "CLOSING", 0.3)
    upstream.script = switching
    gateway = await start(limits=AMPLE)
    client = await raw_client(gateway)
    await client.send(close_frame(1000, "", MASK))
    await upstream.hears(close_frame(1000, "", MASK))
    async with draining(gateway, least=0.3):
        assert await client.rest() == b""


async def test_a_reset_behind_the_goodbye_does_not_take_it_back(start: Start, upstream: Upstream) -> None:
    async def script(visit: Visit) -> None:
        await switching(visit)
        await visit.read()  # the goodbye
        reset(visit.writer.transport)

    upstream.script = script
    gateway = await start(limits=AMPLE)
    client = await raw_client(gateway)
    async with draining(gateway):
        assert await client.reader.read() == GOODBYE  # a reset would raise


async def test_a_side_that_has_ended_without_a_close_frame_is_not_waited_for(start: Start, upstream: Upstream) -> None:
    async def script(visit: Visit) -> None:
        await switching(visit)
        visit.writer.write_eof()

    upstream.script = script
    gateway = await start(limits=AMPLE)
    client = await raw_client(gateway)
    assert await client.reader.read() == b""  # the upstream's end, passed on
    async with draining(gateway):
        await upstream.hears(b"\r\n\r\n\x88")
        await client.send(close_frame(1001, "", MASK))
        assert await client.ends()


async def test_a_side_that_ends_inside_a_frame_is_not_waited_for(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "CLOSING", 0.3)
    gone = asyncio.Event()

    async def script(visit: Visit) -> None:
        await switching(visit)
        while await visit.read():
            pass
        await gone.wait()

    upstream.script = script
    gateway = await start(limits=AMPLE)
    client = await raw_client(gateway)
    await client.send(message(LARGE, MASK)[:10])
    await upstream.hears(message(LARGE, MASK)[:10])
    async with draining(gateway, least=0.3):
        client.end()
        assert await client.rest() == GOODBYE
    gone.set()
    assert upstream.received.endswith(message(LARGE, MASK)[:10])


async def test_a_tunnel_that_comes_about_during_the_drain_ends_at_once(start: Start, upstream: Upstream) -> None:
    more = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await more.wait()
        await visit.write(SWITCH)

    upstream.script = script
    gateway = await start(limits=AMPLE)
    client = await gateway.client()
    await client.send(handshake())
    await upstream.hears(b"\r\n\r\n")
    async with draining(gateway):
        more.set()
        assert (await client.answer()).status == 101
        assert await client.reader.readexactly(len(GOODBYE)) == GOODBYE
        await client.send(close_frame(1001, "", MASK))
        await upstream.hears(b"\r\n\r\n\x88")
        await upstream.visits[0].write(close_frame(1001))


async def test_after_a_long_silence_too_a_side_has_time_to_answer_the_others_end(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "HALF_CLOSED", 0.3)

    async def script(visit: Visit) -> None:
        await switching(visit)
        await asyncio.sleep(0.4)
        visit.writer.write_eof()

    upstream.script = script
    client = await raw_client(await start())
    assert await client.ends()
    await client.send(b"an answer")
    await upstream.hears(b"an answer")
