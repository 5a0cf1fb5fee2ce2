"""Tunnels byte by byte: bad handshakes (G1, G2), bytes that come early, ends and resets, silence (G5, G7)."""

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.tokens import SECRET, claims, sign
from tests.wire.actors import OK, Client, Upstream, Visit, simple
from tests.wire.conftest import Start

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def handshake(**changes: bytes | None) -> bytes:
    """A sound handshake with some fields changed; None takes one away."""
    fields: dict[str, bytes | None] = {
        "host": b"a",
        "connection": b"Upgrade",
        "upgrade": b"websocket",
        "sec_websocket_version": b"13",
        "sec_websocket_key": KEY,
    }
    line = changes.pop("line", None) or b"GET /ws HTTP/1.1"
    fields |= changes
    lines = [name.replace("_", "-").encode() + b": " + value for name, value in fields.items() if value is not None]
    return b"\r\n".join((line, *lines, b"", b""))


async def switching(visit: Visit, early: bytes = b"") -> None:
    """Accepts the handshake, and sends `early` in the same packet."""
    await visit.request()
    await visit.write(SWITCH + early)


async def echoing(visit: Visit) -> None:
    """An upstream that speaks early, says everything again, and ends with "bye"."""
    await switching(visit, b"early")
    while data := await visit.read():
        await visit.write(data)
        if data == b"bye":
            visit.close()


async def converse(client: Client) -> None:
    """With such an upstream, from the handshake to the end of both sides."""
    assert (await client.ask(handshake())).status == 101
    assert await client.reader.readexactly(5) == b"early"
    await client.send(b"hello")
    assert await client.reader.readexactly(5) == b"hello"
    await client.send(b"bye")
    assert await client.rest() == b"bye"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sec_websocket_version": b"777"}, 426),
        ({"sec_websocket_version": b"12"}, 426),
        ({"sec_websocket_version": None}, 426),
        ({"sec_websocket_key": None}, 400),
        ({"sec_websocket_key": b"c2hvcnQ="}, 400),
        ({"sec_websocket_key": b"not base64 at all!!!!!"}, 400),
        ({"connection": None}, 400),
        ({"connection": b"keep-alive"}, 400),
        ({"connection": b"Upgrade, Host"}, 400),
        ({"line": b"POST /ws HTTP/1.1"}, 400),
        ({"line": b"GET /ws HTTP/1.0"}, 400),
        ({"content_length": b"5"}, 400),
        ({"transfer_encoding": b"chunked"}, 400),
    ],
)
async def test_g1_a_handshake_that_is_not_sound_is_refused_and_not_tunnelled(
    client: Client, upstream: Upstream, changes: dict[str, bytes], status: int
) -> None:
    upstream.script = switching
    answer = await client.ask(handshake(**changes))
    assert answer.status == status
    if status == 426:
        assert answer.headers["sec-websocket-version"] == "13"
        assert answer.headers["upgrade"] == "websocket"
    await client.send(b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await client.ends()
    assert upstream.received == b""


@pytest.mark.parametrize("protocol", [b"h2c", b"TLS/1.0", b"websocket2", b"h2c, websocket"])
async def test_g1_another_protocol_is_ignored(client: Client, upstream: Upstream, protocol: bytes) -> None:
    answer = await client.ask(handshake(upgrade=protocol, http2_settings=b"AAMAAABkAARAAAAAAAIAAAAA"))
    assert (answer.status, answer.body) == (200, b"ok")
    received = upstream.received.lower()
    assert b"upgrade" not in received
    assert b"http2-settings" not in received
    assert (await client.ask(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200


async def test_the_handshake_reaches_the_upstream_whole(client: Client, upstream: Upstream) -> None:
    upstream.script = switching
    answer = await client.ask(handshake(origin=b"http://a", sec_websocket_protocol=b"chat, news"))
    assert answer.status == 101
    assert answer.headers["upgrade"] == "websocket"
    assert answer.headers["connection"].lower() == "upgrade"
    assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    received = upstream.received
    for line in (
        b"connection: upgrade",
        b"upgrade: websocket",
        b"sec-websocket-version: 13",
        b"sec-websocket-key: " + KEY,
        b"sec-websocket-protocol: chat, news",
        b"origin: http://a",
    ):
        assert received.count(b"\r\n" + line + b"\r\n") == 1


async def test_g2_bytes_behind_a_refused_handshake_are_requests_and_nothing_else(
    start: Start, upstream: Upstream
) -> None:
    """An upstream that answers 200 or 426 has not switched: what comes next is judged like any request."""
    upstream.script = refusing
    yaml = simple(upstream).replace('"/**"', "/ws")
    client = await (await start(yaml)).client()
    await client.send(handshake() + b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.answer()).status == 426
    assert (await client.answer()).status == 404
    assert upstream.requests == [b"GET /ws"]


async def refusing(visit: Visit) -> None:
    await visit.request()
    await visit.write(b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 8\r\nContent-Length: 0\r\n\r\n")
    while True:
        await visit.request()
        await visit.write(OK)


async def test_g2_after_a_refused_handshake_the_connection_stays_http(client: Client, upstream: Upstream) -> None:
    upstream.script = refusing
    assert (await client.ask(handshake())).status == 426
    assert (await client.ask(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
    assert len(upstream.visits) == 1


async def test_g2_a_101_that_switches_to_nothing_is_a_502(client: Client, upstream: Upstream) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")

    upstream.script = script
    assert (await client.ask(handshake())).status == 502


async def test_g3_the_handshake_needs_the_routes_credentials(start: Start, upstream: Upstream) -> None:
    upstream.script = switching
    provider = f"auth: {{providers: {{p: {{type: jwt, algorithms: [HS256], secret: '{SECRET.decode()}'}}}}}}"
    gateway = await start(more=provider, route="auth: {providers: [p], scopes: [chat]}")

    async def status(scope: str | None) -> int:
        token = None if scope is None else b"Bearer " + sign(claims(scope=scope, exp=time.time() + 60))
        return (await (await gateway.client()).ask(handshake(authorization=token))).status

    assert await status(None) == 401
    assert await status("mail") == 403
    assert upstream.visits == []
    assert await status("chat") == 101


async def test_bytes_in_the_packet_of_the_101_are_the_tunnels_first(client: Client, upstream: Upstream) -> None:
    async def script(visit: Visit) -> None:
        await switching(visit, b"early bird")
        while data := await visit.read():
            await visit.write(data)

    upstream.script = script
    assert (await client.ask(handshake())).status == 101
    assert await client.reader.readexactly(10) == b"early bird"
    await client.send(b"worm")
    assert await client.reader.readexactly(4) == b"worm"


@pytest.mark.parametrize("size", [4, 50_000, 500_000])
async def test_bytes_behind_the_handshake_are_held_until_the_tunnel_stands(
    client: Client, upstream: Upstream, size: int
) -> None:
    answered = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        assert bytes(visit.received).endswith(b"\r\n\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(visit.read(), 0.05)  # nothing before the 101
        answered.set()
        await visit.write(SWITCH)
        while data := await visit.read():
            await visit.write(data)

    upstream.script = script
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    sending = asyncio.ensure_future(client.send(handshake() + data))
    assert (await client.answer()).status == 101
    assert answered.is_set()
    assert await client.reader.readexactly(size) == data
    await sending


Side = Callable[[asyncio.StreamReader, asyncio.StreamWriter, list[object]], Awaitable[None]]


async def note(reader: asyncio.StreamReader, seen: list[object]) -> None:
    """What the rest of the connection looks like from here."""
    got = b""
    try:
        while data := await reader.read(65536):
            got += data
        seen += [got, "end"]
    except ConnectionResetError:
        seen += [got, "reset"]


async def ending(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[object]) -> None:
    writer.write(b"last")
    writer.write_eof()
    await note(reader, seen)
    writer.close()


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[object]) -> None:
    seen.append(await reader.read(1))
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[object]) -> None:
    writer.write(b"last")
    await writer.drain()
    writer.close()


async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[object]) -> None:
    """Says something, listens to the end, answers what it was told, and ends."""
    writer.write(b"!")
    await note(reader, seen)
    if seen[-1] == "end":
        writer.write(b"goodbye")
        writer.close()


@pytest.mark.parametrize(
    ("near", "far"),
    [(patient, ending), (ending, patient), (resetting, patient), (patient, resetting), (closing, patient),
     (patient, closing), (ending, ending)],
)  # fmt: skip
async def test_g5_ends_and_resets_look_the_same_as_without_the_gateway(
    start: Start, upstream: Upstream, near: Side, far: Side
) -> None:
    finished = asyncio.Event()
    there: list[object] = []

    async def script(visit: Visit) -> None:
        await switching(visit)
        await far(visit.reader, visit.writer, there)
        visit.ended.set()
        finished.set()

    upstream.script = script

    async def hold(port: int) -> tuple[list[object], list[object], float]:
        there.clear()
        finished.clear()
        here: list[object] = []
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(handshake())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        started = time.monotonic()
        async with asyncio.timeout(5):
            await near(reader, writer, here)
            await finished.wait()
        writer.transport.abort()
        return here, list(there), time.monotonic() - started

    alone = await hold(upstream.port)
    gateway = await start()
    through = await hold(gateway.port)
    assert through[:2] == alone[:2]
    assert through[2] - alone[2] < 0.1
    async with asyncio.timeout(1):
        await gateway.quiet()


async def test_g7_a_silent_tunnel_ends_on_both_sides(start: Start, upstream: Upstream) -> None:
    upstream.script = switching
    client = await (await start(up="timeouts: {idle: 200ms}")).client()
    assert (await client.ask(handshake())).status == 101
    started = time.monotonic()
    for _ in range(3):
        await asyncio.sleep(0.1)
        await client.send(b"x")  # not silent
    assert not upstream.visits[0].ended.is_set()
    await client.rest()
    await upstream.visits[0].ended.wait()
    assert 0.45 < time.monotonic() - started < 1.5


@pytest.mark.parametrize("sender", ["client", "upstream"])
async def test_g10_a_tunnel_holds_back_who_sends_faster_than_the_other_reads(
    start: Start, upstream: Upstream, sender: str
) -> None:
    pushed = 0
    release = asyncio.Event()

    async def push(writer: asyncio.StreamWriter) -> None:
        nonlocal pushed
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            pushed += 65536

    async def script(visit: Visit) -> None:
        await switching(visit)
        if sender == "upstream":
            await push(visit.writer)
        await release.wait()

    upstream.script = script
    gateway = await start()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
    writer.write(handshake())
    await reader.readuntil(b"\r\n\r\n")
    task = asyncio.ensure_future(push(writer)) if sender == "client" else None
    before = -1
    while pushed != before:
        before = pushed
        await asyncio.sleep(0.2)
    assert 0 < pushed < 24 * 2**20, f"{pushed} bytes"  # four kernel buffers of up to 6 MB
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    release.set()
    writer.transport.abort()
