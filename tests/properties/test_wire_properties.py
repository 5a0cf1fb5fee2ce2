"""However a byte stream is cut into reads, it means the same; and what is remembered of it changes nothing."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.exchange import Body, Peer, Request
from gateway.http.reader import RequestReader
from gateway.http.reply_reader import ReplyReader
from gateway.http.server import Limits
from gateway.http.stream import BodyStream

LIMITS = Limits(target_limit=256, header_limit=500)
PEER = Peer("192.0.2.1", 1234)
TARGETS = (b"/", b"/a", b"/a/b?c=d", b"http://a/x", b"/" + b"a" * 300, b"*", b"/#", b"a")
FIELDS = (
    *(
        b"X-Own: 1",
        b"X:\t y \t",
        b"Y:",
        b"Connection: close",
        b"Connection: keep-alive, x-own",
        b"Upgrade: h2c",
        b"Connection: upgrade",
    ),
    *(
        b"Expect: 100-continue",
        b"X : y",
        b" X: y",
        b"X: a\rb",
        b"Host: b",
        b"Accept: */*",
        b"Content-Length: 0",
        b"X: " + b"y" * 400,
    ),
    *(b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
)
HOSTS = (b"Host: a", b"Host: a", b"Host: a", b"host:a", b"Host:", b"X: no host")


def chunked(body: bytes, cuts: list[int], extension: bytes, trailer: bytes) -> bytes:
    data, at = b"", 0
    for cut in sorted({c % (len(body) + 1) for c in cuts} | {len(body)}):
        if cut > at:
            data += b"%x%b\r\n%b\r\n" % (cut - at, extension, body[at:cut])
            at = cut
    return data + b"0\r\n" + trailer + b"\r\n"


@st.composite
def framed(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Framing fields, and a body that mostly fits them."""
    body = draw(st.binary(max_size=60))
    kind = draw(st.sampled_from(["none", "length", "length", "chunked", "chunked", "odd"]))
    if kind == "none":
        return [], b""
    if kind == "length":
        return [b"Content-Length: %d" % len(body)], body
    extension = draw(st.sampled_from([b"", b"", b";a=b", b";a\rb", b" "]))
    trailer = draw(st.sampled_from([b"", b"", b"X: y\r\n", b"Content-Length: 1\r\n", b"X : y\r\n"]))
    data = chunked(body, draw(st.lists(st.integers(0, 60), max_size=3)), extension, trailer)
    if kind == "chunked":
        return [b"Transfer-Encoding: chunked"], data
    odd = [
        b"Content-Length: 5",
        b"Content-Length: +5",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked",
    ]
    return draw(st.lists(st.sampled_from(odd), min_size=1, max_size=2)), data


@st.composite
def requests(draw: st.DrawFn, stray: bool) -> bytes:
    """A request, sound or not; `stray` ends of lines before it are found out only once its head is complete."""
    method = draw(
        st.sampled_from([b"GET", b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS", b"PURGE", b"FOO", b"CONNECT"])
    )
    target = draw(st.sampled_from(TARGETS))
    version = draw(st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"RTSP/1.0"]))
    before = draw(st.sampled_from([b""] * 8 + [b"\r\n", b"\r\n\r\n"] + [b"\n", b"\r"] * stray))
    fields, body = draw(framed())
    lines = [
        b" ".join((method, target, version)),
        draw(st.sampled_from(HOSTS)),
        *draw(st.lists(st.sampled_from(FIELDS), max_size=3)),
        *fields,
    ]
    return before + b"\r\n".join(lines) + b"\r\n\r\n" + body


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes in several reads, or in single bytes."""
    if draw(st.booleans()) and len(data) < 2000:
        return [data[n : n + 1] for n in range(len(data))]
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [piece for start, end in zip([0, *places], [*places, len(data)], strict=True) if (piece := data[start:end])]


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    whole = draw(st.integers(0, 3)) > 0
    parts = draw(st.lists(requests(stray=whole), min_size=1, max_size=4))
    if draw(st.booleans()):
        parts = parts[:1] * draw(st.integers(1, 3)) + parts
    data = b"".join(parts)
    if not whole:
        data = data[: draw(st.integers(0, len(data)))]
    return data, draw(cut(data))


class Listener:
    """The connection of a reader."""

    def __init__(self) -> None:
        self.items: list[Request | GatewayError] = []

    def arrived(self, item: Request | GatewayError) -> None:
        self.items.append(item)

    def room_changed(self) -> None:
        pass

    def body_wanted(self) -> None:
        pass


def drained(body: Body) -> tuple[bytes, object]:
    """What has come of a body, and how it stands: complete, broken off (the status), or "more" to come."""
    data = b""
    if isinstance(body, bytes):
        return body, "complete"
    assert isinstance(body, BodyStream)
    while True:
        step = body.read()
        try:
            step.send(None)
        except StopIteration as end:
            if not end.value:
                return data, "complete"
            data += end.value
        except GatewayError as error:
            return data, error.status
        except RuntimeError:  # it would wait, and there is no loop to wait in
            return data, "more"


def meaning(pieces: list[bytes], limits: Limits = LIMITS) -> tuple[list[object], bool, bool]:
    """Every request with all that was understood of it, how it ended, and whether the reader still waits or reads."""
    listener = Listener()
    reader = RequestReader(listener, PEER, limits)
    for piece in pieces:
        reader.feed(piece)
    found: list[object] = []
    for item in listener.items:
        if isinstance(item, GatewayError):
            found.append("refused")
            continue
        data, state = drained(item.body)
        if isinstance(state, int):
            found.append("refused")  # in one piece it would not have become a request
            continue
        fields = item.fields
        described = (fields.headers, fields.host, fields.length, fields.keep_alive, fields.expects_continue)
        more = (fields.upgrade, fields.nominated, fields.version, dict(fields.index), fields.repeated)
        found.append((item.method, item.target, data, state, described, more))
    held = reader.held
    return [*found, bytes(held) if held is not None else None], reader.since > 0, reader.ended


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"


def halves(data: bytes, at: int) -> tuple[bytes, list[bytes]]:
    return data, [data[:at], data[at:]]


@settings(max_examples=600, deadline=None)
@given(conversations())
@example(halves(POST + GET, len(POST) - 5))
@example(halves(POST + GET, len(POST) - 2))
@example(halves(CHUNKED + GET + GET, len(CHUNKED) - 8))
@example(halves(GET + CHUNKED + GET + GET + POST + GET, len(GET)))
@example(halves(GET + b"\r" + GET, len(GET) + 1))
@example(halves(GET + b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", len(GET)))
@example(halves(POST + b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", len(POST)))
def test_requests_mean_the_same_however_they_are_cut(conversation: tuple[bytes, list[bytes]]) -> None:
    data, pieces = conversation
    assert meaning(pieces) == meaning([data])


def fresh_each(parts: list[bytes]) -> list[object]:
    """What each part means to a reader that has never read another."""
    return [meaning([part])[0][0] for part in parts]


LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"GET /a?b HTTP/1.1",
        b"HEAD / HTTP/1.1",
        b"DELETE /x HTTP/1.1",
        b"OPTIONS / HTTP/1.1",
        b"POST / HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET / HTTP/1.0",
        b"GET / HTTP/1.1 ",
        b"get / HTTP/1.1",
        b"GET * HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET /# HTTP/1.1",
        b"GET //a HTTP/1.1",
        b'GET /"<>\\^`{|} HTTP/1.1',
        b"GET /%zz HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET http://a/ HTTP/1.1",
        b"\r\nGET / HTTP/1.1",
        b"\rGET / HTTP/1.1",
        b"\nGET / HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET /" + b"a" * 256 + b" HTTP/1.1",
        b"GET / HTTP/1.1\r\nX: y",
        b"GET / HTTP/1.1\r\nX: y\r\n\r\nGET / HTTP/1.1",
        b"CONNECT / HTTP/1.1",
    ]
)
BLOCKS = st.sampled_from(
    [
        b"\r\nHost: a\r\n\r\n",
        b"\r\nHost: a\r\nX: y\r\n\r\n",
        b"\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        b"\r\nHost: a\r\nHost: a\r\n\r\n",
        b"\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\r\nHost: a\r\nX: " + b"y" * 480 + b"\r\n\r\n",
    ]
)


@settings(max_examples=600, deadline=None)
@given(BLOCKS, st.lists(st.tuples(LINES, st.none() | BLOCKS), min_size=1, max_size=5))
def test_a_head_that_repeats_is_judged_as_if_it_came_first(
    block: bytes, others: list[tuple[bytes, bytes | None]]
) -> None:
    parts = [line + (own or block) for line, own in [(b"GET / HTTP/1.1", None), *others]]
    together = meaning(parts)[0]
    for alone, found in zip(fresh_each(parts), together, strict=False):
        assert found == alone
        if alone is None or found == "refused" or not found[4][3]:  # type: ignore[index]  # the connection ends here
            return


# -- replies ---------------------------------------------------------------------------------------

STATUS = [b"200 OK"] * 6 + [
    b"204 No Content",
    b"304 Not Modified",
    b"404 ",
    b"500",
    b"099 x",
    b"600 x",
    b"100 Continue",
    b"103 Hints",
    b"101 x",
]
REPLY_FIELDS = (
    b"Content-Type: a/b",
    b"Connection: close",
    b"Connection: x",
    b"X: y",
    b"X : y",
    b"Set-Cookie: a",
    b"Date: now",
    b" X: y",
)


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    version = draw(st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/2.0", b"RTSP/1.0"]))
    fields, body = draw(framed())
    lines = [
        version + b" " + draw(st.sampled_from(STATUS)),
        *draw(st.lists(st.sampled_from(REPLY_FIELDS), max_size=3)),
        *fields,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def heard(pieces: list[bytes], method: str = "GET", reader: ReplyReader | None = None) -> tuple[object, ...]:
    """What a reader makes of a reply, and whether its connection may be used again; stops where a client would."""
    reader = reader or ReplyReader()
    reader.begin(method, upgrade=False)
    body = b""
    for piece in pieces:
        delivered = reader.complete
        reader.feed(piece)
        if reader.bad and not delivered:
            return ("bad",)
        if reader.bad:
            break
        if reader.reply is not None:
            body += reader.body()
    if reader.complete and reader.reply is not None:
        usable = reader.keep and not reader.bad
        whole = reader.reply.body or body  # a repeated reply brings its body along
        return reader.reply.status, reader.reply.headers, whole, reader.length, usable
    if reader.reply is None:
        return ("none yet",)
    return reader.reply.status, reader.reply.headers, body, reader.length, reader.until_close


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    data = b"".join(draw(st.lists(replies(), min_size=1, max_size=2)))
    if draw(st.integers(0, 3)) == 0:
        data = data[: draw(st.integers(1, len(data)))]
    return data, draw(cut(data))


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@settings(max_examples=600, deadline=None)
@given(answers(), st.sampled_from(["GET", "POST"]))
@example(halves(OK + b"HTTP/1.1", len(OK)), "GET")
@example(halves(OK + b"H", len(OK)), "GET")
@example(halves(OK + OK, len(OK)), "GET")
def test_replies_mean_the_same_however_they_are_cut(answer: tuple[bytes, list[bytes]], method: str) -> None:
    data, pieces = answer
    assert heard(pieces, method) == heard([data], method)


@settings(max_examples=600, deadline=None)
@given(replies(), st.lists(st.tuples(replies() | st.none(), st.sampled_from(["GET", "HEAD"])), min_size=1, max_size=4))
@example(OK, [(OK[:-1], "GET"), (OK + b"!", "GET")])
@example(OK, [(OK.replace(b"ok", b"no"), "GET"), (OK, "HEAD"), (OK, "GET")])
def test_a_reply_that_repeats_is_judged_as_if_it_came_first(
    first: bytes, others: list[tuple[bytes | None, str]]
) -> None:
    reader = ReplyReader()
    for data, method in [(first, "GET"), *((other or first, method) for other, method in others)]:
        found = heard([data], method, reader)
        assert found == heard([data], method)
        if not reader.complete or not reader.keep or reader.bad:
            return


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_no_bytes_raise_anything_but_what_is_documented(noise: bytes, at: int) -> None:
    for data in (noise, GET[: at % len(GET)] + noise, CHUNKED[: at % len(CHUNKED)] + noise):
        meaning([data])
    for data in (noise, OK[: at % len(OK)] + noise):
        if data:
            heard([data])


@given(st.binary(max_size=5000), st.lists(st.integers(0, 5000), max_size=6), st.data())
def test_bodies_arrive_byte_exact(body: bytes, cuts: list[int], data: st.DataObject) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    for message in (
        head + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, cuts, b"", b""),
    ):
        found = meaning(data.draw(cut(message + GET)))[0]
        assert [item[2:4] for item in found[:2]] == [(body, "complete"), (b"", "complete")]  # type: ignore[index]
