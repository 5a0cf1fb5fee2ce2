"""The record of operators: one audit line for whatever was asked to change, and for who was not let in.

The reply carries the line's request id, so what somebody saw can be found in the record.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.admin.answers import BY, CONCERNS, ID, READS, asked_by
from gateway.telemetry.audit import audit

REFUSED = (401, 403)

MOST_REFUSED = 10
"""Lines at once about callers who were not let in; then one a second: who guesses tokens shall not fill the disk."""


class Occasions:
    """A bucket of MOST_REFUSED that fills again with one a second; knows what it has let go by."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = float(MOST_REFUSED)
        self._seen = clock()
        self._missed = 0

    def take(self) -> int | None:
        """How many were missed before this one; None: this one is missed."""
        now = self._clock()
        self._left = min(float(MOST_REFUSED), self._left + now - self._seen)
        self._seen = now
        if self._left < 1:
            self._missed += 1
            return None
        self._left -= 1
        missed, self._missed = self._missed, 0
        return missed


def audited(clock: Callable[[], float] = time.monotonic) -> Middleware:
    """Outermost, so that it sees what came of a request whatever went wrong inside."""
    occasions = Occasions(clock)

    @web.middleware
    async def watched(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/api/"):
            return await handler(request)
        request[ID] = secrets.token_hex(10)
        status = 0  # until there is one: the process ends while it is being done
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            if status in REFUSED:
                if (missed := occasions.take()) is not None:
                    _record(request, "refused", status, missed=missed or None)
            elif request.method not in READS and BY in request:
                _record(request, "asked", status or None)

    return watched


def _record(request: web.Request, event: str, status: int | None, **more: object) -> None:
    audit(
        event=event,
        id=request[ID],
        by=request.get(BY, "nobody"),
        address=asked_by(request),
        method=request.method,
        path=request.path,
        status=status,
        **request.get(CONCERNS, {}),
        **more,
    )
