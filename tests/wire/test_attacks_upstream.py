"""Attacks from upstreams (A41-A43): a malformed reply is a 502, and no byte of it meets another request."""

import pytest

from tests.wire.actors import OK, Client, Upstream, Visit
from tests.wire.payloads import get
from tests.wire.replies import EXTRA, is_a_502, left, reply, saying


@pytest.mark.parametrize(
    "fields",
    [
        [b"Content-Length: 2", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 2"],
        [b"Content-Length: 2", b"Content-Length: 3"],
        [b"Content-Length: 2", b"Content-Length: 2"],
        [b"Content-Length: 2, 2"],
        *([b"Content-Length: " + value] for value in (b"+2", b"-2", b"0x2", b"2x", b"", b"2_0", b"2.0", b"2 2")),
        *([b"Content-Length: %d" % value] for value in (2**63, 2**64 - 1, 2**64 + 2)),
        *(
            [b"Transfer-Encoding: " + value]
            for value in (b"gzip", b"gzip, chunked", b"identity", b"chunked, gzip", b"xchunked")
        ),
        *(
            [b"Transfer-Encoding: " + value]
            for value in (b",chunked", b"chunked;x", b"", b"\x0bchunked", b"chunked\xa0")
        ),
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding\t: chunked"],
        [b"X: a", b" folded"],
        [b"X : y"],
        [b" X: y"],
        [b"X"],
        [b": y"],
        [b"X Y: z"],
        [b"X: a\x00b"],
        [b"X: a\rb"],
        [b"X: a\nb: c"],
        [b"X: a\x7fb"],
        [b"X: a\x1bb"],
        [b"X\xff: y"],
        [b"Set-Cookie: a=b\rc"],
    ],
)
async def test_a41_a_reply_with_odd_framing_or_fields_is_a_502(
    client: Client, upstream: Upstream, fields: list[bytes]
) -> None:
    upstream.script = saying(reply(*fields, body=b"2\r\nok\r\n0\r\n\r\n"))
    await is_a_502(client, upstream)


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"",
            b"HTTP/1.1",
            b"HTTP/1.1 ",
            b"HTTP/1.1 2",
            b"HTTP/1.1 20",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 abc OK",
            b"HTTP/1.1 200\x00",
        ),
        *(
            b"HTTP/1.1 000 No",
            b"HTTP/1.1 099 No",
            b"HTTP/1.1 600 No",
            b"HTTP/1.1 999 No",
            b"HTTP/1.1 -20 No",
            b"HTTP/1.1 +200 OK",
        ),
        *(
            b"HTTP/2.0 200 OK",
            b"HTTP/0.9 200 OK",
            b"HTTP/1.2 200 OK",
            b"HTTP/11 200 OK",
            b"http/1.1 200 OK",
            b"HTTP/1.10 200 OK",
        ),
        *(
            b"RTSP/1.0 200 OK",
            b"ICE/1.0 200 OK",
            b"ICY 200 OK",
            b"GET / HTTP/1.1",
            b"200 OK",
            b" HTTP/1.1 200 OK",
            b"HTTP /1.1 200 OK",
        ),
        *(
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1\t200 OK",
            b"HTTP/1.1 200\tOK",
            b"HTTP/1.1 200 OK\r",
            b"<html>",
            b"\x15\x03\x01\x00\x02\x02",
        ),
        *(b"HTTP/1.1 200 O\rK", b"\x00HTTP/1.1 200 OK", b"HTTP/1.1 2 0 0"),
    ],
)
async def test_a41_a_malformed_status_line_is_a_502(client: Client, upstream: Upstream, line: bytes) -> None:
    upstream.script = saying(reply(b"Content-Length: 2", status=line, body=b"ok"), end=True)
    await is_a_502(client, upstream)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok",
        b"HTTP/1.1 200 OK\rContent-Length: 2\r\rok",
    ],
)
async def test_a41_a_reply_with_other_line_ends_is_a_502(client: Client, upstream: Upstream, data: bytes) -> None:
    upstream.script = saying(data)
    await is_a_502(client, upstream)


BAD_CHUNKS = [
    *(
        b"0x2\r\nok\r\n0\r\n\r\n",
        b" 2\r\nok\r\n0\r\n\r\n",
        b"2 \r\nok\r\n0\r\n\r\n",
        b"-2\r\nok\r\n0\r\n\r\n",
        b"g\r\n",
        b"\r\n",
    ),
    *(
        b"2\nok\r\n0\r\n\r\n",
        b"2\r\nok\n0\r\n\r\n",
        b"2\r\nokk\r\n0\r\n\r\n",
        b"2\r\no\r\n0\r\n\r\n",
        b"2\r\nok0\r\n\r\n",
    ),
    *(
        b"fffffffffffffffff\r\nok",
        b"2;a\nb\r\nok\r\n0\r\n\r\n",
        b"2;a\rb\r\nok\r\n0\r\n\r\n",
        b"2\r\nok\r\n0\r\nX : y\r\n\r\n",
    ),
]


@pytest.mark.parametrize("chunks", BAD_CHUNKS)
async def test_a41_a_malformed_chunk_in_one_piece_with_its_head_is_a_502(
    client: Client, upstream: Upstream, chunks: bytes
) -> None:
    upstream.script = saying(reply(b"Transfer-Encoding: chunked", body=chunks))
    await is_a_502(client, upstream)


@pytest.mark.parametrize("chunks", BAD_CHUNKS)
async def test_a41_a_malformed_chunk_behind_the_head_breaks_the_reply_off(
    client: Client, upstream: Upstream, chunks: bytes
) -> None:
    upstream.script = saying(reply(b"Transfer-Encoding: chunked", body=b"5\r\nfirst\r\n"), chunks)
    await client.send(get() + get())
    data = await client.rest()
    assert data.startswith(b"HTTP/1.1 200 ")
    assert b"0\r\n\r\n" not in data
    assert data.count(b"HTTP/1.1 ") == 1
    await left(upstream.visits[0])
    assert len(upstream.visits) == 1


@pytest.mark.parametrize(
    "extra",
    [EXTRA, EXTRA[:20], EXTRA[:-20], b"HTTP/1.1 200 OK\r\nX: ", b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"x", b"\x00"],
)
@pytest.mark.parametrize(
    "first",
    [
        OK,
        reply(b"Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
        reply(b"Content-Length: 0"),
        reply(status=b"HTTP/1.1 204 No Content"),
        reply(status=b"HTTP/1.1 304 Not Modified"),
    ],
    ids=["length", "chunked", "empty", "204", "304"],
)
@pytest.mark.parametrize("apart", [False, True])
async def test_a42_bytes_behind_a_reply_drop_the_connection(
    client: Client, upstream: Upstream, first: bytes, extra: bytes, apart: bool
) -> None:
    upstream.script = saying(first, extra) if apart else saying(first + extra)
    first_answer = await client.ask(get(target=b"/1"))
    assert first_answer.status < 400
    if apart:
        await left(upstream.visits[0])
    upstream.script = saying(OK)
    second = await client.ask(get(target=b"/2"))
    assert (second.status, second.body) == (200, b"ok")
    assert b"/2" not in upstream.visits[0].received


async def test_a42_a_reply_that_crosses_its_request_answers_no_second_one(client: Client, upstream: Upstream) -> None:
    async def eager(visit: Visit) -> None:
        await visit.write(EXTRA)
        await visit.request()
        await visit.write(EXTRA)

    upstream.script = eager
    # On a fresh connection the first cannot be told from an answer; the second is one too many.
    assert (await client.ask(get(target=b"/1"))).status in (200, 502)
    await left(upstream.visits[0])
    upstream.script = saying(OK)
    assert (await client.ask(get(target=b"/2"))).body == b"ok"
    assert b"/2" not in upstream.visits[0].received


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [b"Upgrade: websocket"],
        [b"Upgrade: websocket", b"Connection: upgrade"],
        [b"Upgrade: h2c", b"Connection: Upgrade"],
    ],
)
async def test_a43_a_101_that_nobody_asked_for_is_a_502(
    client: Client, upstream: Upstream, fields: list[bytes]
) -> None:
    upstream.script = saying(reply(*fields, status=b"HTTP/1.1 101 Switching Protocols"))
    await is_a_502(client, upstream)


async def test_a43_a_101_to_another_protocol_is_a_502(client: Client, upstream: Upstream) -> None:
    upstream.script = saying(reply(b"Upgrade: h2c", b"Connection: Upgrade", status=b"HTTP/1.1 101 Switching Protocols"))
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    answer = await client.ask(get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", key))
    assert answer.status == 502


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]
)
@pytest.mark.parametrize("apart", [False, True])
async def test_a43_endless_interim_replies_are_a_502(
    client: Client, upstream: Upstream, interim: bytes, apart: bool
) -> None:
    upstream.script = saying(*[interim] * 20, pause=0.001) if apart else saying(interim * 20)
    await is_a_502(client, upstream)


async def test_a43_a_few_interim_replies_are_passed_over(client: Client, upstream: Upstream) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    upstream.script = saying(hints, b"HTTP/1.1 100 Continue\r\n\r\n" + hints + OK)
    await client.send(get())
    assert (await client.reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
    await client.reader.readuntil(b"\r\n\r\nok")
