"""One connection to an upstream: a request out, a reply back, one at a time.

`send` returns at the head of the reply, or with the whole of it when it came in one piece. A request body
that is still on its way is written by a task beside it, so an upstream may answer early, or talk both ways.
One lazily re-armed timer watches the wait for the head and the silences of the body.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

from gateway.errors import DeadlinePassed, GatewayError, UpstreamFailed
from gateway.exchange import NEVER, Body, Reply, Stream
from gateway.http.reply import LAST_CHUNK, chunk
from gateway.http.reply_reader import ReplyReader
from gateway.http.stream import BodyStream
from gateway.http.tunnel import Splice

if TYPE_CHECKING:
    from gateway.http.pool import Pool


class UpstreamConnection(asyncio.Protocol):
    """The protocol of one socket to an upstream."""

    transport: asyncio.Transport

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._reader = ReplyReader()
        self._waiter: asyncio.Future[Reply] | None = None  # somebody waits for a head
        self._pump: asyncio.Task[None] | None = None  # writes a body that is still on its way
        self._writable: asyncio.Future[None] | None = None  # there while the upstream reads too slowly
        self._expires = NEVER  # when what we wait for is late
        self._deadline = NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.used = 0  # requests sent
        self.idle_since = 0.0

    def send(
        self, method: str, head: bytes, body: Body, *, patience: float, deadline: float, upgrade: bool = False
    ) -> asyncio.Future[Reply]:
        """Write the request; the future is the reply, as soon as its head is there.

        `patience` is the longest wait in seconds once the request is out; at `deadline` (monotonic) no
        answer counts any more. With `upgrade` the reply may be a 101 with a tunnel. It fails with UpstreamFailed,
        DeadlinePassed, and what reading the body raises. Whoever does not take it must `abandon` it.
        """
        self._reader.begin(method, upgrade)
        waiter: asyncio.Future[Reply] = self._loop.create_future()
        self._waiter = waiter
        self.used += 1
        if isinstance(body, bytes):
            self.transport.write(head + body if body else head)
            self._expect(time.monotonic() + patience, deadline)
        else:
            self.transport.write(head)
            self._pump = self._loop.create_task(self._write_body(body, patience, deadline))
        return waiter

    def abandon(self, waiter: asyncio.Future[Reply]) -> None:
        """The wait for the head has ended without one, or whoever waited was cancelled as it came."""
        if not waiter.done() or waiter.cancelled() or waiter.exception() is not None:
            self._waiter = None
            self.abort()
            return
        reply = waiter.result()
        if reply.tunnel is not None:
            reply.tunnel.close()
        elif not isinstance(reply.body, bytes):
            reply.body.close()
        # Else the reply was complete: the connection may already serve the next request.

    def abort(self) -> None:
        """Cut the connection; nothing on it counts any more."""
        self._stop_pump()
        self.transport.abort()

    async def _write_body(self, body: Stream, patience: float, deadline: float) -> None:
        """Write a body at its source's and the upstream's pace; the wait for the reply counts from its end."""
        started = time.monotonic()
        chunked = body.length is None
        missing = body.length or 0
        try:
            while data := await body.read():
                if self.transport.is_closing():
                    return
                missing -= len(data)
                self.transport.write(chunk(data) if chunked else data)
                if self._writable is not None:
                    self._expect(time.monotonic() + self._pool.idle_timeout, NEVER)
                    await self._writable
                    if self._waiter is not None:  # else the reply is on its way, and what is awaited is its next byte
                        self._expires = NEVER
        except GatewayError as error:
            self._pump = None
            self._fail(error)
            self.transport.abort()
            return
        self._pump = None
        if chunked:
            self.transport.write(LAST_CHUNK)
        elif missing:  # its reader was closed: what was announced will not come, so this is no request
            self.abort()
            return
        now = time.monotonic()
        if self._waiter is not None:
            self._expect(now + patience, deadline + now - started)

    # -- what the transport calls --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not of asyncio's class

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        if reader.bad:
            self._fail(UpstreamFailed("bad_upstream_reply", sent=True))
            self.abort()
        elif reader.switched is not None:
            self._switch(reader.switched)
        elif reader.reply is not None:
            self._deliver(reader.reply)

    def eof_received(self) -> bool:
        reader = self._reader
        if not reader.complete and reader.eof() and reader.reply is not None:
            self._deliver(reader.reply)
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        reader = self._reader
        if exc is None:
            self.eof_received()
        if not reader.complete:
            stale = reader.untouched and self.used > 1 and self._pump is None
            self._fail(UpstreamFailed("upstream_failed", sent=True, stale=stale))
        if self._timer is not None:
            self._timer.cancel()
        self._stop_pump()
        self._pool.lost(self)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # -- the reply -----------------------------------------------------------------------------------

    def _deliver(self, reply: Reply) -> None:
        """The head is there, and perhaps all of it."""
        reader, waiter = self._reader, self._waiter
        if waiter is not None:
            if waiter.done():  # cancelled in this very moment: it is about to abandon us
                return
            if reader.complete:
                reply.body = reply.body or reader.body()
            else:
                reply.body = reader.stream = stream = BodyStream(
                    reader.length, pause=self._pause, resume=self._resume, on_close=self.abort
                )
                so_far = reader.body()
                if so_far:
                    stream.feed(so_far)
            self._waiter = None
            waiter.set_result(reply)
        if not reader.complete:
            self._expect(time.monotonic() + self._pool.idle_timeout, NEVER)
            return
        self._expires = NEVER
        if reader.keep and self._pump is None and not self.transport.is_closing():
            self._pool.release(self)
        else:  # also when the upstream answered before it had the whole request, of which it may read no more
            self.abort()

    def _switch(self, early: bytes) -> None:
        """From here on only bytes flow; nothing is read until the other end is joined."""
        reply, waiter = self._reader.reply, self._waiter
        if waiter is None or waiter.done() or reply is None:
            self.abort()
            return
        self.transport.pause_reading()
        self._expires = NEVER
        reply.tunnel = Splice(self.transport, early, self._pool.idle_timeout, lambda: self._pool.lost(self))
        waiter.set_result(reply)

    def _fail(self, error: GatewayError) -> None:
        """Whoever waits gets the error: for the head, or in the middle of the body."""
        reader = self._reader
        reader.complete = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        elif reader.stream is not None:
            reader.stream.fail(error)
            reader.stream = None

    def _pause(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def _resume(self) -> None:
        if not self.transport.is_closing():
            self._expect(time.monotonic() + self._pool.idle_timeout, NEVER)
            self.transport.resume_reading()

    def _stop_pump(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None

    # -- time ----------------------------------------------------------------------------------------

    def _expect(self, expires: float, deadline: float) -> None:
        """What we wait for is late at `expires`; and at `deadline` all that is left is to say so."""
        self._deadline = deadline
        self._expires = due = min(expires, deadline)
        if self._timer is None or due < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._arm(due)

    def _arm(self, due: float) -> None:
        self._timer_at = due
        self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._expires == NEVER or self.transport.is_closing():
            return
        stream = self._reader.stream
        if stream is not None and stream.paused:
            return  # it is our client who is slow; reading on sets the next limit
        if time.monotonic() < self._expires - 0.001:
            self._arm(self._expires)
            return
        if self._deadline <= self._expires:
            self._fail(DeadlinePassed())
        else:
            self._fail(UpstreamFailed("upstream_timeout", 504, sent=True))
        self.abort()
