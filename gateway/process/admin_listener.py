"""Where the operator process listens: one socket of the supervisor's, with or without TLS, which may change.

A site closes its socket when it stops; so each gets a copy, and connections wait in the kernel until the next one
accepts them.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakSet

from gateway.config.model import Config
from gateway.http.tls import server_context
from gateway.parts import content

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger("gateway.operator")


@dataclass(frozen=True, slots=True)
class Tls:
    """What operators are shown, and what it was made of."""

    certificate: Hashable = None
    clients: Hashable = ()
    """Who is trusted as a client; empty for nobody."""
    context: ssl.SSLContext | None = None


class AdminListener:
    """Of one operator process."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner
        self._socket: socket.socket | None = None
        self._tls = Tls()
        self._trusted: WeakSet[ssl.SSLContext] = WeakSet()  # also those of connections from before a renewal

    @property
    def secure(self) -> bool:
        """It speaks TLS."""
        return self._tls.context is not None

    async def listen(self, sock: socket.socket | None) -> None:
        """Answer on this socket, and no longer on another."""
        old, self._socket = self._socket, sock
        await self._restart()
        if old is not None:
            old.close()

    async def configure(self, config: Config) -> None:
        """Show the certificates of `config`, as their files are now. Raises OSError, and nothing has changed."""
        old, new = self._tls, _tls(config, self._tls)
        if new is old:
            return
        self._tls = new
        if new.clients != old.clients:
            self._trusted.clear()
        if new.clients and new.context is not None:
            self._trusted.add(new.context)
        await self._restart()

    def trusts(self, context: object) -> bool:
        """Client certificates that this context has verified are good now, too: the authorities are the same."""
        return context in self._trusted

    async def _restart(self) -> None:
        from aiohttp import web

        for site in list(self._runner.sites):
            await site.stop()
        if self._socket is not None:
            await web.SockSite(self._runner, self._socket.dup(), ssl_context=self._tls.context).start()


def _tls(config: Config, now: Tls) -> Tls:
    """The same as `now` if nothing has changed, files included. Raises OSError."""
    settings = config.listen.admin_tls
    if settings is None:
        return now if now.context is None else Tls()
    certificate = content(settings.certificate), content(settings.key)
    clients = (content(settings.client_ca),) if settings.client_ca is not None else ()
    if (certificate, clients) == (now.certificate, now.clients):
        return now
    pair = settings.certificate, settings.key
    return Tls(certificate, clients, server_context([pair], settings.client_ca, required=False))
