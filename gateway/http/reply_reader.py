"""Bytes in, one reply out: the reading half of an upstream connection. Nothing here awaits or writes.

As strict as towards clients: what breaks RFC 9112 is no reply, and what follows a complete one, or comes
without a question, ends the connection, so that no answer can meet the wrong request.
"""

from typing import NamedTuple

import httptools

from gateway.exchange import Headers, Reply, header
from gateway.http.reply import field_lines
from gateway.http.stream import BodyStream
from gateway.http.syntax import LENGTHS, frame_reply

HEAD_LIMIT = 64 * 1024
"""Bytes of a reply's head; twice what clients may send, as replies carry cookies and policies."""

HEADER_COUNT = 200

CHUNK_ALLOWANCE = 64
"""Bytes a chunk may cost beside its data; twice HEAD_LIMIT comes on top, once, for head and trailers."""

FIRST = ord("H")
"""How a reply begins: HTTP/. llhttp would take RTSP/ and ICE/ as well."""

INTERIM = 8
"""1xx replies before the real one; more is an upstream that never answers."""

NOT_PASSED = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authenticate",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"content-length",
    b"upgrade",
    b"alt-svc",
    b"x-request-id",
}
"""Hop-by-hop fields, and two more: Alt-Svc would lead clients round the gateway, the request id is ours."""


class Repeated(NamedTuple):
    """The last reply that came whole in one read, for the case that the next one begins with the same bytes."""

    head: bytes
    whole: int
    """Bytes of head and body."""
    status: int
    headers: Headers
    lines: bytes | None
    """The fields as they are written; None where there is no Date among them."""


class ReplyReader:
    """Reads the replies of one upstream connection, one at a time; `begin` makes it ready for the next."""

    __slots__ = (
        "_head_bytes",
        "_headers",
        "_interim",
        "_last",
        "_method",
        "_overhead",
        "_parser",
        "_parts",
        "_upgrade",
        "bad",
        "complete",
        "keep",
        "length",
        "reply",
        "stream",
        "switched",
        "until_close",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: Headers = []
        self._parts: list[bytes] = []
        self._method = ""
        self._upgrade = False
        self._head_bytes = 0
        self._overhead = 0  # bytes that were not data of the body, less what chunks may cost
        self._interim = 0
        self._last: Repeated | None = None
        self.reply: Reply | None = None  # set once its head is complete
        self.length: int | None = None  # of its body
        self.stream: BodyStream | None = None  # its body, once handed over
        self.complete = True  # nothing (more) is expected
        self.keep = False  # the connection may serve another request
        self.until_close = False  # only the end of the connection ends the body
        self.switched: bytes | None = None  # behind a 101: the first bytes of the tunnel
        self.bad = ""  # why this is no reply; for the log

    @property
    def untouched(self) -> bool:
        """Not a byte of the reply has come."""
        return self._head_bytes == 0

    def begin(self, method: str, upgrade: bool) -> None:
        """A request has been sent."""
        self._method = method
        self._upgrade = upgrade
        self._head_bytes = 0
        self._overhead = 0
        self._interim = 0
        self._parts = []
        self.reply = None
        self.stream = None
        self.complete = False

    def feed(self, data: bytes) -> None:
        """More bytes from the socket; look at `bad`, `switched`, `reply` and `complete` afterwards."""
        if self.complete:
            self.bad = "bytes nobody asked for"
            return
        last = self._last
        if last is not None and len(data) == last.whole and data.startswith(last.head) and self._can_repeat():
            self._repeat(data, last)
            return
        if not self._head_bytes and data[0] != FIRST:
            self.bad = "not HTTP"
            return
        self._head_bytes += len(data)
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            if self.switched is not None:
                self.switched = data[stop.args[0] :]
            elif not self.bad:
                self.bad = "switched protocols unasked"
        except httptools.HttpParserError as error:
            self.keep = False
            if not self.complete:
                self.bad = self.bad or str(error)
        if self._head_bytes == len(data):
            self._remember(data)
        if self.reply is None and self._head_bytes > HEAD_LIMIT:
            self.bad = self.bad or "the head is too long"
        elif self._overhead > 2 * HEAD_LIMIT and not self.complete:
            self.bad = self.bad or "chunk extensions or trailers are too long"

    def _can_repeat(self) -> bool:
        return not self._head_bytes and self._method != "HEAD"

    def _repeat(self, data: bytes, last: Repeated) -> None:
        """A whole reply whose head is the last one's, byte for byte: what was judged of it is true again.

        The second between two Dates is long for an upstream under load; other replies cost one comparison.
        """
        self._head_bytes = len(data)
        self.length = len(data) - len(last.head)
        self.keep = True
        self.until_close = False
        self.reply = Reply(last.status, last.headers.copy(), data[len(last.head) :], last.lines)
        self.complete = True

    def eof(self) -> bool:
        """The upstream has ended its side; tells whether that has completed the reply."""
        if not self.until_close or self.reply is None or self.complete:
            return False
        self._end()
        return True

    def body(self) -> bytes:
        """The whole body of a complete reply, or what has come of it so far."""
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # -- what llhttp calls ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.complete:  # another reply behind this one
            self.keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.reply is not None:
            return  # trailers are dropped
        if value and value[-1] <= 32:
            value = value.rstrip(b" \t")  # llhttp leaves the white space behind a value
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        headers, self._headers = self._headers, []
        if self.reply is not None:  # a second reply: bytes nobody asked for
            self.keep = False
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._interim_reply(status, headers)
            return
        try:
            self._final_reply(status, headers)
        except ValueError as error:
            self.bad = str(error)

    def on_chunk_header(self) -> None:
        self._overhead -= CHUNK_ALLOWANCE

    def on_body(self, data: bytes) -> None:
        self._overhead -= len(data)
        if self.complete:  # the body of a HEAD or 304: ignored, and the connection with it
            self.keep = False
        elif self.stream is not None:
            self.stream.feed(data)
        else:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        if self.reply is not None and not self.complete:
            self._end()

    # -- judging -------------------------------------------------------------------------------------

    def _remember(self, data: bytes) -> None:
        """Keep what this read, one whole reply, was found to mean."""
        reply, length = self.reply, self.length
        self._last = None
        if not self.complete:
            return
        if reply is not None and length is not None and self.keep and not self._interim and not self.bad:
            end = data.find(b"\r\n\r\n") + 4
            if len(data) == end + length and not (self._method == "HEAD" or reply.status in (204, 304)):
                dated = header(reply.headers, b"date") is not None
                lines = field_lines(reply.headers) if dated else None
                self._last = Repeated(data[:end], len(data), reply.status, reply.headers.copy(), lines)

    def _interim_reply(self, status: int, headers: Headers) -> None:
        self._interim += 1
        if status == 101:
            index = dict(headers)
            if self._upgrade and index.get(b"upgrade", b"").lower() == b"websocket" and not self.bad:
                self.reply = Reply(101, [h for h in headers if h[0] == b"upgrade" or h[0] not in NOT_PASSED])
                self.complete = True
                self.keep = False
                self.switched = b""
            else:
                self.bad = "switched protocols unasked"
        elif self._interim > INTERIM:
            self.bad = "too many interim replies"

    def _final_reply(self, status: int, headers: Headers) -> None:
        """Raises ValueError."""
        if not 200 <= status < 600:
            raise ValueError("status")
        if len(headers) > HEADER_COUNT:
            raise ValueError("too many header fields")
        if self._head_bytes > HEAD_LIMIT and sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_LIMIT:
            raise ValueError("the head is too long")
        index = dict(headers)
        self.keep = frame_reply(self._parser.get_http_version(), headers, index)
        not_passed = NOT_PASSED
        connection = index.get(b"connection")
        if connection is not None and connection.lower() not in (b"close", b"keep-alive"):
            named = b",".join(value for name, value in headers if name == b"connection").lower().split(b",")
            not_passed = not_passed | {token.strip(b" \t") for token in named}
        end_to_end = [field for field in headers if field[0] not in not_passed]
        length = index.get(b"content-length")
        self.length = None if length is None else int(length)
        if self.length is not None and self.length >= LENGTHS:
            raise ValueError("content-length")
        self.until_close = False
        if self._method == "HEAD" or status in (204, 304):
            if length is not None and status != 204:
                end_to_end.append((b"content-length", length))
        elif length is None and b"transfer-encoding" not in index:
            self.until_close = True
            self.keep = False
        self.reply = Reply(status, end_to_end)
        if self._method == "HEAD":
            # llhttp cannot be told that no body follows: the message ends here, and a fresh parser takes the next.
            self.complete = True
            self._parser = httptools.HttpResponseParser(self)

    def _end(self) -> None:
        self.complete = True
        if self.stream is not None:
            self.stream.finish()
            self.stream = None
