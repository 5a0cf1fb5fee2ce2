"""Connections that do not ask for anything: they are closed after a while, so that nobody can use up all descriptors.

aiohttp itself waits for a first request for ever, and for the next one as long as the application says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler

PATIENCE = 10.0
"""Seconds for a first request head: those of wire.header_timeout."""

IDLE = 75.0
"""Seconds for the next request of a connection: those of wire.idle_timeout."""


class Newcomers:
    """Those of one listener. Mutable."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: set[object] = set()
        self._since: dict[RequestHandler, float] = {}

    def hearing(self) -> Middleware:
        """Outermost: whoever gets here has asked for something."""

        @web.middleware
        async def heard(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._heard.add(request.protocol)
            return await handler(request)

        return heard

    def dismiss(self, connections: Iterable[RequestHandler]) -> None:
        """Close those that came long ago and have asked for nothing. These are all; to be called now and then."""
        now = self._clock()
        self._since = {each: self._since.get(each, now) for each in connections}
        self._heard &= self._since.keys()
        for each, since in self._since.items():
            if each not in self._heard and now - since >= PATIENCE:
                each.force_close()
