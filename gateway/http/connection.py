"""One client connection: requests are answered in the order they came, one at a time.

The reader runs ahead of the replies only as far as one read of the socket: while a request waits behind
another (pipelining), the socket is not read. One lazily re-armed timer watches every time limit (`_due`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, cast

from gateway.errors import ClientGone, GatewayError, Refused
from gateway.exchange import NEVER, Body, Call, Fields, Hop, Peer, Reply, Request, Stream, Tunnel
from gateway.http.reader import RequestReader
from gateway.http.reply import CONTINUE, LAST_CHUNK, bodiless, chunk, reply_head
from gateway.http.reset import reset

if TYPE_CHECKING:
    from gateway.http.server import Server

DRAINABLE = 64 * 1024
"""An unread body of at most this many announced bytes is read past, so that the connection can be kept."""

LINGER = 1.0
"""Seconds in which a client that is still sending may read its reply, before the connection is reset."""

HELD = 64 * 1024
"""Bytes behind a handshake that are held until the upstream has answered it."""

HALF_CLOSED = 0.75
"""Seconds without a byte written after which a client that has ended its sending side counts as gone.

A half-closed client and one that has left look the same until something is written (docs/decisions/0004)."""


NO_FIELDS = Fields([])


class ServerConnection(asyncio.Protocol):
    """The protocol of one accepted socket."""

    _transport: asyncio.Transport
    _reader: RequestReader
    _timer: asyncio.TimerHandle
    _peer: Peer

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._app = server.app
        self._limits = server.limits
        self._loop = loop
        self._waiting: deque[Request | GatewayError] | None = None  # behind the one being answered
        self._task: asyncio.Task[None] | None = None  # answers
        self._closing = False  # close after the current reply
        self._paused = False  # the socket is not read
        self._eof = False  # the client has ended its sending side
        self._idle_since = 0.0
        self._writable: asyncio.Future[None] | None = None  # there while the client reads too slowly
        self._blocked_since = 0.0
        self._written = 0.0  # last time something was written, once the client has ended its side
        self._timer_at = 0.0
        self._tunnelled = False
        self._sent = 0  # bytes of the current reply's body

    # -- what the transport calls --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of asyncio's class
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            address = name[0].removeprefix("::ffff:")
            self._peer = Peer(address, name[1], "http", self._server.trusts(address))
        else:  # a unix socket: whoever may open the file
            self._peer = Peer("unix", 0)
        self._reader = RequestReader(self, self._peer, self._limits)
        self._idle_since = time.monotonic()
        self._timer_at = self._idle_since + self._limits.idle_timeout
        self._timer = self._loop.call_later(self._limits.idle_timeout, self._tick)
        if not self._server.joined(self):
            self._reader.fail(GatewayError("overloaded", 503, "too many connections", retry_after=1.0))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._reader.since:
            self._watch(self._due())

    def eof_received(self) -> bool:
        self._eof = True
        self._reader.eof()
        if self._task is None:
            self._transport.close()
        else:
            self._written = time.monotonic()
            self._loop.call_later(HALF_CLOSED, self._half_closed)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._reader.gone()
        self._waiting = None
        if self._task is not None:
            self._task.cancel()
        self._server.left(self)

    def pause_writing(self) -> None:
        self._blocked_since = time.monotonic()
        self._writable = self._loop.create_future()
        self._watch(self._due())

    def resume_writing(self) -> None:
        self._blocked_since = 0.0
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # -- what the server calls -----------------------------------------------------------------------

    def drain(self) -> None:
        """Take no further request; close when the current one is answered."""
        self._closing = True
        if self._task is None:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection now, and stop what is done for it."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()

    # -- what the reader calls -----------------------------------------------------------------------

    def arrived(self, item: Request | GatewayError) -> None:
        if self._task is None:
            self._task = self._loop.create_task(self._serve(item))
            return
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(item)
        self.room_changed()

    def room_changed(self) -> None:
        """Read the socket only while there is room for what comes."""
        stream, held = self._reader.stream, self._reader.held
        pause = bool(self._waiting)
        if not pause and stream is not None:
            pause = stream.paused
        if not pause and held is not None:
            pause = len(held) > HELD
        if pause == self._paused or self._transport.is_closing():
            return
        self._paused = pause
        if pause:
            self._transport.pause_reading()
        else:
            if self._reader.since:
                self._reader.since = time.monotonic()
            self._transport.resume_reading()

    def body_wanted(self) -> None:
        stream = self._reader.stream
        if stream is not None and not stream.received and not self._transport.is_closing():
            self._transport.write(CONTINUE)

    # -- answering -----------------------------------------------------------------------------------

    async def _serve(self, item: Request | GatewayError) -> None:
        """Answer `item` and what waits behind it."""
        try:
            while True:
                if self._writable is not None:  # the last replies have not been read yet
                    await self._writable
                if isinstance(item, Request):
                    await self._answer(item)
                else:
                    self._refuse(item)
                if self._closing or not self._waiting:
                    break
                item = self._waiting.popleft()
                self.room_changed()
        finally:
            self._task = None
        self._idle_since = time.monotonic()
        if self._closing or self._reader.ended:
            self._close()

    async def _answer(self, request: Request) -> None:
        app = self._app
        call = app.open(request)
        status = 499
        self._sent = 0
        try:
            reply = await app.handle(call)
            status = reply.status
            if reply.tunnel is not None:
                if self._reader.held is None:  # the client has left, or ended its side
                    reply.tunnel.close()
                    status = 499
                else:
                    await self._tunnel(call, reply, reply.tunnel, bytes(self._reader.held))
                return
            if self._reader.held is not None:
                self._reader.resume()
            body = reply.body
            connection = self._keep_or_close(request, body)
            if isinstance(body, bytes):
                self._write_whole(request.method, reply, body, connection)
            else:
                await self._write_stream(call, reply, body, connection)
        except asyncio.CancelledError:
            status = 499
            call.error = ClientGone()
            raise
        finally:
            came = request.body
            received = len(came) if isinstance(came, bytes) else came.received
            app.finished(call, status, self._sent, received, time.monotonic() - request.received)

    def _refuse(self, error: GatewayError) -> None:
        """Answer what was no request, and close."""
        started = time.monotonic()
        call = self._app.open(Request("", b"", NO_FIELDS, self._peer))
        reply = self._app.refuse(call, error)
        assert isinstance(reply.body, bytes)
        self._closing = True
        self._write_whole("", reply, reply.body, b"connection: close\r\n")
        self._app.finished(call, reply.status, self._sent, 0, time.monotonic() - started)

    def _keep_or_close(self, request: Request, body: Body) -> bytes:
        """Settle whether another request may follow a reply with `body`, and what becomes of the request's."""
        stream = request.body
        keep = request.fields.keep_alive and not self._closing and not self._server.draining
        if not isinstance(stream, bytes) and self._reader.request is request:  # more of it is to come
            rest = None if stream.length is None else stream.length - stream.received
            if rest is None or rest > DRAINABLE or not stream.started:
                keep = False  # a client that waits for `100 Continue` may or may not send the body
            elif not isinstance(body, bytes):
                keep = False  # the upstream answers while it still reads: both bodies go on
            else:
                stream.close()
        if not keep or (self._reader.ended and not self._waiting):
            self._closing = True
            return b"connection: close\r\n"
        return b"connection: keep-alive\r\n" if request.fields.version == "1.0" else b""

    def _write_whole(self, method: str, reply: Reply, body: bytes, connection: bytes) -> None:
        if bodiless(method, reply.status):
            self._sent = 0
            if body and reply.status != 204:
                connection += b"content-length: %d\r\n" % len(body)
            self._transport.write(reply_head(reply, connection))
            return
        self._sent = len(body)
        self._transport.write(reply_head(reply, b"content-length: %d\r\n%b" % (len(body), connection)) + body)

    async def _write_stream(self, call: Call, reply: Reply, body: Stream, connection: bytes) -> None:
        """Write a body as it comes. When it breaks off, part of the reply is out: so does the connection."""
        started = time.monotonic()
        chunked = False
        if body.length is not None:
            framing = b"content-length: %d\r\n%b" % (body.length, connection)
        elif call.request.fields.version == "1.0":
            self._closing = True
            framing = b"connection: close\r\n"
        else:
            chunked = True
            framing = b"transfer-encoding: chunked\r\n" + connection
        try:
            self._transport.write(reply_head(reply, framing))
            await self._pass_on(body, chunked)
        except GatewayError as error:
            call.error = error
            self._closing = True  # what waits behind it would be done for nobody
            reset(self._transport)  # no clean end: RFC 9112 section 8
        finally:
            body.close()
            call.hops.append(Hop("stream", "", "", started, time.monotonic() - started))

    async def _pass_on(self, body: Stream, chunked: bool) -> None:
        transport = self._transport
        while data := await body.read():
            if transport.is_closing():
                raise ClientGone
            transport.write(chunk(data) if chunked else data)
            self._sent += len(data)
            self._written = time.monotonic()
            if self._writable is not None:
                await self._writable
        if chunked:
            transport.write(LAST_CHUNK)

    async def _tunnel(self, call: Call, reply: Reply, tunnel: Tunnel, held: bytes) -> None:
        """Hand the socket over until both ends are closed."""
        started = time.monotonic()
        self._transport.write(reply_head(reply, b"connection: upgrade\r\n"))
        self._timer.cancel()
        self._tunnelled = True
        self._closing = True
        try:
            _, self._sent = await tunnel.run(self._transport, held)
        finally:
            self._server.left(self)
            call.hops.append(Hop("stream", "", "", started, time.monotonic() - started))

    def _close(self) -> None:
        """Close; a client that may still be sending gets a moment to read its reply first."""
        transport = self._transport
        if transport.is_closing():
            return
        if self._eof or (self._reader.clean and self._reader.request is None):
            transport.close()
            return
        self._reader.gone()
        if self._paused:
            self._paused = False
            transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        self._timer.cancel()
        self._timer = self._loop.call_later(LINGER, transport.abort)

    # -- time ----------------------------------------------------------------------------------------

    def _due(self) -> float:
        """The moment at which what we wait for is late; NEVER while the next move is ours."""
        if self._blocked_since:
            return self._blocked_since + self._limits.body_timeout
        if self._reader.since:
            if self._paused:
                return NEVER
            body = self._reader.request is not None
            return self._reader.since + (self._limits.body_timeout if body else self._limits.header_timeout)
        if self._task is None:
            return self._idle_since + self._limits.idle_timeout
        return NEVER

    def _watch(self, due: float) -> None:
        """Make sure that the timer looks no later than at `due`."""
        if due < self._timer_at:
            self._timer.cancel()
            self._timer_at = due
            self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        due = self._due()
        if due - now > 0.001:
            self._timer_at = min(due, now + self._limits.idle_timeout)
            self._timer = self._loop.call_later(self._timer_at - now, self._tick)
        elif self._blocked_since:
            self.abort()  # the client does not read its reply
        elif self._reader.since:
            self._timer_at = NEVER
            part = "head" if self._reader.request is None else "body"
            self._reader.fail(Refused("request_timeout", 408, f"the {part} came too slowly"))
        else:
            self._transport.close()

    def _half_closed(self) -> None:
        """The client has ended its side: it gets its answer as long as bytes move."""
        if self._task is None or self._tunnelled:
            return
        left = self._written + HALF_CLOSED - time.monotonic()
        if left > 0.001 or self._blocked_since:
            self._loop.call_later(max(left, 0.1), self._half_closed)
        else:
            self.abort()
