"""One client connection: requests are answered in the order they came, one at a time.

The reader runs ahead of the replies only as far as one read of the socket: while a request waits behind
another (pipelining), the socket is not read. One lazily re-armed timer watches every time limit (`_due`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, cast

from gateway.errors import ClientGone, GatewayError, Refused, Shed
from gateway.exchange import NEVER, Body, Call, Fields, Hop, Peer, Reply, Request, Stream, Tunnel
from gateway.http.reader import RequestReader
from gateway.http.reply import CONTINUE, LAST_CHUNK, bodiless, chunk, reply_head
from gateway.http.reset import reset
from gateway.http.stream import HIGH_WATER
from gateway.http.tls import shown_certificate

if TYPE_CHECKING:
    from gateway.http.server import Server

DRAINABLE = 64 * 1024
"""An unread body of at most this many announced bytes is read past, so that the connection can be kept."""

LINGER = 1.0
"""Seconds in which a client that is still sending may read its reply, before the connection is reset."""

HALF_CLOSED = 0.75
"""Seconds without a byte written after which a client that has ended its sending side counts as gone: until
something is written it looks the same as one that has left (docs/decisions/0004)."""

IDLE_GRACE = 1.0
"""Seconds a connection that is to end waits for a next request before it is closed. A client with a pool sends one
within that or not soon, so it reads `Connection: close` in a reply and does not meet a closed socket."""

GOODBYE = 3.0  # seconds in which an idle client may answer the goodbye of TLS; many never do


class ServerConnection(asyncio.Protocol):
    """The protocol of one accepted socket. Its listener sets `peer` before it connects it."""

    peer: Peer
    _transport: asyncio.Transport
    _reader: RequestReader
    _timer: asyncio.TimerHandle
    _sent: int  # bytes of the current reply's body

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop, scheme: str, refused: bool) -> None:
        """`refused`: there are too many already, and this one is told so."""
        self.scheme = scheme
        self.refused = refused
        self._server = server
        self._limits = server.limits
        self._loop = loop
        self._waiting: deque[Request | GatewayError] | None = None  # behind the one being answered
        self._task: asyncio.Task[None] | None = None  # answers
        self._closing = False  # close after the current reply
        self._leaving = False  # close as soon as the client has been told in a reply, or asks for nothing
        self._paused = False  # the socket is not read
        self._paused_at = 0.0
        self._excused = 0.0  # seconds of the current body in which the client could not send
        self._eof = False  # the client has ended its sending side
        self._writable: asyncio.Future[None] | None = None  # there while the client reads too slowly
        self._blocked_since = 0.0
        self._written = 0.0  # last time something was written, once the client has ended its side
        self._timer_at = 0.0
        self._tunnel: Tunnel | None = None
        self._given_up = False

    # -- what the transport calls --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of asyncio's class
        if self.scheme == "https":
            self.peer.certificate = shown_certificate(transport.get_extra_info("ssl_object"))
            self._transport.set_write_buffer_limits(HIGH_WATER)  # as without TLS; else it is 512 KiB
        self._reader = RequestReader(self, self.peer, self._limits)
        self._idle_since = time.monotonic()
        self._timer_at = self._due()
        self._timer = self._loop.call_later(self._timer_at - self._idle_since, self._tick)
        if self.refused:
            self._reader.fail(GatewayError("overloaded", 503, "too many connections", retry_after=1.0))
        else:
            self._server.joined(self)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._reader.since and self._reader.request is None:  # a body is watched as it begins, and gains time
            self._watch(self._due())

    def eof_received(self) -> bool:
        self._eof = True
        self._reader.eof()
        if self.scheme == "https":
            return False  # TLS has no half-close: the transport closes itself
        if self._task is None:
            self._transport.close()
        else:
            self._written = time.monotonic()
            self._loop.call_later(HALF_CLOSED, self._half_closed)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._reader.lost()
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

    def leave(self) -> None:
        """Close as soon as that takes no client by surprise: with a reply that says so, or when it is idle."""
        self._leaving = True
        if self._timer_at and self._task is None:  # else it has not begun, or `_serve` will see to it
            self._watch(self._due())

    def drain(self) -> None:
        """Leave, from a tunnel too."""
        self.leave()
        if self._tunnel is not None:
            self._tunnel.drain()

    def give_up(self) -> None:
        """The time for it is over: whoever has had nothing of a reply yet is told so, the others are cut."""
        self._given_up = True
        if self._task is None or self._tunnel is not None:
            self.abort()
        else:
            self._task.cancel()

    def abort(self) -> None:
        """Cut the connection now, and stop what is done for it."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()

    # -- what the reader calls -----------------------------------------------------------------------

    def arrived(self, item: Request | GatewayError) -> None:
        self._excused = 0.0
        if self._reader.since:
            self._watch(self._due())
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
        pause = bool(self._waiting) or bool(stream and stream.paused) or bool(held and len(held) > HIGH_WATER)
        if pause == self._paused or self._transport.is_closing():
            return
        self._paused = pause
        now = time.monotonic()
        if pause:
            self._paused_at = now
            self._transport.pause_reading()
            return
        self._excused += now - self._paused_at
        if self._reader.since:
            self._reader.since = now
            self._watch(self._due())
        self._transport.resume_reading()

    def body_wanted(self) -> None:
        reader, request, stream = self._reader, self._reader.request, self._reader.stream
        if request is None or stream is None or stream.received or self._transport.is_closing():
            return
        reader.since = now = time.monotonic()  # its time begins when it is told to send
        self._excused = now - request.received
        self._watch(self._due())
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
        elif self._leaving:
            self._watch(self._due())

    async def _answer(self, request: Request) -> None:
        app = self._server.app
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
                    await self._run_tunnel(call, reply, reply.tunnel, bytes(self._reader.held))
                return
            if self._reader.held is not None:
                self._reader.resume()
            body = reply.body
            connection = self._keep_or_close(request, body)
            if isinstance(body, bytes):
                self._write_whole(request.method, reply, body, connection)
            else:
                await self._write_stream(call, reply, body, connection)
            if not isinstance(request.body, bytes) and self._reader.request is not request:
                request.body.close()  # all of it has come, and perhaps nobody has read it: what follows must be read
        except asyncio.CancelledError:
            if self._given_up:
                status = self._break_off(call, status)
            else:
                status = 499
                call.error = ClientGone()
            raise
        finally:
            came = request.body
            received = len(came) if isinstance(came, bytes) else came.received
            app.finished(call, status, self._sent, received, time.monotonic() - request.received)

    def _break_off(self, call: Call, status: int) -> int:
        """End a call whose time is over, by a reply if none has begun; returns the status that the client has got."""
        call.error = error = Shed("shutting_down", 503, retry_after=1.0)
        if status != 499:
            reset(self._transport)  # no clean end of what it has got half of: RFC 9112 section 8
            return status
        status = self._write_refusal(call, error)
        self._close()
        return status

    def _refuse(self, error: GatewayError) -> None:
        """Answer what was no request, and close."""
        started = time.monotonic()
        app = self._server.app
        call = app.open(Request("", b"", Fields([]), self.peer))
        self._closing = True
        status = self._write_refusal(call, error)
        app.finished(call, status, self._sent, 0, time.monotonic() - started)

    def _write_refusal(self, call: Call, error: GatewayError) -> int:
        """The last reply on this connection; returns its status."""
        reply = self._server.app.refuse(call, error)
        assert isinstance(reply.body, bytes)
        self._write_whole(call.request.method, reply, reply.body, b"connection: close\r\n")
        return reply.status

    def _keep_or_close(self, request: Request, body: Body) -> bytes:
        """Settle whether another request may follow a reply with `body`, and what becomes of the request's."""
        stream = request.body
        leaving = self._leaving and not self._waiting  # what has been read already is answered first
        keep = request.fields.keep_alive and not self._closing and not leaving
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
            if body and reply.status != 204:
                connection += b"content-length: %d\r\n" % len(body)
            self._transport.write(reply_head(reply, connection))
            return
        self._sent = len(body)
        self._transport.write(reply_head(reply, b"content-length: %d\r\n%b" % (len(body), connection)) + body)

    async def _write_stream(self, call: Call, reply: Reply, body: Stream, connection: bytes) -> None:
        """Write a body as it comes. When it breaks off, part of the reply is out: so does the connection."""
        started = time.monotonic()
        chunked = body.length is None and call.request.fields.version != "1.0"
        if chunked:
            framing = b"transfer-encoding: chunked\r\n" + connection
        elif body.length is not None:
            framing = b"content-length: %d\r\n%b" % (body.length, connection)
        else:
            self._closing = True
            framing = b"connection: close\r\n"
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

    async def _run_tunnel(self, call: Call, reply: Reply, tunnel: Tunnel, held: bytes) -> None:
        """Hand the socket over until both ends are closed."""
        started = time.monotonic()
        self._transport.write(reply_head(reply, b"connection: upgrade\r\n"))
        self._timer.cancel()
        self._tunnel = tunnel
        self._closing = True
        if self._server.draining:
            tunnel.drain()
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
            request, stream = self._reader.request, self._reader.stream
            if request is None or stream is None:
                return self._reader.since + self._limits.header_timeout
            begun = request.received + self._excused if stream.started else NEVER
            return self._limits.body_late(self._reader.since, begun, stream.received)
        if self._task is not None:
            return NEVER
        soon = self._leaving and not self._transport.is_closing()
        return self._idle_since + (IDLE_GRACE if soon else self._limits.idle_timeout)

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
        elif self._transport.is_closing():
            self._transport.abort()  # nobody reads the end of the last reply
        else:
            patience = self._limits.body_timeout if self._transport.get_write_buffer_size() else GOODBYE
            self._transport.close()
            self._timer = self._loop.call_later(patience, self._transport.abort)

    def _half_closed(self) -> None:
        """The client has ended its side: it gets its answer as long as bytes move."""
        if self._task is None or self._tunnel is not None:
            return
        left = self._written + HALF_CLOSED - time.monotonic()
        if left > 0.001 or self._blocked_since:
            self._loop.call_later(max(left, 0.1), self._half_closed)
        else:
            self.abort()
