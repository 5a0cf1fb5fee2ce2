"""Places over real sockets: held to the end of what they are for, and free again however it ends (H12)."""

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.wire.actors import OK, Answer, Client, Gateway, Upstream, Visit
from tests.wire.conftest import Start
from tests.wire.payloads import get
from tests.wire.test_websocket_raw import SWITCH, handshake

ONE = "retry: off, breaker: off, concurrency: {limit: 1}"
LINE = "retry: off, breaker: off, concurrency: {limit: 1, queue: 1, queue_timeout: 200ms}"
ROUTE = "concurrency: {limit: 1}"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n"


class Stage:
    """An upstream whose replies wait for a word."""

    def __init__(self, upstream: Upstream) -> None:
        self.go = asyncio.Event()
        self.upstream = upstream
        upstream.script = self.play

    async def play(self, visit: Visit) -> None:
        while True:
            request = await visit.request()
            if b"/slow" in request:
                await self.go.wait()
                await visit.write(OK)
            elif b"/stream" in request:
                await visit.write(STREAM)
                await self.go.wait()
                await visit.write(b"3\r\ntwo\r\n0\r\n\r\n")
            elif b"/hangup" in request:
                visit.reset()
                return
            elif b"/broken" in request:
                await visit.write(STREAM)
                visit.reset()
                return
            else:
                await visit.write(OK)


@pytest.fixture
def stage(upstream: Upstream) -> Stage:
    return Stage(upstream)


@pytest.fixture(params=["upstream", "route", "key"])
async def gateway(request: pytest.FixtureRequest, start: Start, upstream: Upstream, stage: Stage) -> Gateway:
    """With one place: of the upstream, of the route, or for each caller."""
    match request.param:
        case "upstream":
            return await start(up=ONE)
        case "route":
            return await start(route=ROUTE)
        case _:
            return await start(route="concurrency: {limit: 1, by: ip}")


def shed(answer: Answer) -> bool:
    if answer.status != 503:
        return False
    assert b'"overloaded"' in answer.body
    assert int(answer.headers["retry-after"]) >= 1
    return True


async def is_full(gateway: Gateway) -> bool:
    return shed(await (await gateway.client()).ask(get(target=b"/fast")))


async def is_free_again(gateway: Gateway) -> None:
    """Soon: a client that has closed its connection is believed to be gone after 0.75 s (docs/decisions/0004)."""
    async with asyncio.timeout(3):
        while await is_full(gateway):
            await asyncio.sleep(0.005)


async def begun(gateway: Gateway, stage: Stage, target: bytes) -> Client:
    client = await gateway.client()
    await client.send(get(target=target))
    await stage.upstream.hears(target)
    return client


async def test_h12_one_more_than_the_limit_is_shed_and_never_sent(gateway: Gateway, stage: Stage) -> None:
    first = await begun(gateway, stage, b"/slow")
    assert await is_full(gateway)
    stage.go.set()
    assert (await first.answer()).body == b"ok"
    assert stage.upstream.requests == [b"GET /slow"]
    await is_free_again(gateway)


async def test_a_connection_that_was_refused_goes_on_and_is_served_later(gateway: Gateway, stage: Stage) -> None:
    first = await begun(gateway, stage, b"/slow")
    second = await gateway.client()
    assert shed(await second.ask(get()))
    stage.go.set()
    assert (await first.answer()).status == 200
    assert (await second.ask(get())).status == 200


async def test_a_reply_holds_its_place_until_its_last_byte(gateway: Gateway, stage: Stage) -> None:
    client = await begun(gateway, stage, b"/stream")
    await client.reader.readuntil(b"one\r\n")
    assert await is_full(gateway)
    stage.go.set()
    await client.reader.readuntil(b"0\r\n\r\n")
    await is_free_again(gateway)


@pytest.mark.parametrize("target", [b"/slow", b"/stream"])
@pytest.mark.parametrize("leave", [Client.close, Client.reset])
async def test_a_client_that_leaves_frees_its_place(
    gateway: Gateway, stage: Stage, target: bytes, leave: Callable[[Client], None]
) -> None:
    client = await begun(gateway, stage, target)
    if target == b"/stream":
        await client.reader.readuntil(b"one\r\n")
    assert await is_full(gateway)
    leave(client)
    await is_free_again(gateway)


async def test_a_reply_that_breaks_off_frees_its_place(gateway: Gateway, stage: Stage) -> None:
    client = await begun(gateway, stage, b"/broken")
    await client.rest()
    await is_free_again(gateway)


@pytest.mark.parametrize(("line", "status"), [(b"HEAD /fast", 200), (b"GET /hangup", 502)])
async def test_a_reply_without_a_body_and_a_failed_try_hold_no_place(
    gateway: Gateway, line: bytes, status: int
) -> None:
    client = await gateway.client()
    for _ in range(3):
        await client.send(line + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer(head_only=line.startswith(b"HEAD"))).status == status
    await is_free_again(gateway)


@pytest.mark.parametrize("end", ["client", "upstream"])
async def test_a_tunnel_holds_its_place_until_it_ends(gateway: Gateway, upstream: Upstream, end: str) -> None:
    async def switching(visit: Visit) -> None:
        if b"/ws" not in await visit.request():
            await visit.write(OK)
            return
        await visit.write(SWITCH)
        if await visit.read() == b"end":
            visit.close()

    upstream.script = switching
    client = await gateway.client()
    assert (await client.ask(handshake())).status == 101
    assert await is_full(gateway)
    if end == "client":
        client.reset()
    else:
        await client.send(b"end")
        assert await client.ends()
        assert await is_full(gateway)  # the client's side is still open
        client.close()
    await is_free_again(gateway)


async def test_who_waits_in_line_is_served_in_turn(start: Start, stage: Stage) -> None:
    gateway = await start(up=LINE)
    first = await begun(gateway, stage, b"/slow")
    second = await gateway.client()
    await second.send(get(target=b"/second"))
    assert await is_full(gateway)  # the line has one place
    assert stage.upstream.requests == [b"GET /slow"]
    stage.go.set()
    assert (await first.answer()).status == 200
    assert (await second.answer()).status == 200
    assert stage.upstream.requests == [b"GET /slow", b"GET /second"]


async def test_who_waits_too_long_is_shed(start: Start, stage: Stage) -> None:
    gateway = await start(up=LINE)
    await begun(gateway, stage, b"/slow")
    before = time.monotonic()
    assert await is_full(gateway)
    assert 0.19 <= time.monotonic() - before < 1
    assert stage.upstream.requests == [b"GET /slow"]


async def test_nobody_waits_in_line_longer_than_the_time_for_the_whole_call(start: Start, stage: Stage) -> None:
    gateway = await start(up=LINE.replace("200ms", "5s") + ", timeouts: {try: 150ms, total: 150ms}")
    # A stream, for its head is in time and its place is held for as long as it takes.
    client = await begun(gateway, stage, b"/stream")
    await client.reader.readuntil(b"one\r\n")
    before = time.monotonic()
    assert await is_full(gateway)
    assert 0.14 <= time.monotonic() - before < 1


async def test_a_client_that_leaves_the_line_frees_its_place_in_it(start: Start, stage: Stage) -> None:
    gateway = await start(up=LINE.replace("200ms", "5s"))
    first = await begun(gateway, stage, b"/slow")
    second = await gateway.client()
    await second.send(get(target=b"/second"))
    assert await is_full(gateway)
    second.reset()
    third = await gateway.client()
    async with asyncio.timeout(1):
        while True:
            await third.send(get(target=b"/third"))
            try:
                async with asyncio.timeout(0.05):
                    await third.reader.readuntil(b"\r\n\r\n")
                await third.reader.read(65536)
            except TimeoutError:
                break  # it waits
    stage.go.set()
    assert (await first.answer()).status == 200
    assert (await third.answer()).status == 200
    assert b"/second" not in stage.upstream.received


async def test_a_refusal_is_neither_retried_nor_held_against_the_upstream(start: Start, stage: Stage) -> None:
    gateway = await start(
        up="retry: {attempts: 3, on: [503]}, breaker: {consecutive_failures: 1}, concurrency: {limit: 1}"
    )
    first = await begun(gateway, stage, b"/slow")
    for _ in range(3):
        assert await is_full(gateway)
    stage.go.set()
    assert (await first.answer()).status == 200
    await is_free_again(gateway)
    assert gateway.runtime.upstreams["up"].targets[0].circuit.ready()


async def test_a_slow_upstream_leaves_the_others_as_fast_as_they_were(start: Start, stage: Stage) -> None:
    """H12: what is shed costs next to nothing, and a route beside it does not feel it."""
    port = stage.upstream.port
    gateway = await start(
        f"""
listen: {{admin: "off"}}
upstreams:
  slow: {{targets: ["http://127.0.0.1:{port}"], {ONE}}}
  fast: {{targets: ["http://127.0.0.1:{port}"], retry: off, breaker: off}}
routes:
  - {{name: slow, match: {{path: /slow}}, upstream: slow}}
  - {{name: fast, match: {{path: /fast}}, upstream: fast}}
"""
    )
    await begun(gateway, stage, b"/slow")
    crowd = [await gateway.client() for _ in range(20)]
    fast = await gateway.client()
    took: list[float] = []
    for client in crowd:
        await client.send(get(target=b"/slow"))
        before = time.monotonic()
        assert (await fast.ask(get(target=b"/fast"))).status == 200
        took.append(time.monotonic() - before)
    assert all([shed(await client.answer()) for client in crowd])
    assert max(took) < 0.1, f"{max(took) * 1000:.1f} ms"


async def test_an_adaptive_limit_keeps_what_a_service_cannot_do_away_from_it(start: Start, upstream: Upstream) -> None:
    servers = asyncio.Semaphore(2)

    async def busy(visit: Visit) -> None:
        while True:
            await visit.request()
            async with servers:
                await asyncio.sleep(0.005)
            await visit.write(OK)

    upstream.script = busy
    gateway = await start(up="retry: off, breaker: off, concurrency: {limit: 200, minimum: 2, adaptive: true}")

    async def ask(client: Client, statuses: list[int]) -> None:
        for _ in range(25):
            answer = await client.ask(get())
            statuses.append(answer.status)
            if answer.status == 503:
                await asyncio.sleep(0.005)

    statuses: list[int] = []
    await asyncio.gather(*[ask(await gateway.client(), statuses) for _ in range(30)])
    assert set(statuses) == {200, 503}
    assert len(upstream.visits) < 20, "of thirty clients"
