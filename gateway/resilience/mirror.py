"""A copy of some requests goes to another upstream too, whose replies nobody sees: to try it under real traffic.

Fire and forget: the original is never delayed, changed or failed by it. Every method is copied, so what a POST
does is done at both. What would cost memory is left out: bodies that are still on their way or large, tunnels,
and whatever comes while too many copies are under way.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from gateway.errors import GatewayError
from gateway.exchange import Call, Fields, Hop, Reply, Request, Stream
from gateway.pipe import Layer, Send

log = logging.getLogger("gateway.mirror")

MARK = b"x-gateway-mirror"
"""Tells the upstream that nobody waits for its reply."""

BODY_LIMIT = 64 * 1024
"""Bytes of a body that is copied: as much as is buffered of any body (http/stream.py)."""

MOST = 64
"""Copies of a route under way in a worker: what a slow upstream can hold of memory and connections here."""

PATIENCE = 30.0
"""Seconds for a copy, to the end of its reply; the upstream's own `timeouts.total` may end it before."""

REPLY_LIMIT = 1024 * 1024
"""Bytes of a reply that are read to keep its connection; of a longer one the connection is closed instead."""


class Copies:
    """The copies of one route that are under way."""

    __slots__ = ("_clock", "_done", "_most", "_seen", "_tasks", "_to", "upstream")

    def __init__(
        self,
        upstream: str,
        to: Send,
        done: Callable[[str], None],
        clock: Callable[[], float],
        most: int = MOST,
        seen: Callable[[Call, Hop], None] | None = None,
    ) -> None:
        """`to` is the upstream's road. `done` hears how each ended: 2xx (the reply's class), failed, skipped.

        `seen` gets each copy at its end, with what became of it, for the trace.
        """
        self.upstream = upstream
        self._to = to
        self._done = done
        self._clock = clock
        self._most = most
        self._seen = seen
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, call: Call) -> None:
        """Send a copy of `call` as soon as the loop has time for it, or tell in a hop why not."""
        body = call.body
        if not isinstance(body, bytes) or len(body) > BODY_LIMIT:
            self._skip(call, "skipped: body")
        elif call.request.fields.upgrade:
            self._skip(call, "skipped: upgrade")
        elif len(self._tasks) >= self._most:
            self._skip(call, "skipped: full")
        else:
            task = asyncio.get_running_loop().create_task(self._send(_copied(call, self._clock() + PATIENCE)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all of them; nobody waits for what they would have brought."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _skip(self, call: Call, why: str) -> None:
        call.hops.append(Hop("mirror", self.upstream, why, self._clock(), 0.0, False))
        self._done("skipped")

    async def _send(self, copy: Call) -> None:
        outcome, started = "failed", self._clock()
        try:
            copy.request = _marked(copy.request)
            reply = await self._to(copy)
            if not isinstance(reply.body, bytes):
                await self._read_to_end(reply.body, copy.deadline)
            outcome = f"{reply.status // 100}xx"
        except GatewayError as error:
            log.debug("the copy of request %s for %s failed: %s", copy.id, self.upstream, error)
        except Exception:
            log.exception("the copy of request %s for %s failed inside the gateway", copy.id, self.upstream)
        self._done(outcome)
        if self._seen is not None:
            self._seen(copy, Hop("mirror", self.upstream, outcome, started, self._clock() - started, waited=False))

    async def _read_to_end(self, body: Stream, deadline: float) -> None:
        """Within bounds; a silence is bounded by the connection it comes from (`timeouts.idle`)."""
        try:
            while await body.read():
                if body.received > REPLY_LIMIT or self._clock() >= deadline:
                    return
        finally:
            body.close()


def mirror(copies: Copies, share: float, dice: Callable[[], float] = random.random) -> Layer:
    """Begin a copy of this share of the calls. Whoever builds it closes `copies` in the end."""
    begin = copies.begin

    def layer(send: Send) -> Send:
        # Not async itself: a coroutine that only awaits another costs 0.2 µs for nothing.
        def mirrored(call: Call) -> Awaitable[Reply]:
            if dice() < share:
                begin(call)
            return send(call)

        return mirrored

    return layer


def _copied(call: Call, deadline: float) -> Call:
    """What the door found out about `call`, to travel on its own: with its own time, tries and hops, and no quota."""
    copy = Call(call.request, call.id)  # the same id, so that both are found in the upstreams' logs
    copy.body = call.body
    copy.client_ip = call.client_ip
    copy.scheme = call.scheme
    copy.host = call.host
    copy.path = call.path
    copy.query = call.query
    copy.route = call.route
    copy.version = call.version
    copy.params = call.params
    copy.lines = call.lines
    copy.removed = call.removed
    copy.caller = call.caller
    copy.deadline = deadline
    copy.trace = call.trace  # spans of its own within it: their ids follow from when its tries begin
    return copy


def _marked(request: Request) -> Request:
    """The request with the mark among its fields, once, and whatever the client's Connection header nominates."""
    fields = request.fields
    marked = Fields(
        [*((name, value) for name, value in fields.headers if name != MARK), (MARK, b"1")],
        host=fields.host,
        length=fields.length,
        keep_alive=fields.keep_alive,
        nominated=tuple(name for name in fields.nominated if name != MARK),
        version=fields.version,
    )
    return Request(request.method, request.target, marked, request.peer, request.received, request.body)
