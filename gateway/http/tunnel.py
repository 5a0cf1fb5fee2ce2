"""After an accepted Upgrade only bytes flow: both ends joined, each direction at its reader's pace.

What one side does is done to the other at once: an end of sending (FIN) is passed on as such, a reset as a
reset, so that a WebSocket's closing looks as it would without a gateway in between. Only when the gateway
itself goes does it say something of its own: a Close frame to each side, between two frames of the other's.
"""

import asyncio
import os
import time
from collections.abc import Callable
from typing import cast

from gateway.exchange import NEVER
from gateway.http.reset import reset
from gateway.http.websocket import GOING_AWAY, MASK, Frames, close_frame

HALF_CLOSED = 10.0
"""Seconds of silence allowed once one side has ended: enough for a closing handshake, not for a leak."""

CLOSING = 5.0
"""Seconds a side has to answer a Close frame: many round trips anywhere, and well inside a usual drain."""

REASON = "the gateway is going away"


class TunnelEnd(asyncio.Protocol):
    """One socket of the two; hands all it reads to the other."""

    def __init__(self, tunnel: "Splice", transport: asyncio.Transport, masked: bool) -> None:
        self.transport = transport
        self.ended = False
        self._tunnel = tunnel
        self._masked = masked  # what this end sends is, and so is what is put in its place: it is the client
        self.other: TunnelEnd = self
        self.received = 0
        self.frames = Frames()
        self._draining = False  # nothing goes on behind the frame that is on its way
        self.silenced = False  # nothing goes on at all: the other side has a Close frame, or the end

    def data_received(self, data: bytes) -> None:
        self._tunnel.active = time.monotonic()
        self.received += len(data)
        if self._draining:
            self._last(data)
        else:
            self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        self.frames.feed(data)
        if not self.other.transport.is_closing():
            self.other.transport.write(data)

    def drain(self) -> None:
        """Pass on no more than the frame that is on its way, and say goodbye to the other side behind it."""
        self._draining = True
        if self.ended or self.frames.between:
            self._silence()

    def _last(self, data: bytes) -> None:
        """Something came while draining."""
        if not self.silenced:
            end = self.frames.boundary(data)
            if not 0 <= end <= len(data):
                end = len(data)
            self._pass_on(data[:end])
            data = data[end:]
            if self.frames.between:
                self._silence()
        self.frames.feed(data)  # it goes nowhere, but the answer to a Close frame is in it
        self._tunnel.settle()

    def _silence(self) -> None:
        if self.silenced:
            return
        self.silenced = True
        if not (self.ended or self.frames.closed or self.other.transport.is_closing()):
            mask = os.urandom(MASK) if self._masked else b""
            self.other.transport.write(close_frame(GOING_AWAY, REASON, mask))

    def eof_received(self) -> bool:
        self.ended = True
        other = self.other.transport
        if self.other.ended or not other.can_write_eof():  # both have ended, or TLS, which has no half-close
            self.transport.close()
            other.close()
        elif not other.is_closing():
            other.write_eof()
            self._tunnel.half_closed()
        if self._draining:
            self._silence()
            self._tunnel.settle()
        return self.transport.can_write_eof()  # True leaves our direction open, which TLS cannot

    @property
    def answered(self) -> bool:
        """This end has said goodbye itself, or says nothing any more."""
        return self.frames.closed or self.ended

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self.silenced:
            reset(self.other.transport)
        else:
            self.other.transport.close()  # a reset could take back the Close frame that the other side is to read
        self._tunnel.lost()

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class Splice:
    """The far side of a tunnel, waiting to be joined to the near one. Implements exchange.Tunnel."""

    def __init__(self, far: asyncio.Transport, early: bytes, idle: float, on_done: Callable[[], None]) -> None:
        self._far = far
        self._early = early  # what the upstream sent right behind its 101
        self._idle = idle
        self._on_done = on_done
        self.active = time.monotonic()
        self._ends_at = NEVER  # monotonic; whatever happens until then
        self._draining = False
        self._open = 2
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._ends: tuple[TunnelEnd, TunnelEnd] | None = None

    async def run(self, near: asyncio.Transport, held: bytes) -> tuple[int, int]:
        """Join both ends until both are closed; `held` came from the client before the 101.

        Returns the bytes received from the client and from the upstream.
        """
        client, upstream = TunnelEnd(self, near, masked=True), TunnelEnd(self, self._far, masked=False)
        client.other, upstream.other = upstream, client
        near.set_protocol(client)
        self._far.set_protocol(upstream)
        if self._far.is_closing() or near.is_closing():
            near.close()
            self._far.close()
            self._on_done()
            return 0, 0
        self._ends = client, upstream
        client.data_received(held)
        upstream.data_received(self._early)
        near.resume_reading()
        self._far.resume_reading()
        self._arm()
        if self._draining:
            self._say_goodbye(client, upstream)
        try:
            await self._done
        finally:
            cast("asyncio.TimerHandle", self._timer).cancel()
            near.abort()
            self._far.abort()
            self._on_done()
        return client.received, upstream.received

    def close(self) -> None:
        """The client went away before the tunnel was joined."""
        self._far.abort()

    def drain(self) -> None:
        """End soon, and politely: with a Close frame 1001 to each side, as soon as one can be put between two frames.

        May be called before `run`. A side that is in the middle of a frame is waited for: how long is up to
        whoever called.
        """
        if self._draining or self._done.done():
            return
        self._draining = True
        if self._ends is not None:
            self._say_goodbye(*self._ends)

    def _say_goodbye(self, client: TunnelEnd, upstream: TunnelEnd) -> None:
        if client.frames.closed or upstream.frames.closed:  # they part on their own
            self._end_in(CLOSING)
            return
        client.drain()
        upstream.drain()
        self.settle()

    def settle(self) -> None:
        """Once both sides have their Close frame, close as soon as both have sent one; and soon in any case."""
        assert self._ends is not None
        client, upstream = self._ends
        if not (client.silenced and upstream.silenced):
            return
        if self._ends_at == NEVER:
            self._end_in(CLOSING)
        if client.answered and upstream.answered:
            client.transport.close()
            upstream.transport.close()

    def lost(self) -> None:
        """One of the ends is gone."""
        self._open -= 1
        if self._open == 0 and not self._done.done():
            self._done.set_result(None)

    def half_closed(self) -> None:
        """One side has ended; the other gets a bounded time to finish."""
        self.active = time.monotonic()
        self._idle = min(self._idle, HALF_CLOSED)
        self._arm()

    def _end_in(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds
        self._arm()

    def _arm(self) -> None:
        """Look at the clock when the tunnel will have been silent for too long, or must end."""
        if self._timer is not None:
            self._timer.cancel()
        due = min(self.active + self._idle, self._ends_at)
        self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._tick)

    def _tick(self) -> None:
        if min(self.active + self._idle, self._ends_at) > time.monotonic():
            self._arm()
            return
        assert self._ends is not None
        for end in self._ends:
            end.transport.abort()
