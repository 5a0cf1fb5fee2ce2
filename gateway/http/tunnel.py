"""After an accepted Upgrade only bytes flow: both ends joined, each direction at its reader's pace.

What one side does is done to the other at once: an end of sending (FIN) is passed on as such, a reset as a
reset, so that a WebSocket's closing looks as it would without a gateway in between.
"""

import asyncio
import time
from collections.abc import Callable
from typing import cast

from gateway.http.reset import reset

HALF_CLOSED = 10.0
"""Seconds of silence allowed once one side has ended: enough for a closing handshake, not for a leak."""


class TunnelEnd(asyncio.Protocol):
    """One socket of the two; hands all it reads to the other."""

    def __init__(self, tunnel: "Splice", transport: asyncio.Transport) -> None:
        self.transport = transport
        self.ended = False
        self._tunnel = tunnel
        self.other: TunnelEnd = self
        self.received = 0

    def data_received(self, data: bytes) -> None:
        self._tunnel.active = time.monotonic()
        self.received += len(data)
        if not self.other.transport.is_closing():
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        other = self.other.transport
        if self.other.ended or not other.can_write_eof():  # both have ended, or TLS, which has no half-close
            self.transport.close()
            other.close()
        elif not other.is_closing():
            other.write_eof()
            self._tunnel.half_closed()
        return self.transport.can_write_eof()  # True leaves our direction open, which TLS cannot

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            reset(self.other.transport)
        else:
            self.other.transport.close()
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
        self._open = 2
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._ends: tuple[TunnelEnd, TunnelEnd] | None = None

    async def run(self, near: asyncio.Transport, held: bytes) -> tuple[int, int]:
        """Join both ends until both are closed; `held` came from the client before the 101.

        Returns the bytes received from the client and from the upstream.
        """
        client, upstream = TunnelEnd(self, near), TunnelEnd(self, self._far)
        client.other, upstream.other = upstream, client
        self._ends = client, upstream
        near.set_protocol(client)
        self._far.set_protocol(upstream)
        if self._far.is_closing() or near.is_closing():
            near.close()
            self._far.close()
            self._on_done()
            return 0, 0
        client.data_received(held)
        upstream.data_received(self._early)
        near.resume_reading()
        self._far.resume_reading()
        self._timer = self._loop.call_later(self._idle, self._tick)
        try:
            await self._done
        finally:
            self._timer.cancel()
            near.abort()
            self._far.abort()
            self._on_done()
        return client.received, upstream.received

    def close(self) -> None:
        """The client went away before the tunnel was joined."""
        self._far.abort()

    def lost(self) -> None:
        """One of the ends is gone."""
        self._open -= 1
        if self._open == 0 and not self._done.done():
            self._done.set_result(None)

    def half_closed(self) -> None:
        """One side has ended; the other gets a bounded time to finish."""
        self._idle = min(self._idle, HALF_CLOSED)
        timer = cast("asyncio.TimerHandle", self._timer)
        timer.cancel()
        self._timer = self._loop.call_later(self._idle, self._tick)

    def _tick(self) -> None:
        left = self.active + self._idle - time.monotonic()
        if left > 0:
            self._timer = self._loop.call_later(left, self._tick)
            return
        assert self._ends is not None
        for end in self._ends:
            end.transport.abort()
