"""The listening side: what all client connections share, and how they end together."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.errors import GatewayError
from gateway.exchange import Call, Reply, Request
from gateway.http.connection import ServerConnection
from gateway.http.listener import Listener
from gateway.http.sockets import Group, bind, close
from gateway.http.trust import Network, address_in


class App(Protocol):
    """What the wire serves: gateway.handler.Handler."""

    def open(self, request: Request) -> Call:
        """Begin the call of a well-framed request."""

    async def handle(self, call: Call) -> Reply:
        """The life of one request; errors have become replies already."""

    def refuse(self, call: Call, error: GatewayError) -> Reply:
        """A reply to what was no request."""

    def finished(self, call: Call, status: int, sent: int, received: int, took: float) -> None:
        """The reply is out (or the client is gone: 499); bytes of body, seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The contract's `wire:` section; bytes and seconds."""

    header_limit: int = 32 * 1024
    target_limit: int = 8 * 1024
    header_count: int = 100
    connections: int = 10_000
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    body_rate: int = 240
    """Bytes of a request body that must come per second, on the average since its start; 0 for none."""
    body_start: float = 5.0
    """Seconds before the rate of a body is looked at."""
    idle_timeout: float = 75.0
    drain_timeout: float = 30.0

    @property
    def of_a_connection(self) -> "Limits":
        """What a connection lives by from its beginning, without what concerns all of them."""
        return replace(self, connections=0, drain_timeout=0.0)

    def body_late(self, last: float, begun: float, received: int) -> float:
        """When a body is late unless more of it comes: `received` bytes since `begun`, the latest of them at `last`."""
        late = last + self.body_timeout
        if self.body_rate:
            late = min(late, begun + max(self.body_start, received / self.body_rate))
        return late


class Server:
    """Accepts connections on any number of sockets and serves them all with one App."""

    def __init__(
        self,
        app: App,
        limits: Limits,
        trusted: Sequence[Network] = (),
        *,
        tls: ssl.SSLContext | None = None,
        proxy_protocol: bool = False,
    ) -> None:
        """`tls` is what secure sockets need; with `proxy_protocol` trusted proxies announce their clients."""
        self.app = app
        self.limits = limits
        self.tls = tls
        self.proxy_protocol = proxy_protocol
        self.connections: set[ServerConnection] = set()
        self.open = {"http": 0, "https": 0}  # how many of them, by scheme
        self.handshake_failures = 0
        self.draining = False
        self._trusted = tuple(trusted)
        self._listeners: dict[socket.socket, Listener] = {}
        self._groups: list[Group] = []  # those whose sockets are ours to close
        self._arriving: set[ServerConnection] = set()
        self._arrivals: set[asyncio.Task[None]] = set()
        self._empty: asyncio.Future[None] | None = None

    def configure(
        self,
        app: App,
        limits: Limits,
        trusted: Sequence[Network],
        *,
        tls: ssl.SSLContext | None = None,
        proxy_protocol: bool = False,
    ) -> None:
        """Serve with these from the next request on.

        Connections that began under other limits, trust or TLS are asked to leave: whoever comes back has the new
        ones. So pass the very same `tls` as long as nothing about it has changed.
        """
        before = (self.limits.of_a_connection, self._trusted, self.proxy_protocol)
        outdated = {"http": before != (limits.of_a_connection, tuple(trusted), proxy_protocol)}
        outdated["https"] = outdated["http"] or tls is not self.tls
        self.app = app
        self.limits, self._trusted, self.proxy_protocol = limits, tuple(trusted), proxy_protocol
        self.tls = tls
        for connection in (*self.connections, *self._arriving):
            if outdated[connection.scheme]:
                connection.leave()

    def trusts(self, address: str) -> bool:
        """Whether `address` is one of the trusted proxies."""
        if not self._trusted:
            return False
        return address_in(address, self._trusted)

    # -- where clients come in -----------------------------------------------------------------------

    def add(self, sock: socket.socket, *, secure: bool) -> None:
        """Accept on a listening socket, which stays its owner's."""
        listener = self._listeners[sock] = Listener(self, sock, secure)
        listener.start()

    def remove(self, sock: socket.socket) -> None:
        """Accept there what the kernel has queued already, and no more."""
        self._listeners.pop(sock).drain()

    def accept_on(self, sockets: Sequence[tuple[socket.socket, bool]]) -> None:
        """Accept on these (socket, secure) from now on, and on no others."""
        wanted = dict(sockets)
        for sock, listener in list(self._listeners.items()):
            if wanted.get(sock) is not listener.secure:
                self.remove(sock)
        for sock, secure in wanted.items():
            if sock not in self._listeners:
                self.add(sock, secure=secure)

    async def listen(self, address: str, secure: bool = False) -> str:
        """Accept on host:port, [v6]:port or unix:path, on sockets of our own; returns the real address.

        Raises ListenError.
        """
        groups = bind(address)
        self._groups += groups
        for group in groups:
            for sock in group.sockets:
                self.add(sock, secure=secure)
        return groups[0].address

    # -- what listeners and connections tell ----------------------------------------------------------

    @property
    def full(self) -> bool:
        """There are as many clients as there may be, counting those that are not quite connected."""
        return len(self.connections) + len(self._arriving) >= self.limits.connections

    def arrives(self, connection: ServerConnection, arrival: asyncio.Task[None]) -> None:
        """A client has been accepted, and is on its way to being connected."""
        if not connection.refused:
            self._arriving.add(connection)
        self._arrivals.add(arrival)
        arrival.add_done_callback(self._arrivals.discard)

    def joined(self, connection: ServerConnection) -> None:
        """A client has connected."""
        self._arriving.discard(connection)
        self.connections.add(connection)
        self.open[connection.scheme] += 1
        if self.draining:
            connection.leave()

    def arrived(self, connection: ServerConnection) -> None:
        """The arrival of a client has ended, well or not."""
        self._arriving.discard(connection)
        self._note_empty()

    def left(self, connection: ServerConnection) -> None:
        """A client connection has ended."""
        if connection in self.connections:
            self.connections.remove(connection)
            self.open[connection.scheme] -= 1
            self._note_empty()

    def _note_empty(self) -> None:
        if self._empty is not None and not self._empty.done() and not self.connections and not self._arriving:
            self._empty.set_result(None)

    # -- the end -------------------------------------------------------------------------------------

    async def close(self, grace: float | None = None) -> None:
        """Accept no more, let what is under way finish within `grace` seconds (drain_timeout), then cut."""
        self.draining = True
        self.accept_on([])
        for group in self._groups:
            close(group)
        self._groups.clear()
        for connection in list(self.connections):
            connection.drain()
        await self._emptied(self.limits.drain_timeout if grace is None else grace)
        for arrival in list(self._arrivals):
            arrival.cancel()
        for last in (ServerConnection.give_up, ServerConnection.abort):
            for connection in list(self.connections):
                last(connection)
            await self._emptied(1.0)

    async def _emptied(self, patience: float) -> None:
        if self.connections or self._arriving:
            if self._empty is None or self._empty.done():
                self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=patience)
