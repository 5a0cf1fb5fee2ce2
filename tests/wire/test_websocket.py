"""WebSocket with a real client and server (G5, G6): each conversation is held with and without the gateway.

What either end sees must be the same, closes included, and nothing may take longer.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from tests.wire.actors import Gateway
from tests.wire.conftest import Start

ADDED_WAIT = 0.05
"""Seconds that the gateway may add to a whole conversation, handshake and closing included."""

ROUNDS = 3
"""The quickest of these counts: other processes on the machine are not the gateway's doing."""

Play = Callable[[Connection, list[object]], Awaitable[None]]


def short(message: str | bytes) -> object:
    """A message, or what identifies a long one."""
    if len(message) < 100:
        return message
    raw = message.encode() if isinstance(message, str) else message
    return type(message).__name__, len(message), hashlib.sha256(raw).hexdigest()


def closed(error: ConnectionClosed) -> object:
    received = error.rcvd and (int(error.rcvd.code), error.rcvd.reason)
    sent = error.sent and (int(error.sent.code), error.sent.reason)
    return "closed", received, sent, error.rcvd_then_sent


async def listen(end: Connection, seen: list[object]) -> None:
    """Note every message until the end, and what kind of an end it was."""
    try:
        while True:
            seen.append(short(await end.recv()))
    except ConnectionClosed as error:
        seen.append(closed(error))


async def echo(end: Connection, seen: list[object]) -> None:
    try:
        while True:
            message = await end.recv()
            seen.append(short(message))
            await end.send(message)
    except ConnectionClosed as error:
        seen.append(closed(error))


def telling(*messages: str | bytes | Iterable[str] | Iterable[bytes], answers: int = 0) -> Play:
    """Sends these, waits for so many answers, and says goodbye."""

    async def play(end: Connection, seen: list[object]) -> None:
        for message in messages:
            await end.send(message)
        seen.extend([short(await end.recv()) for _ in range(answers)])
        await end.close()
        await listen(end, seen)

    return play


def closing(code: int, reason: str) -> Play:
    async def play(end: Connection, seen: list[object]) -> None:
        await end.close(code, reason)
        await listen(end, seen)

    return play


async def pieces(end: Connection, seen: list[object]) -> None:
    """Notes the fragments of a message as they come."""
    seen.append([piece async for piece in end.recv_streaming()])
    await end.close()
    await listen(end, seen)


async def pinging(end: Connection, seen: list[object]) -> None:
    for data in (b"", b"\x00\xff", b"x" * 125):
        await (await end.ping(data))
        seen.append(("pong", data))
    await end.close()
    await listen(end, seen)


async def vanishing(end: Connection, seen: list[object]) -> None:
    """Closes its socket without a word."""
    await end.send("last words")
    await asyncio.sleep(0.02)
    end.transport.abort()
    await listen(end, seen)


async def protocols(end: Connection, seen: list[object]) -> None:
    seen.append(("subprotocol", end.subprotocol))
    seen.append(("extensions", [type(extension).__name__ for extension in end.protocol.extensions]))
    await telling("chosen", b"a" * 5000, answers=2)(end, seen)


async def crossing(end: Connection, seen: list[object]) -> None:
    """Both ends close at the same moment."""
    await end.send("ready")
    seen.append(await end.recv())
    await closing(1000, "enough")(end, seen)


LONG = "ä" * 8 * 2**20
NOISE = hashlib.shake_256(b"noise").digest(16 * 2**20)


@dataclass(frozen=True)
class Conversation:
    client: Play
    server: Play
    options: tuple[tuple[str, Any], ...] = ()
    """For both ends."""


PLAIN = (("compression", None),)

CONVERSATIONS = {
    "text": Conversation(telling("hello", "wörld", "", answers=3), echo),
    "binary": Conversation(telling(b"", bytes(range(256)), answers=2), echo),
    "fragments": Conversation(telling(["one ", "two ", "three"]), pieces, PLAIN),
    "fragments from the server": Conversation(pieces, telling([b"one ", b"two ", b"three"]), PLAIN),
    "ping": Conversation(pinging, listen),
    "ping from the server": Conversation(listen, pinging),
    "16 MB of text": Conversation(telling(LONG, answers=1), echo, PLAIN),
    "16 MB of noise": Conversation(telling(NOISE, answers=1), echo, PLAIN),
    "many small ones": Conversation(telling(*map(str, range(300)), answers=300), echo),
    "the server talks": Conversation(listen, telling(*map(str, range(300)))),
    "subprotocol and compression": Conversation(protocols, echo, (("subprotocols", ["chat", "news"]),)),
    "client closes with 1000": Conversation(closing(1000, ""), listen),
    "client closes with 1001": Conversation(closing(CloseCode.GOING_AWAY, "leaving"), listen),
    "client closes with 4711": Conversation(closing(4711, "its own reason"), listen),
    "server closes with 1000": Conversation(listen, closing(1000, "bye")),
    "server closes with 1011": Conversation(listen, closing(CloseCode.INTERNAL_ERROR, "a mistake")),
    "server closes with 1008": Conversation(listen, closing(CloseCode.POLICY_VIOLATION, "expired")),
    "both close": Conversation(crossing, crossing),
    "client vanishes": Conversation(vanishing, listen),
    "server vanishes": Conversation(listen, vanishing),
}


class Talk:
    """A WebSocket server that plays one part of a conversation and notes what it saw."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.seen: list[object] = []
        self.done = asyncio.Event()

    async def serve(self, end: ServerConnection) -> None:
        await self.conversation.server(end, self.seen)
        self.done.set()

    async def hold(self, port: int) -> tuple[float, list[object], list[object]]:
        """Hold the conversation through `port`: seconds, what the client saw, what the server saw."""
        self.seen, self.done = [], asyncio.Event()
        seen: list[object] = []
        started = time.monotonic()
        options = dict(self.conversation.options)
        async with asyncio.timeout(10):
            async with connect(url(port), max_size=None, proxy=None, **options) as end:
                await self.conversation.client(end, seen)
            await self.done.wait()
        return time.monotonic() - started, seen, self.seen


def url(port: int) -> str:
    return f"ws://127.0.0.1:{port}/talk"


def to(port: int) -> str:
    return f"""
listen: {{admin: "off"}}
upstreams: {{up: {{targets: ["http://127.0.0.1:{port}"]}}}}
routes: [{{name: talk, match: {{path: /talk}}, upstream: up}}]
"""


@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_a_conversation_is_the_same_with_and_without_the_gateway(start: Start, name: str) -> None:
    talk = Talk(CONVERSATIONS[name])
    async with serve(talk.serve, "127.0.0.1", 0, max_size=None, **dict(talk.conversation.options)) as server:
        port = server.sockets[0].getsockname()[1]
        gateway = await start(to(port))
        alone = [await talk.hold(port) for _ in range(ROUNDS)]
        through = [await talk.hold(gateway.port) for _ in range(ROUNDS)]
    assert alone[0][1]
    assert alone[0][2]
    for _, client, upstream in through:
        assert client == alone[0][1]
        assert upstream == alone[0][2]
    added = min(took for took, _, _ in through) - min(took for took, _, _ in alone)
    work = 0.5 if "16 MB" in name else 0.0  # copying 64 MB more is work, not a wait
    assert added < ADDED_WAIT + work, f"the gateway added {added * 1000:.1f} ms"


@pytest.fixture
async def echoing(start: Start) -> AsyncIterator[tuple[Gateway, list[object]]]:
    """A gateway in front of an echo server, and what that server has seen."""
    seen: list[object] = []
    async with serve(lambda end: echo(end, seen), "127.0.0.1", 0) as server:
        yield await start(to(server.sockets[0].getsockname()[1])), seen


async def test_a_tunnel_takes_a_connection_and_gives_it_back(echoing: tuple[Gateway, list[object]]) -> None:
    gateway, _ = echoing
    async with connect(url(gateway.port), proxy=None) as end:
        await end.send("here")
        assert await end.recv() == "here"
        assert gateway.busy() == 1
        assert len(gateway.server.connections) == 1
    await gateway.quiet()
    assert gateway.busy() == 0


async def test_a_client_that_vanishes_ends_the_upstreams_side_within_a_second(
    echoing: tuple[Gateway, list[object]],
) -> None:
    gateway, seen = echoing
    end = await connect(url(gateway.port), proxy=None)
    await end.send("here")
    await end.recv()
    end.transport.abort()
    async with asyncio.timeout(1):
        await gateway.quiet()
        while len(seen) < 2:
            await asyncio.sleep(0.005)
    assert seen == ["here", ("closed", None, None, None)]


async def test_a_drain_ends_tunnels(echoing: tuple[Gateway, list[object]]) -> None:
    gateway, _ = echoing
    end: ClientConnection = await connect(url(gateway.port), proxy=None)
    await end.send("here")
    await end.recv()
    started = time.monotonic()
    await gateway.server.close()  # its drain_timeout is 0.2 s
    with pytest.raises(ConnectionClosed):
        await end.recv()
    assert time.monotonic() - started < 1
    assert gateway.busy() == 0


async def test_a_refused_handshake_is_a_plain_reply(start: Start) -> None:
    async def refuse(end: ServerConnection, request: Request) -> Response:
        return end.respond(403, "not you\n")

    async def never(end: ServerConnection) -> None:
        raise AssertionError("the handshake was refused")

    async with serve(never, "127.0.0.1", 0, process_request=refuse) as server:
        gateway = await start(to(server.sockets[0].getsockname()[1]))
        with pytest.raises(InvalidStatus) as refused:
            await connect(url(gateway.port), proxy=None)
    assert (refused.value.response.status_code, refused.value.response.body) == (403, b"not you\n")
