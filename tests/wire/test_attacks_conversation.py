"""Attacks on where the next request begins (A37-A40, A46): unread bodies, Expect, pipelines and Upgrade."""

import asyncio

import pytest

from tests.wire.actors import OK, Client, Upstream, Visit
from tests.wire.conftest import Start
from tests.wire.payloads import CHUNKED, HELLO, NEXT, chunks, get, message, post
from tests.wire.strict import read_requests

LIMITED = "body_limit: 10B"
HANDSHAKE = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def test_a37_a_small_unread_body_is_read_past_and_the_connection_kept(start: Start, upstream: Upstream) -> None:
    client = await (await start(route=LIMITED)).client()
    assert (await client.ask(post(b"Content-Length: 45", body=NEXT[:20]))).status == 413
    await client.send(NEXT[20:] + b"x" * (45 - len(NEXT)) + get(target=b"/after"))
    assert (await client.answer()).status == 200
    assert upstream.requests == [b"GET /after"]


async def test_a37_a_large_unread_body_ends_the_connection(start: Start, upstream: Upstream) -> None:
    client = await (await start(route=LIMITED)).client()
    answer = await client.ask(post(b"Content-Length: 100000", body=NEXT))
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    await client.send(NEXT * 10)
    assert await client.ends()
    assert upstream.received == b""


async def test_a37_a_large_body_that_came_whole_but_was_never_read_holds_up_nothing_behind_it(
    start: Start, upstream: Upstream
) -> None:
    client = await (await start(route="idempotency: {keep: 1h}")).client()
    # It comes in one piece, is more than is kept of a stream, and more than a request with a key may have.
    request = post(b"Content-Length: 90000", b"Idempotency-Key: k", body=b"x" * 90_000)
    assert (await client.ask(request)).status == 413
    await client.send(get(target=b"/after"))
    assert (await client.answer()).status == 200
    assert upstream.requests == [b"GET /after"]


async def test_a37_a_chunked_body_that_grew_too_long_ends_the_connection(start: Start, upstream: Upstream) -> None:
    client = await (await start(route=LIMITED)).client()
    await client.send(chunks(b"5\r\nhello\r\n"))
    await upstream.hears(b"hello")
    answer = await client.ask(b"6\r\nworld!\r\n")
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    await client.send(b"0\r\n\r\n" + NEXT)
    assert await client.ends()
    await upstream.visits[0].ended.wait()
    assert read_requests(upstream.received)[0] == []


async def test_a37_an_upstream_that_answers_before_the_body_ended_is_not_used_again(
    client: Client, upstream: Upstream
) -> None:
    async def early(visit: Visit) -> None:
        while b"/early" not in visit.received and b"/after" not in visit.received:
            if not await visit.read():
                return
        await visit.write(OK)

    upstream.script = early
    await client.send(message(b"POST /early HTTP/1.1", b"Content-Length: 45", body=b"x"))
    assert (await client.answer()).status == 200
    await client.send(b"x" * 44 + get(target=b"/after"))
    assert (await client.answer()).status == 200
    assert len(upstream.visits) == 2
    assert read_requests(bytes(upstream.visits[0].received))[0] == []
    assert [r.target for r in read_requests(bytes(upstream.visits[1].received))[0]] == [b"/after"]


async def test_a37_a_body_goes_on_while_its_reply_streams_back(client: Client, upstream: Upstream) -> None:
    async def echo(visit: Visit) -> None:
        while b"one" not in visit.received:
            await visit.read()
        await visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
        while b"two" not in visit.received:
            await visit.read()
        await visit.write(b"two")
        while await visit.read():
            pass

    upstream.script = echo
    await client.send(post(b"Content-Length: 6", body=b"one"))
    assert (await client.reader.readuntil(b"\r\n\r\none")).startswith(b"HTTP/1.1 200 ")
    await client.send(b"two" + NEXT)
    assert await client.reader.readexactly(3) == b"two"
    await client.rest()
    ((request,), left) = read_requests(upstream.received)
    assert (request.body, left) == (b"onetwo", b"")


async def test_a38_a_request_without_a_body_gets_no_100(client: Client, upstream: Upstream) -> None:
    await client.send(get(b"Expect: 100-continue"))
    assert (await client.reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
    assert b"expect" not in upstream.received


async def test_a38_a_100_is_sent_when_the_body_is_read_and_not_before(client: Client, upstream: Upstream) -> None:
    await client.send(post(b"Expect: 100-continue", b"Content-Length: 5"))
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"hello" + get(target=b"/after"))
    assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    assert [r.body for r in read_requests(upstream.received)[0]] == [b"hello", b""]


async def test_a38_a_client_that_does_not_wait_for_the_100_is_understood(client: Client, upstream: Upstream) -> None:
    await client.send(post(b"Expect: 100-Continue", b"Content-Length: 5", body=b"hello") + get(target=b"/after"))
    assert (await client.reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
    await upstream.hears(b"/after")
    assert [r.body for r in read_requests(upstream.received)[0]] == [b"hello", b""]


async def test_a38_a_refusal_instead_of_the_100_ends_the_connection(start: Start, upstream: Upstream) -> None:
    client = await (await start(route=LIMITED)).client()
    await client.send(post(b"Expect: 100-continue", b"Content-Length: 45"))
    assert (await client.reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413 ")
    await client.send(NEXT)
    assert b"HTTP/1.1" not in await client.rest()
    assert upstream.received == b""


@pytest.mark.parametrize(
    "value", [b"bogus", b"", b"100-continue, x", b"100-continue;q=1", b"200-ok", b"100-continue 100-continue"]
)
@pytest.mark.parametrize("fields", [[], [b"Content-Length: 5"]])
async def test_a38_an_unknown_expectation_fails(
    client: Client, upstream: Upstream, value: bytes, fields: list[bytes]
) -> None:
    answer = await client.ask(post(b"Expect: " + value, *fields, body=b"hello" if fields else b""))
    assert (answer.status, answer.headers["connection"]) == (417, "close")
    assert await client.ends()
    assert upstream.received == b""


@pytest.mark.parametrize(
    "first",
    [
        get(b"Connection: close"),
        get(b"Connection: Close, x"),
        get(b"Connection: keep-alive, close"),
        get(b"Connection: x", b"Connection: close"),
        post(b"Connection: close", b"Content-Length: 5", body=b"hello"),
        chunks(HELLO, b"Connection: close"),
        message(b"GET / HTTP/1.0"),
        message(b"GET / HTTP/1.0", b"Connection: close"),
        message(b"GET / HTTP/1.0", b"Keep-Alive: 5"),
    ],
)
@pytest.mark.parametrize("behind", [NEXT, b"\r\n" + NEXT, b"\x00garbage", b"GET  /bad\n\n"])
async def test_a39_bytes_behind_the_last_request_are_ignored(
    client: Client, upstream: Upstream, first: bytes, behind: bytes
) -> None:
    await client.send(first + behind)
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    await client.send(NEXT)
    assert await client.ends()
    requests, left = read_requests(upstream.received)
    assert ([r.target for r in requests], left) == ([b"/"], b"")


async def test_a39_http_1_0_is_kept_alive_only_when_it_asks(client: Client, upstream: Upstream) -> None:
    for _ in range(2):
        answer = await client.ask(message(b"GET / HTTP/1.0", b"Connection: Keep-Alive"))
        assert (answer.status, answer.headers["connection"]) == (200, "keep-alive")
    answer = await client.ask(message(b"GET / HTTP/1.0", host=b""))
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await client.ends()
    assert len(read_requests(upstream.received)[0]) == 3


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS"])
@pytest.mark.parametrize(
    ("framing", "body"), [(b"Content-Length: 45", NEXT.ljust(45)), (CHUNKED, b"2d\r\n%b\r\n0\r\n\r\n" % NEXT.ljust(45))]
)
@pytest.mark.parametrize("apart", [True, False])
async def test_a40_a_body_of_any_method_is_framed_and_never_read_as_a_request(
    client: Client, upstream: Upstream, method: bytes, framing: bytes, body: bytes, apart: bool
) -> None:
    await client.send(message(method + b" / HTTP/1.1", framing))
    if apart:
        await asyncio.sleep(0.02)
    await client.send(body + get(target=b"/after"))
    assert (await client.answer(head_only=method == b"HEAD")).status == 200
    assert (await client.answer()).status == 200
    requests = [r for visit in upstream.visits for r in read_requests(bytes(visit.received))[0]]
    assert [(r.method, r.target, r.body) for r in requests] == [
        (method, b"/", NEXT.ljust(45)),
        (b"GET", b"/after", b""),
    ]


@pytest.mark.parametrize("body", [NEXT, HELLO, b"hello"])
async def test_a40_what_follows_a_request_without_framing_is_the_next_request(
    client: Client, upstream: Upstream, body: bytes
) -> None:
    await client.send(post() + body)
    statuses = [(await client.answer()).status for _ in range(2)]
    assert statuses == [200, 200 if body == NEXT else 400]
    assert all(r.body == b"" for r in read_requests(upstream.received)[0])


@pytest.mark.parametrize(
    "bad", [b"GET / HTTP/1.1\nX\n\n", get(b"X : y"), post(b"Content-Length: x"), b"\x00", get(host=b"")]
)
async def test_good_requests_before_a_bad_one_are_answered_first(
    client: Client, upstream: Upstream, bad: bytes
) -> None:
    await client.send(get(target=b"/1") + chunks(HELLO) + post(b"Content-Length: 5", body=b"hello") + bad + NEXT)
    answers = [await client.answer() for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 400]
    assert await client.ends()
    assert [r.target for r in read_requests(upstream.received)[0]] == [b"/1", b"/", b"/"]


async def test_pipelined_requests_of_a_client_that_ended_its_side_are_all_answered(
    client: Client, upstream: Upstream
) -> None:
    await client.send(b"".join(get(target=b"/%d" % n) for n in range(3)))
    client.end()
    assert [(await client.answer()).status for _ in range(3)] == [200, 200, 200]
    assert await client.ends()
    assert upstream.requests == [b"GET /0", b"GET /1", b"GET /2"]


async def test_a46_bytes_behind_a_handshake_are_http_again_when_it_is_refused(
    client: Client, upstream: Upstream
) -> None:
    async def refusing(visit: Visit) -> None:
        await visit.request()
        await asyncio.sleep(0.02)
        assert b"/after" not in visit.received
        await visit.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await visit.request()
        await visit.write(OK)

    upstream.script = refusing
    await client.send(get(*HANDSHAKE) + get(target=b"/after"))
    assert [(await client.answer()).status for _ in range(2)] == [403, 200]
    assert [r.target for visit in upstream.visits for r in read_requests(bytes(visit.received))[0]] == [b"/", b"/after"]


async def test_a46_bytes_behind_a_handshake_wait_for_the_101(client: Client, upstream: Upstream) -> None:
    async def accepting(visit: Visit) -> None:
        await visit.request()
        await asyncio.sleep(0.02)
        assert b"early" not in visit.received
        await visit.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi")
        while b"early" not in visit.received:
            await visit.read()
        visit.close()

    upstream.script = accepting
    await client.send(get(*HANDSHAKE) + b"early")
    assert (await client.answer()).status == 101
    assert await client.rest() == b"hi"


async def test_a46_malformed_bytes_behind_a_refused_handshake_are_refused(client: Client, upstream: Upstream) -> None:
    await client.send(get(*HANDSHAKE) + b"\x81\x05hello")
    assert [(await client.answer()).status for _ in range(2)] == [200, 400]
    assert await client.ends()
    assert len(read_requests(upstream.received)[0]) == 1
