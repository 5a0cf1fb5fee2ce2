"""Requests as they end, live: server-sent events, one line of JSON each, to whoever asks for `/api/v1/tail`.

`ready` says that from here on nothing is missing, `dropped` how many lines a slow reader has lost.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from gateway.admin.access import still_known
from gateway.admin.answers import Refusal, invalid
from gateway.process.mailbox import MOST_TAPS, TooManyTapsError
from gateway.telemetry.wanted import wanted

if TYPE_CHECKING:
    from gateway.admin.app import Instance
    from gateway.process.mailbox import Tap

HEARTBEAT = 5.0
"""Seconds of silence after which a comment is sent: so each side notices that the other has gone."""

ANSWERED_WITHIN = 2.0
"""Seconds for workers to say that they report every call; they look four times a second."""

PATIENCE = 60.0
"""Seconds for which a reader may take nothing before it is cut off."""


class Tail:
    """The endpoint."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/v1/tail", self._tail, allow_head=False)]

    async def _tail(self, request: web.Request) -> web.StreamResponse:
        mailbox = self._instance.mailbox
        try:
            tap = mailbox.attach(wanted(request.query.items()))
        except ValueError as error:
            raise invalid(str(error)) from None
        except TooManyTapsError:
            title = "Others tail already"
            raise Refusal(503, "overloaded", title, f"{MOST_TAPS} at a time are the most.") from None
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        reply = web.StreamResponse(headers=headers)
        try:
            await reply.prepare(request)
            await self._stream(request, reply, tap)
        except ConnectionError:  # the reader has left
            pass
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            mailbox.detach(tap)
        return reply

    async def _stream(self, request: web.Request, reply: web.StreamResponse, tap: Tap) -> None:
        """Until the reader leaves or might not ask again, or the gateway ends. Raises TimeoutError."""
        mailbox = self._instance.mailbox
        await mailbox.answered(ANSWERED_WITHIN)
        events = _event("ready", {"silent": mailbox.silent()})
        ended = False
        while True:
            async with asyncio.timeout(PATIENCE):
                await reply.write(events or b": still here\n\n")
            if ended or not still_known(request, self._instance):
                return
            lines, lost = await tap.take(HEARTBEAT)
            ended = tap.ended  # and these lines are the last
            mailbox.renew()
            events = b"".join(b"data: %b\n\n" % line for line in lines)
            if lost:
                events += _event("dropped", {"count": lost})


def _event(name: str, value: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(value))
