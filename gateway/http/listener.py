"""Accepts connections on one listening socket, and brings each to the point where HTTP begins.

Before that come, where configured, the PROXY header of a load balancer and the handshake of TLS; a client has
`header_timeout` for both together, and counts towards the limit of connections all the while.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import socket
from typing import TYPE_CHECKING

from gateway.exchange import Peer
from gateway.http.connection import ServerConnection
from gateway.http.proxy_protocol import LONGEST, parse
from gateway.http.sockets import BACKLOG

if TYPE_CHECKING:
    from gateway.http.server import Server

log = logging.getLogger("gateway.http")

BATCH = 64
"""Connections accepted at a time, before those that are open get their turn again."""

REST = 0.5
"""Seconds without accepting when the system is short of something: time for connections to end and free it."""

SELDOM = 60.0
"""Seconds between two log lines about the same trouble: whoever causes it may do so a thousand times a second."""

Source = tuple[str, int]
"""Address and port of a client."""


class Listener:
    """One listening socket, which stays its owner's: it is never closed here."""

    def __init__(self, server: Server, sock: socket.socket, secure: bool) -> None:
        self.secure = secure
        self._scheme = "https" if secure else "http"
        self._server = server
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._rest: asyncio.TimerHandle | None = None
        self._said: dict[str, float] = {}  # when which trouble was logged

    def start(self) -> None:
        """Accept from now on."""
        self._rest = None
        self._loop.add_reader(self._sock, self._accept, BATCH)

    def stop(self) -> None:
        """Accept no more; what the kernel has queued stays there."""
        self._loop.remove_reader(self._sock)
        if self._rest is not None:
            self._rest.cancel()

    def drain(self) -> None:
        """Accept what the kernel has queued already, and no more."""
        self._accept(BACKLOG)
        self.stop()

    def _accept(self, most: int) -> None:
        for _ in range(most):
            try:
                sock, name = self._sock.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:  # it left while it was queued
                continue
            except OSError as error:  # no descriptors or memory are left, or it is the network's fault: nobody's here
                self._pause(error)
                return
            self._welcome(sock, (name[0].removeprefix("::ffff:"), name[1]) if isinstance(name, tuple) else None)

    def _pause(self, error: OSError) -> None:
        what = errno.errorcode.get(error.errno or 0, "")
        self._say(what, f"cannot accept connections: {os.strerror(error.errno or 0)}; trying again every {REST:g} s")
        self._loop.remove_reader(self._sock)
        self._rest = self._loop.call_later(REST, self.start)

    def _welcome(self, sock: socket.socket, source: Source | None) -> None:
        """Begin with a connection; `source` is None on a unix socket."""
        server = self._server
        refused = server.full
        if self.secure and (refused or server.tls is None):  # a handshake would cost more than it is worth
            sock.close()
            return
        sock.setblocking(False)
        connection = ServerConnection(server, self._loop, self._scheme, refused)
        server.arrives(connection, self._loop.create_task(self._arrive(sock, connection, source)))

    async def _arrive(self, sock: socket.socket, connection: ServerConnection, source: Source | None) -> None:
        server = self._server
        until = self._loop.time() + server.limits.header_timeout
        ours = True  # to close; later it is the transport's
        try:
            if source is not None and self._is_announced(source, connection):
                async with asyncio.timeout_at(until):
                    source = await self._announced(sock) or source
            connection.peer = self._peer(source)
            ours = False
            await self._connect(sock, connection, until)
        except (OSError, ValueError) as error:
            if ours and source is not None and not isinstance(error, ConnectionError):
                self._say(
                    "PROXY", f"{source[0]} is a trusted proxy but announced no client: {str(error) or 'too late'}"
                )
            elif self.secure and not ours:
                server.handshake_failures += 1
                log.debug("TLS handshake with %s: %s", source, error)
        except Exception:
            log.exception("a connection from %s could not be set up", source)
        finally:
            if ours:
                sock.close()
            server.arrived(connection)

    async def _connect(self, sock: socket.socket, connection: ServerConnection, until: float) -> None:
        if not self.secure:
            await self._loop.connect_accepted_socket(lambda: connection, sock)
            return
        await self._loop.connect_accepted_socket(
            lambda: connection,
            sock,
            ssl=self._server.tls,
            ssl_handshake_timeout=max(0.001, until - self._loop.time()),
            ssl_shutdown_timeout=self._server.limits.body_timeout,  # the last reply may still be on its way
        )

    def _peer(self, source: Source | None) -> Peer:
        if source is None:  # a unix socket: whoever may open the file
            return Peer("unix", 0, self._scheme)
        return Peer(*source, self._scheme, self._server.trusts(source[0]))

    def _is_announced(self, source: Source, connection: ServerConnection) -> bool:
        """Whether a PROXY header must come first."""
        return self._server.proxy_protocol and not connection.refused and self._server.trusts(source[0])

    async def _announced(self, sock: socket.socket) -> Source | None:
        """Take the PROXY header off the socket, to the byte. Raises ValueError, OSError."""
        taken = b""
        while True:
            try:
                ahead = sock.recv(LONGEST, socket.MSG_PEEK)
            except BlockingIOError:
                await self._readable(sock)
                continue
            if not ahead:  # load balancers also look whether somebody listens, and leave
                raise ConnectionAbortedError
            header = parse(taken + ahead)
            if header is not None:
                sock.recv(header.size - len(taken))
                return header.source
            taken += sock.recv(len(ahead))  # all of it is header; left there, the socket would stay readable

    async def _readable(self, sock: socket.socket) -> None:
        ready = asyncio.Event()
        self._loop.add_reader(sock, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(sock)

    def _say(self, what: str, line: str) -> None:
        """Log a trouble, but seldom."""
        now = self._loop.time()
        if now >= self._said.get(what, -math.inf) + SELDOM:
            self._said[what] = now
            log.warning(line)
