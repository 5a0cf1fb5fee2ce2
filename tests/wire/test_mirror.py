"""Copies over real sockets: whatever the other upstream does with them, clients see nothing of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.assemble import assemble
from gateway.auth.permissions import anyone
from gateway.config import load
from gateway.exchange import ANONYMOUS, Call, Caller
from gateway.handler import Handler, Route
from gateway.http.server import Limits, Server
from gateway.limits.door import unlimited
from gateway.limits.shedding import admit_all
from gateway.resilience.mirror import REPLY_LIMIT, Copies, mirror
from gateway.routing.router import Router, Rule
from tests.wire.actors import PATIENCE, Gateway, Upstream, Visit
from tests.wire.payloads import get, post
from tests.wire.test_websocket_raw import handshake, switching

MOST = 3
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def anybody(call: Call) -> Caller:
    return ANONYMOUS


class Stage:
    """A gateway whose every request is copied from one upstream to another, the shadow."""

    def __init__(self, upstream: Upstream, shadow: Upstream) -> None:
        self.upstream = upstream
        self.shadow = shadow
        self.outcomes: list[str] = []

    async def start(self, folder: Path) -> None:
        runtime = assemble(load(self._written(folder), {}))
        road, other = runtime.upstreams["up"].send, runtime.upstreams["shadow"].send
        self.copies = Copies("shadow", other, self.outcomes.append, asyncio.get_running_loop().time, most=MOST)
        send = mirror(self.copies, 1.0)(road)
        route = Route("all", lambda call: None, anybody, anyone, admit_all, unlimited, send, lambda _: send, None)
        rule = Rule("/**", None, None, (), (), route, "all")
        server = Server(Handler(Router([rule]), lambda *_: None, instance="test"), Limits(drain_timeout=0.2))
        address = await server.listen("127.0.0.1:0")
        self.gateway = Gateway(runtime, server, int(address.rpartition(":")[2]))

    def _written(self, folder: Path) -> Path:
        file = folder / "routes.yaml"
        file.write_text(f"""
listen: {{admin: "off"}}
upstreams:
  up: {{targets: ["http://127.0.0.1:{self.upstream.port}"], retry: off, breaker: off}}
  shadow: {{targets: ["http://127.0.0.1:{self.shadow.port}"], retry: off, breaker: off}}
routes:
  - {{name: all, match: {{path: "/**"}}, upstream: up}}
""")
        return file

    async def ended(self, count: int) -> list[str]:
        """How the first so many copies ended."""
        async with asyncio.timeout(PATIENCE):
            while len(self.outcomes) < count:
                await asyncio.sleep(0.002)
        return self.outcomes

    async def stop(self) -> None:
        """Nothing may be left of the copies."""
        try:
            await self.copies.close()
            await self.gateway.quiet()
        finally:
            await self.gateway.stop()


@pytest.fixture
async def stage(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Stage]:
    shadow = await Upstream().start()
    try:
        stage = Stage(upstream, shadow)
        await stage.start(tmp_path)
        try:
            yield stage
        finally:
            await stage.stop()
    finally:
        await shadow.stop()


async def frozen(visit: Visit) -> None:
    await visit.request()
    await visit.ended.wait()


async def read_until_it_ends(visit: Visit) -> None:
    while await visit.read():
        pass


async def test_the_shadow_receives_the_same_request_with_a_mark(stage: Stage) -> None:
    client = await stage.gateway.client()
    answer = await client.ask(post(b"Content-Length: 5", b"X-Tag: 7", body=b"order"))
    assert (answer.status, answer.body) == (200, b"ok")
    assert await stage.ended(1) == ["2xx"]
    original = set(stage.upstream.received.split(b"\r\n"))
    copied = set(stage.shadow.received.split(b"\r\n"))
    assert copied - original == {b"host: 127.0.0.1:%d" % stage.shadow.port, b"x-gateway-mirror: 1"}
    assert original - copied == {b"host: 127.0.0.1:%d" % stage.upstream.port}
    assert b"x-request-id: " + answer.headers["x-request-id"].encode() in copied


async def test_a_frozen_shadow_holds_up_nobody_and_gets_no_more_than_so_many_copies(stage: Stage) -> None:
    stage.shadow.script = frozen
    client = await stage.gateway.client()
    async with asyncio.timeout(1):
        for _ in range(MOST + 5):
            assert (await client.ask(get())).status == 200
    assert len(stage.copies) == MOST
    assert stage.outcomes == ["skipped"] * 5
    await stage.copies.close()
    assert len(stage.copies) == 0
    async with asyncio.timeout(PATIENCE):  # the connections go with them
        while stage.gateway.busy():
            await asyncio.sleep(0.002)


async def test_a_shadow_that_is_down_fails_its_copies_only(stage: Stage) -> None:
    await stage.shadow.stop()
    client = await stage.gateway.client()
    assert [(await client.ask(get())).status for _ in range(2)] == [200, 200]
    assert await stage.ended(2) == ["failed", "failed"]


async def test_a_reply_that_streams_is_read_to_its_end_and_its_connection_used_again(stage: Stage) -> None:
    async def streaming(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.write(STREAM + b"3\r\none\r\n")
            await asyncio.sleep(0.02)
            await visit.write(b"3\r\ntwo\r\n0\r\n\r\n")

    stage.shadow.script = streaming
    client = await stage.gateway.client()
    for number in (1, 2):
        assert (await client.ask(get())).status == 200
        assert await stage.ended(number) == ["2xx"] * number
    assert len(stage.shadow.visits) == 1


async def test_a_reply_without_an_end_is_cut_off(stage: Stage) -> None:
    async def endless(visit: Visit) -> None:
        await visit.request()
        await visit.write(STREAM)
        while not visit.writer.is_closing():
            await visit.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent.append(65536)

    sent: list[int] = []
    stage.shadow.script = endless
    assert (await (await stage.gateway.client()).ask(get())).status == 200
    assert await stage.ended(1) == ["2xx"]
    assert sum(sent) < REPLY_LIMIT + 16 * 2**20  # what the sockets' own buffers took besides
    async with asyncio.timeout(PATIENCE):
        while stage.gateway.busy():
            await asyncio.sleep(0.002)


async def test_a_body_that_is_still_on_its_way_goes_to_the_original_only(stage: Stage) -> None:
    client = await stage.gateway.client()
    await client.send(post(b"Content-Length: 10", body=b"first"))
    await stage.upstream.hears(b"first")
    await client.send(b"later")
    assert (await client.answer()).status == 200
    assert stage.outcomes == ["skipped"]
    assert stage.upstream.received.endswith(b"firstlater")
    assert stage.shadow.visits == []


async def test_a_tunnel_is_not_copied(stage: Stage) -> None:
    stage.upstream.script = switching
    client = await stage.gateway.client()
    await client.send(handshake())
    assert (await client.answer()).status == 101
    assert stage.outcomes == ["skipped"]
    assert stage.shadow.visits == []


async def test_a_client_that_leaves_does_not_take_its_copy_along(stage: Stage) -> None:
    go = asyncio.Event()

    async def late(visit: Visit) -> None:
        await visit.request()
        await go.wait()
        await visit.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    stage.upstream.script = read_until_it_ends
    stage.shadow.script = late
    client = await stage.gateway.client()
    await client.send(get())
    await stage.shadow.hears(b"x-gateway-mirror: 1")
    client.reset()
    async with asyncio.timeout(PATIENCE):
        await stage.upstream.visits[0].ended.wait()  # the original is given up
    go.set()
    assert await stage.ended(1) == ["5xx"]
