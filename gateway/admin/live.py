"""The live feed, /api/v1/live: the state of the instance once a second as server-sent events, while somebody listens.

One look serves all listeners. Who does not keep up misses states, so nothing piles up for anybody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from gateway import __version__
from gateway.admin.access import still_known
from gateway.admin.answers import Refusal
from gateway.admin.times import written
from gateway.process.chores import Chores
from gateway.telemetry.live import Layout, Target, Upstream, listeners, loop_lag, state
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.reading import NAMES, Reading, reading

if TYPE_CHECKING:
    from gateway.admin.app import Instance
    from gateway.config import Config
    from gateway.config.model import Upstream as UpstreamConfig
    from gateway.upstream.notices import Notices

log = logging.getLogger("gateway.admin")

PERIOD = 1.0
FIRST = 0.25
"""Seconds to the first state: a rate takes two looks."""
WINDOW = 10.0
"""Seconds that rates and percentiles are about."""
MOST_LISTENERS = 32
HEARTBEAT = 10.0
"""Seconds without a state after which a comment shows that the connection is alive."""
PATIENCE = 20.0
"""Seconds for which a listener may take nothing before it is cut off."""
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}

Told = Mapping[str, Any]


class Live:
    """The feed of one instance."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._listeners = 0
        self._closed = False
        self._chores = Chores()
        self._looking: asyncio.Task[None] | None = None
        self._next: asyncio.Future[bytes] | None = None
        self._latest = b""
        self._bounds = {family.name: family.bounds for family in Metrics().families if family.bounds}
        self._drawn: tuple[Config, Notices, Layout] | None = None

    def routes(self) -> list[web.RouteDef]:
        """All there are."""
        return [web.get("/api/v1/live", self.listen, allow_head=False)]

    async def close(self, _: web.Application) -> None:
        """Let all listeners go: the process ends."""
        self._closed = True
        self._chores.cancel()
        self._hand_out(b"")

    async def listen(self, request: web.Request) -> web.StreamResponse:
        if self._listeners >= MOST_LISTENERS:
            detail = f"{MOST_LISTENERS} dashboards and terminals listen already"
            raise Refusal(503, "overloaded", "Too many listeners", detail)
        response = web.StreamResponse(headers=HEADERS)
        self._listeners += 1
        try:
            await response.prepare(request)
            with suppress(ConnectionError):  # it has left
                await self._tell(request, response)
        finally:
            self._listeners -= 1
            if not self._listeners and self._looking is not None:
                self._looking.cancel()
                self._looking, self._latest = None, b""
        return response

    async def _tell(self, request: web.Request, response: web.StreamResponse) -> None:
        """States, to the end of the process or of this look, and as long as the listener might ask again."""
        frame = self._latest or b": waiting\n\n"
        while frame and not self._closed and still_known(request, self._instance):
            try:
                async with asyncio.timeout(PATIENCE):
                    await response.write(frame)
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()
                return
            try:
                async with asyncio.timeout(HEARTBEAT):
                    frame = await asyncio.shield(self._coming())
            except TimeoutError:
                frame = b": still here\n\n"

    def _coming(self) -> asyncio.Future[bytes]:
        """The next state; looks for one if nobody does."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._looking is None and not self._closed:
            self._looking = self._chores.start(self._look(), "live")
            self._looking.add_done_callback(self._over)
        return self._next

    def _over(self, task: asyncio.Task[None]) -> None:
        """The look has failed, and Chores says why: listeners come again, and begin another one."""
        if self._looking is task:
            self._looking = None
            self._hand_out(b"")

    def _hand_out(self, frame: bytes) -> None:
        self._latest = frame
        if self._next is not None:
            self._next.set_result(frame)
            self._next = None

    async def _look(self) -> None:
        readings: deque[tuple[float, Reading]] = deque()
        pause = FIRST
        while True:
            due = time.monotonic() + pause
            frame = await asyncio.to_thread(self._frame, readings, self._told(), self._layout())
            if frame:
                pause = PERIOD
                self._hand_out(frame)
            await asyncio.sleep(max(FIRST, due - time.monotonic()))

    def _told(self) -> Told:
        """What the operator process knows without reading a counter. In the loop: its parts belong there."""
        instance = self._instance
        known, reasons = instance.snapshot, instance.reasons()
        return {
            "at": written(time.time()),
            "instance": {
                "version": __version__,
                "started": written(known["started"]),
                "workers": known["workers"],
                "ready": not reasons,
                "reasons": reasons,
                "hash": known["config"]["hash"],
                "reload_ok": known["last_reload"]["ok"],
            },
            **instance.watched(),
        }

    def _layout(self) -> Layout:
        config, notices = self._instance.settings, self._instance.board.current
        if self._drawn is None or self._drawn[0] is not config or self._drawn[1] is not notices:
            self._drawn = (config, notices, drawn(config, notices, self._bounds))
        return self._drawn[2]

    def _frame(self, readings: deque[tuple[float, Reading]], told: Told, layout: Layout) -> bytes:
        """The next state; nothing after the first look. In a thread: thousands of series take their time."""
        now, at = reading(self._instance.totals(*NAMES)), time.monotonic()
        readings.append((at, now))
        while len(readings) > 2 and readings[1][0] <= at - WINDOW:
            readings.popleft()
        began, before = readings[0]
        if before is now:
            return b""
        instance = {**told["instance"], "listeners": listeners(now), "loop_lag_ms": loop_lag(now)}
        said = {**told, "instance": instance, **state(before, now, at - began, layout)}
        return b"event: state\ndata: %b\n\n" % orjson.dumps(said)


def drawn(config: Config, notices: Notices, bounds: Mapping[str, Sequence[float]]) -> Layout:
    """What there is, by the configuration and by what was found and ordered since."""
    return Layout(
        routes={route.name: route.upstreams for route in config.routes},
        upstreams={name: _upstream(name, each, notices) for name, each in config.upstreams.items()},
        bounds=bounds,
    )


def _upstream(name: str, settings: UpstreamConfig, notices: Notices) -> Upstream:
    urls = dict.fromkeys([*(target.url for target in settings.targets), *_found(name, notices)])
    circuits = settings.breaker is not None
    return Upstream(
        targets=[Target(url, (name, url) not in notices.ill, circuits and notices.holds(name, url)) for url in urls],
        circuits=circuits,
        ejects=settings.eject is not None,
    )


def _found(name: str, notices: Notices) -> list[str]:
    return [target.url for target in notices.found.get(name, ())]
