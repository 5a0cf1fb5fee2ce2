"""Bytes in, requests out: the reading half of a client connection.

What cannot be trusted comes out as a GatewayError in the place of a request, and nothing after it is
read: where the next message would begin is unknown. Nothing here awaits or writes.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Protocol

import httptools

from gateway.errors import ClientGone, GatewayError, Refused
from gateway.exchange import Fields, Headers, Peer, Request
from gateway.http.stream import BodyStream
from gateway.http.syntax import bad, judge_fields, unknown_method

if TYPE_CHECKING:
    from gateway.http.server import Limits

SLICE = 16 * 1024
"""Bytes fed to the parser at once, so that a body's overhead is seen before it has grown."""

CHUNK_ALLOWANCE = 64
"""Bytes a chunk may cost beside its data; a SLICE comes on top, once, for extensions and trailers.

Chunk extensions are ignored by everybody, so they are bounded here (CVE-2023-39326 is Go's case of it)."""

REQUEST_LINE = re.compile(rb"(GET|HEAD|DELETE|OPTIONS) (/[!-~]*+) HTTP/1\.1\r\n")
"""The only form of a request line that may go with repeated fields: without a body, and in origin-form."""

METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}


class Owner(Protocol):
    """The connection that a reader reads for."""

    def arrived(self, item: Request | GatewayError) -> None:
        """The next request (its body may still be streaming in), or why there will be none."""

    def room_changed(self) -> None:
        """The current body's buffer has filled up or has been emptied."""

    def body_wanted(self) -> None:
        """Somebody has begun to read a body whose client waits for `100 Continue`."""


class Nobody:
    """The owner of a reader whose connection is gone."""

    def arrived(self, item: Request | GatewayError) -> None:
        """Nobody answers any more."""

    def room_changed(self) -> None:
        """There is no socket to pause."""

    def body_wanted(self) -> None:
        """There is nobody to ask."""


NOBODY = Nobody()


class RequestReader:
    """Reads the requests of one connection, in order, within its limits."""

    __slots__ = (
        "_at",
        "_bad",
        "_begun",
        "_chunked",
        "_end",
        "_head",
        "_headers",
        "_last",
        "_limits",
        "_overhead",
        "_owner",
        "_parser",
        "_parts",
        "_peer",
        "_url",
        "clean",
        "held",
        "request",
        "since",
        "stream",
    )

    def __init__(self, owner: Owner, peer: Peer, limits: Limits) -> None:
        self._owner = owner
        self._peer = peer
        self._limits = limits
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._begun = False  # a message has begun
        self._head = b""  # raw bytes of its head; messages that ended in the same slice may stand before it
        self._at = 0  # where in these bytes it begins; negative when that is unknown, behind a chunked body
        self._end = 0  # where its head ends in them; negative by what came of its body in slices before
        self._url = b""
        self._headers: Headers = []
        self._parts: list[bytes] = []  # body bytes of a request that has not been handed over yet
        self._last: tuple[bytes, Fields] | None = None  # the field lines of the last request, and their meaning
        self._chunked = False
        self._overhead = 0  # bytes of a chunked body that were not data
        self._bad: GatewayError | None = None
        self.request: Request | None = None  # its head is complete, its body is not
        self.stream: BodyStream | None = None  # its body, once it has been handed over
        self.held: bytearray | None = None  # what came behind a handshake that is not answered yet
        self.since = 0.0  # when the head in progress began, or the body in progress last grew; else 0
        self.clean = True  # all that was read made sense

    @property
    def ended(self) -> bool:
        """No further request will be read."""
        return self._parser is None and self.held is None

    def feed(self, data: bytes) -> None:
        """More bytes from the socket."""
        if self._last is not None and self._repeats(data, self._last):
            return
        if len(data) <= SLICE:
            self._feed(data)
        else:
            for start in range(0, len(data), SLICE):
                self._feed(data[start : start + SLICE])

    def fail(self, error: GatewayError) -> None:
        """What is being read will not be completed, and nothing after it is read."""
        stream = self.stream
        self._stop()
        self.clean = False
        if stream is not None and not stream.done:
            stream.fail(error)
        else:  # also where nobody reads the body any more, because its request is answered
            self._owner.arrived(error)

    def eof(self) -> None:
        """The client has ended its sending side."""
        if self.since:
            self.fail(bad("the request ended before it was complete"))
        else:
            self._stop()

    def gone(self) -> None:
        """The client has left."""
        stream = self.stream
        self._stop()
        if stream is not None:
            stream.fail(ClientGone())

    def lost(self) -> None:
        """The connection is no more. Without the way back to it both are freed at once: cycles of objects would wait
        for the collector, which does not look at what was there at a reload (gateway.process.worker)."""
        self.gone()
        self._owner = NOBODY

    def resume(self) -> None:
        """Read on as HTTP: the handshake was not followed by a tunnel."""
        held, self.held = self.held, None
        self._restart(bytes(held or b""))

    # -- what llhttp calls ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._begun = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if value and value[-1] <= 32:
            value = value.rstrip(b" \t")  # llhttp leaves the white space behind a value
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._bad is None:
            try:
                self.request = self._judge()
            except Refused as error:
                self._bad = error

    def on_chunk_header(self) -> None:
        self._overhead -= CHUNK_ALLOWANCE

    def on_body(self, data: bytes) -> None:
        self._overhead -= len(data)
        if self.stream is not None:
            self.stream.feed(data)
        else:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        request, self.request = self.request, None
        self._headers = []  # trailers are dropped: nothing here could merge them safely (RFC 9110 6.5.1)
        if request is None or self._bad is not None:
            return
        length = request.fields.length
        self._at = -1 if length is None or self._at < 0 else self._end + length
        self._begun = False
        self._chunked = False
        self.since = 0.0
        if not request.fields.keep_alive:
            self._parser = None
        if self.stream is not None:
            self.stream.finish()
            self.stream = None
            return
        parts = self._parts
        if parts:
            request.body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._parts = []
        if request.fields.upgrade:
            self.held = bytearray()
        self._owner.arrived(request)

    # -- reading -------------------------------------------------------------------------------------

    def _repeats(self, data: bytes, last: tuple[bytes, Fields]) -> bool:
        """Read a request whose fields are those of the last one, byte for byte, without parsing them again.

        Clients with a connection pool do little else. It holds for a whole head without a body, alone in
        its read: whatever was judged about these fields is true of the same bytes again.
        """
        block, fields = last
        if self._parser is None or self.since or self._head or not data.endswith(block):
            return False
        line = REQUEST_LINE.fullmatch(data, 0, len(data) - len(block))
        if line is None or line.end(2) - line.start(2) > self._limits.target_limit:
            return False
        method, target = line.groups()
        self._owner.arrived(Request(METHODS[method], target, fields, self._peer, time.monotonic()))
        return True

    def _feed(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            if self.held is not None:
                self.held += data
                self._owner.room_changed()
            return
        if self.stream is None:
            self._head = self._head + data if self._head else data
        else:  # the next request may begin in the slice that ends this one's body
            self._head = data
            self._at = 0
            self._end = -self.stream.received
        self._overhead += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            self._stopped(data[stop.args[0] :])
            return
        except httptools.HttpParserError as error:
            if self._parser is None:  # bytes behind the last request: nobody asked for them
                return
            if self._bad is None:
                unknown = isinstance(error, httptools.HttpParserInvalidMethodError) and self._at >= 0
                self._bad = unknown_method(self._head[self._at :]) if unknown else bad("the request is malformed")
        if self._bad is not None:
            self.fail(self._bad)
        elif self.request is not None:
            self._in_body(self.request)
        elif self._begun:
            self._in_head()
        elif self._parser is not None:
            self._between()

    def _judge(self) -> Request:
        """The head is complete. Raises Refused."""
        parser, headers, url, limits = self._parser, self._headers, self._url, self._limits
        assert parser is not None
        self._headers, self._url = [], b""
        method = parser.get_method()
        version = parser.get_http_version()
        line = b"%b %b HTTP/%b\r\n" % (method, url, version.encode())
        # llhttp tolerates several spaces, and the names of other protocols (RTSP, ICE); we do not.
        head, at = self._head, self._at
        if at < 0 or not head.startswith(line, at):
            at = self._find(line)
        self._end = end = head.find(b"\r\n\r\n", at) + 4
        if version not in ("1.1", "1.0"):
            raise bad("only HTTP/1.1 and HTTP/1.0 are spoken here", 505)
        if len(url) > limits.target_limit:
            raise self._target_too_long()
        if len(headers) > limits.header_count:
            raise Refused("headers_too_large", 431, f"at most {limits.header_count} header fields")
        if len(head) > limits.header_limit:
            size = sum(len(name) + len(value) + 4 for name, value in headers)
            if size > limits.header_limit:
                raise self._head_too_long()
        name = METHODS.get(method) or method.decode()
        fields = judge_fields(name, version, headers)
        if url == b"*" and name != "OPTIONS":
            raise bad("only OPTIONS may ask for *")
        self._chunked = fields.length is None
        self._overhead = 0
        self._last = None
        if at == 0 and end == len(head) and _repeatable(fields):
            self._last = head[len(line) :], fields
        return Request(name, url, fields, self._peer, time.monotonic())

    def _find(self, line: bytes) -> int:
        """Where the request line is that does not stand where its message was expected. Raises Refused.

        Empty lines may come before it (RFC 9112 2.2). Where a chunked body ended is not known, so behind one
        any line will do: that lets through, of requests in one read, a double space where the same line stood
        without.
        """
        head, at = self._head, self._at
        if at < 0:
            start, sound = at, b"\n" + line in head
        else:
            start = head.find(line, at)
            sound = start >= 0 and not head[at:start].replace(b"\r\n", b"")
        if not sound:
            raise bad("the request line is malformed")
        return start

    def _between(self) -> None:
        """No message has begun behind the last one, but llhttp may have skipped ends of lines."""
        rest = self._head[self._at :] if self._at >= 0 else b""
        self._head = b""
        self._at = 0
        if rest:
            empty = rest.replace(b"\r\n", b"")
            if empty == b"\r":
                self._head = empty  # its line feed is on its way
            elif empty:
                self.fail(bad("a stray end of line before the request"))

    def _in_head(self) -> None:
        """The head is not complete yet: is it within its limits?"""
        if self._at > 0:
            self._head = self._head[self._at :]
            self._at = 0
        if len(self._url) > self._limits.target_limit:
            self.fail(self._target_too_long())
        elif len(self._head) > self._limits.header_limit + self._limits.target_limit + SLICE:
            self.fail(self._head_too_long())
        elif not self.since:
            self.since = time.monotonic()

    def _in_body(self, request: Request) -> None:
        """The head is complete and the body is not: hand the request over and stream the rest."""
        self.since = time.monotonic()
        self._head = b""
        if self._chunked and self._overhead > SLICE:
            self.fail(bad("chunk extensions or trailers are too long"))
        elif self.stream is None:
            wanted = self._owner.body_wanted if request.fields.expects_continue else None
            room = self._owner.room_changed
            stream = BodyStream(request.fields.length, pause=room, resume=room, on_first_read=wanted)
            self.stream = stream
            for part in self._parts:
                stream.feed(part)
            self._parts = []
            request.body = stream
            self._owner.arrived(request)

    def _stopped(self, rest: bytes) -> None:
        """llhttp stops at any Upgrade, also at one that is not followed; `rest` lies behind the head."""
        if self._bad is not None:
            self.fail(self._bad)
        elif self.held is not None:
            self._parser = None
            self.held += rest
        elif self._parser is not None:
            self._restart(rest)

    def _restart(self, data: bytes) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._begun = False
        self._head = b""
        self._at = 0
        if data:
            self.feed(data)

    def _stop(self) -> None:
        self._parser = None
        self._bad = None
        self.request = None
        self.stream = None
        self.held = None
        self._last = None
        self.since = 0.0

    def _target_too_long(self) -> Refused:
        return Refused("headers_too_large", 414, f"the target may have {self._limits.target_limit} bytes")

    def _head_too_long(self) -> Refused:
        return Refused("headers_too_large", 431, f"the head may have {self._limits.header_limit} bytes")


def _repeatable(fields: Fields) -> bool:
    """Whether a request with these fields leaves the connection as it found it."""
    return fields.length == 0 and fields.keep_alive and not fields.upgrade and fields.version == "1.1"
