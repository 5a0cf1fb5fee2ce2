"""Requests with an idempotency key over real sockets: sent once, whatever clients and upstreams do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.exchange import ANONYMOUS, Call, Caller
from gateway.handler import Handler, Route
from gateway.idempotency.background import Background
from gateway.idempotency.failover import SharedRecords
from gateway.idempotency.memory import MemoryRecords
from gateway.idempotency.records import Records
from gateway.idempotency.redis import RedisRecords
from gateway.limits.clients import connect
from gateway.limits.door import unlimited
from gateway.limits.shedding import admit_all
from gateway.resilience.idempotency import Terms, idempotency
from gateway.routing.router import Router, Rule
from tests.servers import redis_server
from tests.wire.actors import Answer, Client, Gateway, Upstream, Visit
from tests.wire.conftest import Start

POST = b"POST /orders HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k-1\r\nContent-Length: 7\r\n\r\n" + b'{"a":1}'
CREATED = b"HTTP/1.1 201 Created\r\nLocation: /orders/7\r\nContent-Length: 1\r\n\r\n7"
TERMS = Terms("Idempotency-Key", keep=60.0, patience=5.0, body_limit=1000, reply_limit=1000)

Once = Callable[..., Awaitable[Gateway]]


async def anybody(call: Call) -> Caller:
    return ANONYMOUS


def permitted(method: str, caller: Caller) -> None: ...


@pytest.fixture
async def once(start: Start) -> AsyncIterator[Once]:
    """Starts a gateway whose only route does things once."""
    backgrounds: list[Background] = []

    async def once(records: Records | None = None) -> Gateway:
        gateway = await start()
        backgrounds.append(Background())
        layer = idempotency(TERMS, records or MemoryRecords(), backgrounds[-1])
        send = layer(gateway.runtime.upstreams["up"].send)
        route = Route("all", lambda call: None, anybody, permitted, admit_all, unlimited, send, lambda _: send, None)
        rules = [Rule(path="/**", methods=None, host=None, headers=(), query=(), target=route, name="all")]
        gateway.server.app = Handler(Router(rules), gateway.runtime.handler.finished, instance="test")
        return gateway

    yield once
    for background in backgrounds:
        await background.land(1.0)


async def settled(client: Client, request: bytes = POST) -> Answer:
    """As a client would: come again while the first is under way."""
    async with asyncio.timeout(5):
        while (answer := await client.ask(request)).status == 409:
            assert answer.headers["retry-after"] == "1"
            await asyncio.sleep(0.01)
    return answer


def sent(upstream: Upstream) -> int:
    """How often the upstream has got the request."""
    return upstream.received.count(b"POST /orders HTTP/1.1\r\n")


def parts(answer: Answer) -> tuple[int, str | None, str | None, bytes]:
    return answer.status, answer.headers.get("location"), answer.headers.get("idempotency-replayed"), answer.body


async def test_a_repetition_gets_the_first_reply_and_the_upstream_hears_of_it_once(
    once: Once, upstream: Upstream
) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(CREATED)

    upstream.script = script
    gateway = await once()
    client, other = await gateway.client(), await gateway.client()
    assert parts(await client.ask(POST)) == (201, "/orders/7", None, b"7")
    for again in (client, other):
        assert parts(await again.ask(POST)) == (201, "/orders/7", "true", b"7")
    assert sent(upstream) == 1
    assert b"\r\nidempotency-key: k-1\r\n" in upstream.received


async def test_another_body_under_the_same_key_is_a_conflict(once: Once, upstream: Upstream) -> None:
    client = await (await once()).client()
    await client.ask(POST)
    answer = await client.ask(POST.replace(b'{"a":1}', b'{"a":2}'))
    assert (answer.status, b'"code":"idempotency_conflict"' in answer.body) == (422, True)
    assert sent(upstream) == 1


async def test_a_chunked_body_is_compared_and_sent_whole(once: Once, upstream: Upstream) -> None:
    client = await (await once()).client()
    head = POST.replace(b"Content-Length: 7", b"Transfer-Encoding: chunked")[: -len(b'{"a":1}')]
    await client.send(head + b'4\r\n{"a"\r\n')
    await asyncio.sleep(0.02)
    assert (await client.ask(b"3\r\n:1}\r\n0\r\n\r\n")).status == 200
    assert (await client.ask(POST)).headers["idempotency-replayed"] == "true"
    assert upstream.received.endswith(b'\r\n\r\n{"a":1}')
    assert b"\r\ncontent-length: 7\r\n" in upstream.received


async def test_a_client_that_waits_is_told_to_send_its_body(once: Once) -> None:
    client = await (await once()).client()
    head, _, body = POST.partition(b"\r\n\r\n")
    await client.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await client.ask(body)).status == 200


async def test_a_body_too_large_to_be_compared_is_refused_before_it_is_sent(once: Once, upstream: Upstream) -> None:
    client = await (await once()).client()
    answer = await client.ask(POST.replace(b"Length: 7", b"Length: 1001"))
    assert (answer.status, b"the limit is 1000 bytes" in answer.body) == (413, True)
    assert sent(upstream) == 0


async def test_a_client_that_left_gets_its_reply_when_it_comes_again(once: Once, upstream: Upstream) -> None:
    go = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await go.wait()
        await visit.write(CREATED)

    upstream.script = script
    gateway = await once()
    first, second = await gateway.client(), await gateway.client()
    await first.send(POST)
    await upstream.hears(b'{"a":1}')
    first.reset()
    await asyncio.sleep(0.05)
    assert (await second.ask(POST)).status == 409
    go.set()
    assert parts(await settled(second)) == (201, "/orders/7", "true", b"7")
    assert sent(upstream) == 1


async def test_a_client_that_left_in_the_middle_of_the_reply_gets_all_of_it_when_it_comes_again(
    once: Once, upstream: Upstream
) -> None:
    go = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await go.wait()
        await visit.write(b"3\r\ntwo\r\n0\r\n\r\n")

    upstream.script = script
    gateway = await once()
    first, second = await gateway.client(), await gateway.client()
    await first.send(POST)
    await first.reader.readuntil(b"one")
    first.reset()
    await asyncio.sleep(0.05)
    go.set()
    assert parts(await settled(second)) == (200, None, "true", b"onetwo")
    assert sent(upstream) == 1


async def test_a_reply_in_pieces_reaches_its_client_at_once(once: Once, upstream: Upstream) -> None:
    go = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
        await go.wait()
        await visit.write(b"two")

    upstream.script = script
    client = await (await once()).client()
    await client.send(POST)
    async with asyncio.timeout(2):
        await client.reader.readuntil(b"\r\n\r\none")
    go.set()
    assert await client.reader.readexactly(3) == b"two"
    assert parts(await settled(client)) == (200, None, "true", b"onetwo")


async def test_a_reply_too_large_to_be_kept_passes_and_is_not_done_again(once: Once, upstream: Upstream) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50000)

    upstream.script = script
    client = await (await once()).client()
    assert len((await client.ask(POST)).body) == 50000
    answer = await client.ask(POST)
    assert (answer.status, "retry-after" in answer.headers) == (409, False)
    assert sent(upstream) == 1


async def test_an_upstream_that_failed_may_be_asked_again(once: Once, upstream: Upstream) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        if len(upstream.visits) == 1:
            visit.reset()
        else:
            await visit.write(CREATED)

    upstream.script = script
    client = await (await once()).client()
    assert (await client.ask(POST)).status == 502
    assert parts(await client.ask(POST)) == (201, "/orders/7", None, b"7")
    assert sent(upstream) == 2


async def test_fifty_clients_of_two_workers_reach_the_upstream_once(once: Once, upstream: Upstream) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await asyncio.sleep(0.05)
        await visit.write(CREATED)

    upstream.script = script
    with redis_server() as server:
        stores = [SharedRecords(RedisRecords(connect(server.url, 2.0), timeout=2.0)) for _ in range(2)]
        try:
            gateways = [await once(store) for store in stores]
            clients = [await gateways[n % 2].client() for n in range(50)]
            answers = await asyncio.gather(*map(settled, clients))
        finally:
            for store in stores:
                await store.close()
    assert {answer.body for answer in answers} == {b"7"}
    assert [answer.headers.get("idempotency-replayed") for answer in answers].count(None) == 1
    assert sent(upstream) == 1
