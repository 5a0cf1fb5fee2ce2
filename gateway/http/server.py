"""The listening side: what all client connections share, and the sockets they come from."""

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import GatewayError
from gateway.exchange import Call, Reply, Request
from gateway.http.address import join_address, split_address
from gateway.http.connection import ServerConnection
from gateway.http.trust import Network, address_in

UNSENT = 128 * 1024
"""Bytes the kernel takes ahead of what the client has been sent. Its own buffer grows to 4 MiB, of which a third
must be free before it takes more: to a steady reader of 40 KB/s that looks like half a minute of nothing."""

BACKLOG = 4096
"""Connections the kernel may hold before they are accepted; it caps this at net.core.somaxconn."""


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
    idle_timeout: float = 75.0
    drain_timeout: float = 30.0


class ListenError(Exception):
    """An address cannot be listened on; the message is one line for the operator."""


class Server:
    """Accepts connections on any number of addresses and serves them all with one App."""

    def __init__(self, app: App, limits: Limits, trusted: Sequence[Network] = ()) -> None:
        self.app = app
        self.limits = limits
        self.connections: set[ServerConnection] = set()
        self.draining = False
        self._trusted = tuple(trusted)
        self._listeners: list[asyncio.Server] = []
        self._paths: list[str] = []
        self._empty: asyncio.Future[None] | None = None

    def trusts(self, address: str) -> bool:
        """Whether `address` is one of the trusted proxies."""
        if not self._trusted:
            return False
        return address_in(address, self._trusted)

    async def listen(self, address: str) -> str:
        """Accept on host:port, [v6]:port or unix:path; returns the address with its real port."""
        loop = asyncio.get_running_loop()
        factory: Callable[[], ServerConnection] = lambda: ServerConnection(self, loop)  # noqa: E731 - typed factory
        try:
            if address.startswith("unix:"):
                path = address[len("unix:") :]
                _remove_stale(path)
                listener = await loop.create_unix_server(factory, path, backlog=BACKLOG)
                self._paths.append(path)
                self._listeners.append(listener)
                return address
            host, port = split_address(address)
            listener = await loop.create_server(factory, host, port, backlog=BACKLOG)
        except OSError as error:
            raise ListenError(f"cannot listen on {address}: {_reason(error)}") from error
        self._listeners.append(listener)
        for listening in listener.sockets:
            _bound_unsent(listening)
        return join_address(host, listener.sockets[0].getsockname()[1])

    def joined(self, connection: ServerConnection) -> bool:
        """A client has connected; False when there are too many already."""
        if len(self.connections) >= self.limits.connections:
            return False
        self.connections.add(connection)
        return True

    def left(self, connection: ServerConnection) -> None:
        """A client connection has ended."""
        self.connections.discard(connection)
        if self._empty is not None and not self.connections and not self._empty.done():
            self._empty.set_result(None)

    async def close(self) -> None:
        """Accept no more, let what is under way finish within drain_timeout, then cut."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for path in self._paths:
            if os.path.exists(path):  # noqa: ASYNC240 - a local socket file, once, at the end
                os.unlink(path)
        for connection in list(self.connections):
            connection.drain()
        if self.connections:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=self.limits.drain_timeout)
        cut = list(self.connections)
        for connection in cut:
            connection.abort()
        if cut and self._empty is not None:
            await asyncio.wait([self._empty], timeout=1.0)


def _bound_unsent(listening: socket.socket) -> None:
    """Set on the listener, it holds for every connection accepted there; where the system knows it."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        listening.setsockopt(socket.IPPROTO_TCP, option, UNSENT)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _remove_stale(path: str) -> None:
    """Unlink a socket file that nobody listens on any more; a live one is left, and bind will fail."""
    if not os.path.exists(path) or not stat.S_ISSOCK(os.stat(path).st_mode):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "address in use")
