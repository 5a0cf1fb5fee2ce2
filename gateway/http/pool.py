"""The connections to one target: bounded, reused most recent first, retired when idle for too long.

Most recent first lets the surplus of a burst go idle and be closed. A connection that the upstream has
closed leaves the pool at once, as its socket is always being read; what slips through that race fails as
`stale`, which is retried and held against nobody.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque

from gateway.errors import DeadlinePassed, Shed, UpstreamFailed
from gateway.http.client import UpstreamConnection
from gateway.http.resolving import Addresses


class Pool:
    """Connections to one host and port. Times in seconds."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        limit: int = 1024,
        connect_timeout: float = 1.0,
        idle_timeout: float = 60.0,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        self._addresses = Addresses(host, port)
        self._limit = limit
        self._connect_timeout = connect_timeout
        self.idle_timeout = idle_timeout
        self._tls = tls
        self._server_name = (server_name or host) if tls is not None else None
        self._idle: list[UpstreamConnection] = []  # the most recently used last
        self._open: set[UpstreamConnection] = set()
        self._taken = 0  # places: one for each open connection, and for each that is being made
        self._waiting: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def idle(self) -> int:
        """Connections at rest."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Connections in use or being made."""
        return self._taken - len(self._idle)

    def take(self) -> UpstreamConnection | None:
        """A connection at rest, or None."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    async def connect(self, deadline: float) -> UpstreamConnection:
        """A new connection, or the next that comes free when there may be no more.

        Raises UpstreamFailed (nothing sent), Shed, DeadlinePassed.
        """
        patience = min(self._connect_timeout, deadline - time.monotonic())
        if patience <= 0:
            raise DeadlinePassed
        until = time.monotonic() + patience
        while self._taken >= self._limit:
            connection = await self._wait(until - time.monotonic())
            if connection is None:
                break  # the place of one that is gone: it is ours now
            if not connection.transport.is_closing():
                return connection
        else:
            self._taken += 1
        loop = asyncio.get_running_loop()
        made = None
        try:
            async with asyncio.timeout(until - time.monotonic()):
                made = await self._addresses.connect(
                    lambda: UpstreamConnection(self, loop), self._tls, self._server_name
                )
            if made.transport.is_closing():  # it spoke before it was asked
                made = None
                raise UpstreamFailed("bad_upstream_reply", sent=False)
            self._open.add(made)
        except TimeoutError:
            if deadline <= until:
                raise DeadlinePassed from None
            raise UpstreamFailed("upstream_unreachable", sent=False) from None
        except OSError:  # refused, no route, unknown name, certificate not trusted (SSLError is an OSError)
            raise UpstreamFailed("upstream_unreachable", sent=False) from None
        finally:
            if made is None:
                self._vacate()
        return made

    def release(self, connection: UpstreamConnection) -> None:
        """The connection's reply is complete and it may serve another request."""
        if self._hand(connection):
            return
        if self._closed:
            connection.transport.close()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self.idle_timeout, self._sweep)

    def lost(self, connection: UpstreamConnection) -> None:
        """The connection is closed."""
        if connection not in self._open:  # closed again, or while it was being made
            return
        self._open.remove(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._vacate()

    def close(self) -> None:
        """Close what rests; what is in use closes when it is done."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in self._idle:
            connection.transport.close()
        self._idle.clear()

    async def _wait(self, patience: float) -> UpstreamConnection | None:
        """The next connection to come free, or None for the place of one that is gone. Raises Shed."""
        waiter: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(max(0.0, patience)):
                return await waiter
        except BaseException as error:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not waiter.cancelled():  # it came in the moment we left: the next in line gets it
                self._return(waiter.result())
            if isinstance(error, TimeoutError):
                detail = "all connections to the service are busy"
                raise Shed("overloaded", detail=detail, retry_after=1.0) from None
            raise

    def _return(self, given: UpstreamConnection | None) -> None:
        if given is None:
            self._vacate()
        elif not given.transport.is_closing():  # else `lost` sees to its place
            self.release(given)

    def _vacate(self) -> None:
        """A place is free: it goes to whoever has waited longest, so that no newcomer comes before them."""
        if not self._hand(None):
            self._taken -= 1

    def _hand(self, given: UpstreamConnection | None) -> bool:
        """Hand a connection, or the place for a new one, to whoever has waited longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(given)
                return True
        return False

    def _sweep(self) -> None:
        """Retire what has been idle for too long; the list is ordered, the oldest first."""
        self._sweeper = None
        now = time.monotonic()
        while self._idle and now - self._idle[0].idle_since >= self.idle_timeout - 0.001:
            self._idle.pop(0).transport.close()
        if self._idle and not self._closed:
            wait = self._idle[0].idle_since + self.idle_timeout - now
            self._sweeper = asyncio.get_running_loop().call_later(wait, self._sweep)
