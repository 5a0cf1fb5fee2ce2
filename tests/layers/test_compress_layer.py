from typing import Any

import pytest

from gateway.errors import GatewayError, UpstreamFailed
from gateway.exchange import Headers, Reply, Stream, header, header_values
from gateway.pipe import Send
from gateway.transform import compress as layer
from gateway.transform.compress import compress
from tests.decoding import CODINGS, decoded
from tests.fakes import Chunks, failing, make_call, read_all, replying

TEXT = b'{"items": [' + b'{"id": 1, "name": "a name"}, ' * 100 + b"{}]}"
JSON = (b"content-type", b"application/json")
GZIP = [(b"accept-encoding", b"gzip")]
VARY = b"vary: accept-encoding\r\n"


def compressing(send: Send, **settings: Any) -> Send:
    given = {"min_size": 1024, "types": ("text/*", "application/json"), "level": "fast", **settings}
    return compress(given.pop("encodings", ("gzip",)), **given)(send)


async def answer(
    headers: Headers,
    body: bytes | Stream = TEXT,
    *,
    status: int = 200,
    method: str = "GET",
    asked: Headers = GZIP,
    **settings: Any,
) -> tuple[Reply, bytes]:
    """The reply, and what was added to it."""
    call = make_call(method, list(asked))
    reply = await compressing(replying(status, headers, body), **settings)(call)
    return reply, call.added


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_reply_is_compressed_for_who_accepts_it(coding: str) -> None:
    asked = [(b"accept-encoding", coding.encode())]
    reply, added = await answer([JSON], asked=asked, encodings=CODINGS)
    assert reply.headers == [JSON, (b"content-encoding", coding.encode())]
    assert added == VARY
    assert isinstance(reply.body, bytes)
    assert len(reply.body) < len(TEXT) / 4
    assert decoded(coding, reply.body) == TEXT


async def test_the_order_of_encodings_is_ours_among_what_the_client_likes_equally() -> None:
    asked = [(b"accept-encoding", b"deflate, gzip"), (b"accept-encoding", b"br, zstd")]
    for encodings in (CODINGS, CODINGS[::-1]):
        reply, _ = await answer([JSON], asked=asked, encodings=encodings)
        assert header(reply.headers, b"content-encoding") == encodings[0].encode()


async def test_accept_encoding_on_several_lines_is_one_list() -> None:
    reply, _ = await answer([JSON], asked=[*GZIP, (b"accept-encoding", b"deflate")])
    assert header(reply.headers, b"content-encoding") == b"gzip"
    reply, _ = await answer([JSON], asked=[*GZIP, (b"accept-encoding", b"gzip;q=0")])
    assert header(reply.headers, b"content-encoding") is None


async def test_a_stream_is_compressed_on_its_way() -> None:
    source = Chunks(TEXT[:700], TEXT[700:], length=len(TEXT))
    reply, added = await answer([JSON], source)
    assert header(reply.headers, b"content-encoding") == b"gzip"
    assert added == VARY
    assert not isinstance(reply.body, bytes)
    assert reply.body.length is None
    assert decoded("gzip", await read_all(reply.body)) == TEXT


async def test_a_stream_of_unknown_length_is_compressed_however_short() -> None:
    reply, _ = await answer([JSON], Chunks(b"{}"))
    assert decoded("gzip", await read_all(reply.body)) == b"{}"


@pytest.mark.parametrize(
    "asked",
    [
        [],
        [(b"accept-encoding", b"")],
        [(b"accept-encoding", b"br")],
        [(b"accept-encoding", b"gzip;q=0")],
        [(b"accept-encoding", b"identity, gzip;q=0.9")],
        [(b"accept-encoding", b"gzip, " + b"x" * 10_000)],
    ],
)
async def test_who_does_not_accept_it_gets_the_reply_as_it_is_and_caches_are_told(asked: Headers) -> None:
    headers = [JSON, (b"etag", b'"a"'), (b"accept-ranges", b"bytes")]
    call = make_call(headers=asked)
    given = Reply(200, list(headers), TEXT, b"the lines")

    async def send(_: object) -> Reply:
        return given

    reply = await compressing(send)(call)
    assert (reply.headers, reply.body, reply.lines) == (headers, TEXT, b"the lines")
    assert call.added == VARY


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, [JSON, (b"content-encoding", b"br")], TEXT),
        (200, [JSON, (b"content-encoding", b"identity")], TEXT),
        (206, [JSON, (b"content-range", b"bytes 0-2999/9000")], TEXT),
        (200, [JSON, (b"content-range", b"bytes 0-2999/9000")], TEXT),
        (200, [JSON, (b"cache-control", b"public, No-Transform")], TEXT),
        (200, [JSON, (b"cache-control", b"no-transform"), (b"cache-control", b"max-age=5")], TEXT),
        (200, [(b"content-type", b"text/event-stream")], Chunks(b"data: 1\n\n")),
        (200, [(b"content-type", b"image/png")], TEXT),
        (200, [], TEXT),
        (200, [JSON], TEXT[:1023]),
        (200, [JSON], Chunks(TEXT[:1023], length=1023)),
        (200, [JSON], b""),
        (204, [JSON], b""),
        (205, [JSON], b""),
        (101, [], b""),
    ],
)
async def test_what_is_left_alone_for_everybody_says_nothing_about_it(
    status: int, headers: Headers, body: bytes | Stream
) -> None:
    reply, added = await answer(headers, body, status=status)
    assert (reply.headers, reply.body, added) == (headers, body, b"")


async def test_a_client_that_says_no_transform_gets_what_was_sent() -> None:
    reply, _ = await answer([JSON], asked=[*GZIP, (b"cache-control", b"no-transform")])
    assert reply.body == TEXT


async def test_at_the_least_size_it_begins() -> None:
    reply, _ = await answer([JSON], TEXT[:1024])
    assert header(reply.headers, b"content-encoding") == b"gzip"


async def test_errors_are_compressed_like_other_replies() -> None:
    reply, _ = await answer([JSON], status=500)
    assert header(reply.headers, b"content-encoding") == b"gzip"


async def test_what_does_not_become_smaller_stays_as_it_is() -> None:
    noise = bytes(n * n * 31 % 251 ^ n * 7 % 256 for n in range(300)) * 1
    reply, added = await answer([JSON, (b"etag", b'"a"')], noise, min_size=1)
    assert (reply.body, reply.headers, added) == (noise, [JSON, (b"etag", b'"a"')], VARY)


async def test_what_was_said_of_other_bytes_goes_and_the_rest_stays() -> None:
    stays = [
        JSON,
        (b"last-modified", b"Sat, 21 Nov 2026 00:00:00 GMT"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    ]
    goes = [
        (b"accept-ranges", b"bytes"),
        (b"content-md5", b"x"),
        (b"digest", b"sha-256=x"),
        (b"content-digest", b"sha-256=:x:"),
        (b"repr-digest", b"sha-256=:x:"),
        (b"content-length", b"2900"),
    ]
    reply, _ = await answer([*stays[:2], *goes, *stays[2:]])
    assert reply.headers == [*stays, (b"content-encoding", b"gzip")]
    assert reply.lines is None


@pytest.mark.parametrize(
    ("tag", "becomes"), [(b'"abc"', b'W/"abc"'), (b'W/"abc"', b'W/"abc"'), (b"abc", b"abc"), (b"", b"")]
)
async def test_a_strong_tag_becomes_weak(tag: bytes, becomes: bytes) -> None:
    reply, _ = await answer([JSON, (b"etag", tag)])
    assert header(reply.headers, b"etag") == becomes


@pytest.mark.parametrize(
    ("vary", "added"),
    [
        (b"origin", VARY),
        (b"Accept-Encoding", b""),
        (b"origin, accept-encoding", b""),
        (b"*", b""),
        (b"accept", VARY),
    ],
)
async def test_vary_is_said_once(vary: bytes, added: bytes) -> None:
    reply, said = await answer([JSON, (b"vary", vary)])
    assert said == added
    assert header_values(reply.headers, b"vary") == [vary]


async def test_a_head_says_what_get_would_but_for_the_length() -> None:
    headers = [JSON, (b"etag", b'"a"'), (b"content-length", b"2900")]
    reply, added = await answer(headers, b"", method="HEAD")
    assert reply.headers == [JSON, (b"etag", b'W/"a"'), (b"content-encoding", b"gzip")]
    assert (reply.body, added) == (b"", VARY)


async def test_a_head_of_something_small_says_its_length() -> None:
    headers = [JSON, (b"content-length", b"29")]
    reply, added = await answer(headers, b"", method="HEAD")
    assert (reply.headers, added) == (headers, b"")


async def test_a_head_whose_body_is_in_hand_tells_the_length_of_the_compressed_one() -> None:
    got, _ = await answer([JSON])
    headed, _ = await answer([JSON], method="HEAD")
    assert (headed.headers, headed.body) == (got.headers, got.body)


@pytest.mark.parametrize(
    ("asked", "confirmed"),
    [(b'W/"a"', b'W/"a"'), (b'"b", W/"a"', b'W/"a"'), (b'"a"', b'"a"'), (b'W/"ab"', b'"a"'), (b"*", b'"a"')],
)
async def test_a_304_confirms_the_tag_that_the_client_has(asked: bytes, confirmed: bytes) -> None:
    reply, added = await answer([(b"etag", b'"a"')], b"", status=304, asked=[*GZIP, (b"if-none-match", asked)])
    assert reply.headers == [(b"etag", confirmed)]
    assert added == VARY


async def test_a_304_of_what_the_upstream_encodes_itself_is_its_own() -> None:
    headers = [(b"etag", b'"a"'), (b"cache-control", b"no-transform")]
    reply, added = await answer(headers, b"", status=304, asked=[*GZIP, (b"if-none-match", b'W/"a"')])
    assert (reply.headers, added) == (headers, b"")


async def test_an_error_passes_as_it_is() -> None:
    error = UpstreamFailed("upstream_failed", sent=True)
    with pytest.raises(UpstreamFailed) as raised:
        await compressing(failing(error))(make_call(headers=GZIP))
    assert raised.value is error


async def test_an_encoder_that_cannot_begin_lets_the_body_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(level: str) -> Any:
        raise MemoryError

    monkeypatch.setattr(layer, "ENCODERS", {"gzip": no_memory})
    source = Chunks(TEXT, length=len(TEXT))
    with pytest.raises(GatewayError) as raised:
        await answer([JSON], source)
    assert raised.value.status == 500
    assert source.closed
