"""Attacks on where a request's body ends (A1-A20): refused whole, or framed anew without ambiguity."""

import pytest

from tests.wire.actors import Client, Upstream
from tests.wire.conftest import Start
from tests.wire.payloads import CHUNKED, HELLO, NEXT, chunks, get, message, post, refused
from tests.wire.strict import read_requests


@pytest.mark.parametrize(
    "data",
    [
        post(b"Content-Length: 5", CHUNKED, body=HELLO),
        post(CHUNKED, b"Content-Length: 5", body=HELLO),
        post(b"Content-Length: 0", CHUNKED, body=HELLO + NEXT),
        post(b"content-length: 4", b"transfer-encoding: chunked", body=b"5c\r\n" + NEXT),
        post(b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"hello"),
        post(b"Content-Length: 5", b"Transfer-Encoding:", body=b"hello"),
        post(b"Content-Length: 5", b"Transfer-Encoding: xchunked", body=b"hello"),
        post(b"Content-Length:", CHUNKED, body=HELLO),
        get(b"Content-Length: 5", CHUNKED),
        post(b"Content-Length: 5", CHUNKED, body=HELLO, version=b"1.0"),
    ],
)
async def test_a01_content_length_beside_transfer_encoding_is_refused(
    client: Client, upstream: Upstream, data: bytes
) -> None:
    await refused(client, upstream, data)


@pytest.mark.parametrize(
    ("coding", "status"),
    [
        (b"chunked, gzip", 400),
        (b"chunked, identity", 400),
        (b"chunked, chunked", 400),
        (b"xchunked", 400),
        (b"chunkedx", 400),
        (b"chunk", 400),
        (b"identity", 400),
        (b"gzip", 400),
        (b"", 400),
        (b"none", 400),
        (b"gzip chunked", 400),
        (b"chunked identity", 400),
        (b'"chunked"', 400),
        (b"'chunked'", 400),
        (b"[chunked]", 400),
        (b"chunked\r", 400),
        (b"chunked\r\n identity", 400),
        (b"\r\n chunked", 400),
        (b"gzip, chunked", 501),  # well framed, but a coding that is not undone here
        (b"gzip,chunked", 501),
        (b"cow, chunked", 501),
    ],
)
async def test_a02_a_transfer_coding_other_than_chunked_is_refused(
    client: Client, upstream: Upstream, coding: bytes, status: int
) -> None:
    await refused(client, upstream, post(b"Transfer-Encoding: " + coding, body=HELLO), status)


@pytest.mark.parametrize(
    "coding", [b",chunked", b", chunked", b"chunked,", b"chunked, ", b",chunked,", b",", b"\t,chunked"]
)
async def test_a03_an_empty_element_beside_chunked_is_refused(
    client: Client, upstream: Upstream, coding: bytes
) -> None:
    await refused(client, upstream, post(b"Transfer-Encoding: " + coding, body=HELLO))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"chunked", b"chunked"),
        (b"identity", b"chunked"),
        (b"chunked", b"identity"),
        (b"", b"chunked"),
        (b"x", b"chunked"),
    ],
)
async def test_a04_two_transfer_encoding_fields_are_refused(
    client: Client, upstream: Upstream, first: bytes, second: bytes
) -> None:
    await refused(client, upstream, post(b"Transfer-Encoding: " + first, b"transfer-encoding: " + second, body=HELLO))


@pytest.mark.parametrize("coding", [b"chunked;x=1", b"chunked; q=0.5", b"chunked ;", b"chunked;"])
async def test_a05_chunked_with_parameters_is_refused(client: Client, upstream: Upstream, coding: bytes) -> None:
    await refused(client, upstream, post(b"Transfer-Encoding: " + coding, body=HELLO))


@pytest.mark.parametrize(
    "field",
    [
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\t: chunked",
        b"Transfer-Encoding \t : chunked",
        b"Content-Length : 5",
        b"Content-Length\x0b: 5",
        b"X : y",
        b"Transfer-Encoding\xa0: chunked",
        b"Transfer Encoding: chunked",
    ],
)
async def test_a06_white_space_before_the_colon_is_refused(client: Client, upstream: Upstream, field: bytes) -> None:
    await refused(client, upstream, post(field, body=HELLO))


@pytest.mark.parametrize(
    "odd", [b"\x0b", b"\x0c", b"\xa0", b"\x00", b"\x01", b"\x1f", b"\x7f", b"\x85", b"\xc2\xa0", b"\x08"]
)
@pytest.mark.parametrize("shape", [b"%bchunked", b"chunked%b", b"chun%bked", b" %b chunked"])
async def test_a07_odd_bytes_around_chunked_are_refused(
    client: Client, upstream: Upstream, odd: bytes, shape: bytes
) -> None:
    await refused(client, upstream, post(b"Transfer-Encoding: " + shape % odd, body=HELLO))


@pytest.mark.parametrize("fold", [b" ", b"\t", b"  \t "])
@pytest.mark.parametrize("fields", [[b"X: y", b"%bz"], [b"X:", b"%by"], [b"X: y", b"%b"], [b"Content-Length:", b"%b5"]])
async def test_a08_line_folding_is_refused(
    client: Client, upstream: Upstream, fold: bytes, fields: list[bytes]
) -> None:
    await refused(client, upstream, post(*[f.replace(b"%b", fold) for f in fields], body=b"hello"))


@pytest.mark.parametrize(("first", "second"), [(b"5", b"6"), (b"0", b"5"), (b"5", b"0"), (b"5", b"")])
async def test_a09_two_different_content_lengths_are_refused(
    client: Client, upstream: Upstream, first: bytes, second: bytes
) -> None:
    await refused(client, upstream, post(b"Content-Length: " + first, b"Content-Length: " + second, body=b"hello"))


@pytest.mark.parametrize(
    "fields", [[b"5", b"5"], [b"5, 5"], [b"5,5"], [b"5,"], [b",5"], [b"5 5"], [b"5, 6"], [b"0", b"0"], [b"5;5"]]
)
async def test_a10_a_repeated_content_length_is_refused_even_when_equal(
    client: Client, upstream: Upstream, fields: list[bytes]
) -> None:
    await refused(client, upstream, post(*[b"Content-Length: " + value for value in fields], body=b"hello"))


@pytest.mark.parametrize(
    "value",
    [
        b"+5",
        b"-1",
        b"-0",
        b"0x5",
        b"1_0",
        b"",
        b"1Z",
        b"5.0",
        b"5e0",
        b"five",
        b"\xb2",
        b"5\x0b",
        b"\x0c5",
        b'"5"',
        b"5\x00",
    ],
)
async def test_a11_a_malformed_content_length_is_refused(client: Client, upstream: Upstream, value: bytes) -> None:
    await refused(client, upstream, post(b"Content-Length: " + value, body=b"hello"))


async def test_a11_white_space_and_leading_zeros_of_a_content_length_do_not_go_on(
    client: Client, upstream: Upstream
) -> None:
    await client.send(post(b"Content-Length: \t 005 \t", body=b"hello" + get(target=b"/next")))
    assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    first, second = read_requests(upstream.received)[0]
    assert (first.headers[b"content-length"], first.body, second.target) == (b"5", b"hello", b"/next")


@pytest.mark.parametrize(
    "value",
    [2**63, 2**63 + 5, 2**64 - 1, 2**64, 2**64 + 5, 2**128, 10**400],
    ids=lambda value: f"{value:.1e}" if value < 10**300 else "huge",
)
async def test_a12_a_content_length_that_overflows_is_refused(client: Client, upstream: Upstream, value: int) -> None:
    await refused(client, upstream, post(b"Content-Length: %d" % value, body=b"hello"))


SIZES = [
    b"0x5",
    b"5_0",
    b" 5",
    b"5 ",
    b"5\t",
    b"\t5",
    b"-1",
    b"+5",
    b"",
    b"g",
    b"5h",
    b"5.0",
    b"\x005",
    b"5\x0b",
    b"0X5",
    b"5,",
    b"5 ;a",
]


@pytest.mark.parametrize("size", SIZES)
async def test_a13_a_malformed_chunk_size_is_refused(client: Client, upstream: Upstream, size: bytes) -> None:
    await refused(client, upstream, chunks(size + b"\r\nhello\r\n0\r\n\r\n"))


@pytest.mark.parametrize("size", SIZES)
async def test_a13_a_malformed_chunk_size_behind_a_good_chunk_breaks_the_request_off(
    client: Client, upstream: Upstream, size: bytes
) -> None:
    await client.send(chunks(b"5\r\nfirst\r\n"))
    await upstream.hears(b"first")
    answer = await client.ask(size + b"\r\nhello\r\n0\r\n\r\n" + NEXT)
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert await client.ends()
    await upstream.visits[0].ended.wait()
    requests, broken_off = read_requests(upstream.received)
    assert requests == []
    assert b"hello" not in broken_off


@pytest.mark.parametrize(
    "size", [b"f" * 17, b"1" + b"0" * 15 + b"05", b"fffffffffffffffff5", b"0" * 30 + b"f" * 17, b"F" * 400]
)
async def test_a14_a_chunk_size_that_overflows_is_refused(client: Client, upstream: Upstream, size: bytes) -> None:
    await refused(client, upstream, chunks(size + b"\r\nhello\r\n0\r\n\r\n"))


@pytest.mark.parametrize(
    "body",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"5\nhello\n0\n\n",
        b"5;a\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\r\n\n",
    ],
)
async def test_a15_a_line_feed_alone_ends_no_chunk_line(client: Client, upstream: Upstream, body: bytes) -> None:
    await refused(client, upstream, chunks(body))


@pytest.mark.parametrize(
    "body",
    [
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5;\rhello\r\n0\r\n\r\n",
        b"5\rXhello\r\n0\r\n\r\n",
        b"5\r\rhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\rX",
        b'5;a="\r"\r\nhello\r\n0\r\n\r\n',
    ],
)
async def test_a16_a_bare_carriage_return_in_a_chunk_line_is_refused(
    client: Client, upstream: Upstream, body: bytes
) -> None:
    await refused(client, upstream, chunks(body))


@pytest.mark.parametrize(
    "body",
    [
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",  # TERM.EXT: the line feed ends the line for some
        b"5;\nhello\r\n0\r\n\r\n",
        b"5\n;a\r\nhello\r\n0\r\n\r\n",  # EXT.TERM
        b'5;a="b\n"\r\nhello\r\n0\r\n\r\n',
        b'5;a="b\r\n"\r\nhello\r\n0\r\n\r\n',
        b"2;\nxx\r\n4c\r\n0\r\n\r\n" + NEXT,
        b"5;a\x00\r\nhello\r\n0\r\n\r\n",
        b"5;\r\nhello\r\n0\r\n\r\n",
        b"5;;\r\nhello\r\n0\r\n\r\n",
    ],
)
async def test_a17_a_line_end_or_odd_byte_inside_a_chunk_extension_is_refused(
    client: Client, upstream: Upstream, body: bytes
) -> None:
    await refused(client, upstream, chunks(body))


@pytest.mark.parametrize(
    "body", [b'5;a=b\r\nhello\r\n0;c="d e"\r\n\r\n', b"5;a\r\nhello\r\n000;b\r\n\r\n", b"05\r\nhello\r\n00\r\n\r\n"]
)
async def test_a17_well_formed_chunk_extensions_are_dropped(client: Client, upstream: Upstream, body: bytes) -> None:
    assert (await client.ask(chunks(body))).status == 200
    ((request,), left) = read_requests(upstream.received)
    assert (request.body, left) == (b"hello", b"")


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhell\r\n0\r\n\r\n",
        b"5\r\nhello\r\n\r\n0\r\n\r\n",
        b"0\r\nhello\r\n\r\n",
    ],
)
async def test_a18_chunk_data_that_does_not_fit_its_size_is_refused(
    client: Client, upstream: Upstream, body: bytes
) -> None:
    await refused(client, upstream, chunks(body))


@pytest.mark.parametrize(
    "body",
    [
        b"5;" + b"a" * 65536 + b"\r\nhello\r\n0\r\n\r\n",
        b"5;" + b"a=b;" * 16384 + b"c\r\nhello\r\n0\r\n\r\n",
        b'5;a="' + b"b" * 65536 + b'"\r\nhello\r\n0\r\n\r\n',
        (b"1;" + b"a" * 2000 + b"\r\nx\r\n") * 32 + b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: " + b"y" * 65536 + b"\r\n\r\n",
        b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 16384 + b"\r\n",
    ],
    ids=["one", "many", "quoted", "each chunk", "a trailer", "trailers"],
)
async def test_a19_much_chunk_extension_or_trailer_is_refused(client: Client, upstream: Upstream, body: bytes) -> None:
    answer = await client.ask(chunks(body))
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert await client.ends()
    for visit in upstream.visits:  # a first slice may have gone out; no whole request has
        assert read_requests(bytes(visit.received))[0] == []


@pytest.mark.parametrize(
    "trailer", [b"Host: b", b"Authorization: Bearer x", b"X-User: root", b"X-Own: 1", b"Cookie: a=b"]
)
async def test_a20_trailers_are_dropped(client: Client, upstream: Upstream, trailer: bytes) -> None:
    data = chunks(b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n", b"Trailer: " + trailer.partition(b":")[0])
    assert (await client.ask(data)).status == 200
    assert (await client.ask(get(target=b"/after"))).status == 200
    requests, left = read_requests(upstream.received)
    assert [(r.target, r.body) for r in requests] == [(b"/", b"hello"), (b"/after", b"")]
    assert left == b""
    assert trailer.lower() not in upstream.received.lower()


@pytest.mark.parametrize(
    "trailer", [b"Content-Length: 3", b"Transfer-Encoding: chunked", b"X : y", b" X: y", b"X", b": y"]
)
async def test_a20_trailers_that_frame_or_are_malformed_are_refused(
    client: Client, upstream: Upstream, trailer: bytes
) -> None:
    await refused(client, upstream, chunks(b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n"))


async def test_a_body_in_single_bytes_arrives_byte_exact(start: Start, upstream: Upstream) -> None:
    client = await (await start()).client()
    for byte in message(b"POST /slow HTTP/1.1", CHUNKED, body=b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: u\r\n\r\n"):
        await client.send(bytes((byte,)))
    assert (await client.answer()).status == 200
    ((request,), left) = read_requests(upstream.received)
    assert (request.body, left) == (b"abc0123456789", b"")
