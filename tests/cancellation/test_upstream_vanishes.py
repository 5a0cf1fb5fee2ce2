"""An upstream vanishes at each stage: the client is told the truth, nothing is sent twice that must not be, and
nothing is left behind."""

import asyncio
from collections.abc import Callable

import pytest

from tests.wire.actors import OK, Client, Gateway, Upstream, Visit
from tests.wire.conftest import Start

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
LARGE = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 100_000
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

Vanish = Callable[[Visit], None]

vanishing = pytest.mark.parametrize("vanish", [Visit.close, Visit.reset], ids=["fin", "rst"])


async def rests(gateway: Gateway) -> None:
    async with asyncio.timeout(1):
        while gateway.busy():
            await asyncio.sleep(0.002)


@vanishing
@pytest.mark.parametrize(
    ("says", "asked"),
    [
        (None, GET),
        (b"", GET),
        (b"", POST),
        (b"", LARGE),
        (b"HTTP/1.1 200 OK\r\nContent-Len", GET),
        (b"HTTP/1.1 100 Continue\r\n\r\n", GET),
        (b"HTTP/1.1 200 OK\r\nContent-Len", LARGE),
    ],
    ids=["unread", "head", "body", "in the body", "in its head", "after a 100", "in its head, in the body"],
)
async def test_before_the_head_of_its_reply(
    start: Start, upstream: Upstream, says: bytes | None, asked: bytes, vanish: Vanish
) -> None:
    async def script(visit: Visit) -> None:
        if says is not None:
            while b"\r\n\r\n" not in visit.received:
                await visit.read()
            visit.writer.write(says)
        vanish(visit)

    upstream.script = script
    gateway = await start(route="body_limit: none")
    client = await gateway.client()
    client.writer.write(asked)
    answer = await client.answer()
    assert answer.status == 502
    assert b'"upstream_failed"' in answer.body
    await rests(gateway)
    assert len(upstream.visits) == 1


@vanishing
@pytest.mark.parametrize("asked", [GET, LARGE], ids=["get", "upload"])
@pytest.mark.parametrize(
    "says",
    [
        STREAM,
        STREAM + b"5\r\nhello\r\n",
        STREAM + b"5\r\nhel",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    ],
)
async def test_in_the_body_of_its_reply(
    start: Start, upstream: Upstream, says: bytes, asked: bytes, vanish: Vanish
) -> None:
    async def script(visit: Visit) -> None:
        while b"\r\n\r\n" not in visit.received:
            await visit.read()
        await visit.write(says)
        await asyncio.sleep(0.02)
        vanish(visit)

    upstream.script = script
    gateway = await start(route="body_limit: none")
    client = await gateway.client()
    client.writer.write(asked)
    rest = await client.rest()
    assert rest.startswith(b"HTTP/1.1 200 ")
    assert not rest.endswith((b"0\r\n\r\n", b"hellohello"))  # nothing that looks complete
    await rests(gateway)
    assert len(upstream.visits) == 1  # a byte has been sent: no second try (G12)


async def kept(gateway: Gateway) -> Client:
    """A client whose first request left a connection in the pool."""
    client = await gateway.client()
    assert (await client.ask(GET)).status == 200
    assert gateway.runtime.upstreams["up"].targets[0].pool.idle == 1
    return client


@vanishing
async def test_while_its_connection_rests(start: Start, upstream: Upstream, vanish: Vanish) -> None:
    gateway = await start()
    client = await kept(gateway)
    vanish(upstream.visits[0])
    async with asyncio.timeout(1):
        while gateway.runtime.upstreams["up"].targets[0].pool.idle:
            await asyncio.sleep(0.002)
    assert (await client.ask(POST)).status == 200
    assert len(upstream.visits) == 2


@vanishing
@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (GET, 200),
        (POST, 502),
        (POST.replace(b"Host", b"Idempotency-Key: 1\r\nHost"), 200),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 502),
    ],
    ids=["get", "post", "post with a key", "post on its way"],
)
async def test_as_its_kept_connection_is_used_again(
    start: Start, upstream: Upstream, asked: bytes, status: int, vanish: Vanish
) -> None:
    """The race that no pool can win: the request crosses the end of the connection. It is asked again only where
    that cannot do a thing twice, and it is held against nobody."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(OK)
        if visit is upstream.visits[0]:
            while visit.received.count(b"\r\n\r\n") < 2:
                await visit.read()
            vanish(visit)
        else:
            await visit.request()
            await visit.write(OK)

    upstream.script = script
    gateway = await start(up="breaker: {consecutive_failures: 1}")
    client = await kept(gateway)
    assert (await client.ask(asked)).status == status
    if status == 200:
        await rests(gateway)
        assert len(upstream.visits) == 2
        assert gateway.runtime.upstreams["up"].targets[0].circuit.ready()


@vanishing
async def test_a_try_at_another_target_takes_over(start: Start, upstream: Upstream, vanish: Vanish) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        vanish(visit)

    upstream.script = script
    healthy = await Upstream().start()
    gateway = await start(f"""
listen: {{admin: "off"}}
upstreams:
  up:
    targets: ["http://127.0.0.1:{upstream.port}", "http://127.0.0.1:{healthy.port}"]
    retry: {{backoff: {{base: 1ms, max: 5ms}}}}
routes: [{{name: all, match: {{path: "/**"}}, upstream: up}}]
""")
    client = await gateway.client()
    for _ in range(4):
        assert (await client.ask(GET)).status == 200
    assert upstream.visits
    await rests(gateway)
    await healthy.stop()
