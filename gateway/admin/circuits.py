"""The admin API for circuits: how they are, what happened to them, and holding them open by hand.

The state is the worst of all workers', as their gauges say it: up to half a second old.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiohttp import web

from gateway.admin.answers import Refusal, answer, asked_by, concerning, members
from gateway.admin.times import written
from gateway.config.complaints import hint, show
from gateway.config.syntax import text

if TYPE_CHECKING:
    from gateway.admin.app import Instance
    from gateway.config import Config
    from gateway.upstream.notices import Notices, Place

log = logging.getLogger("gateway.admin")

BREAKER_STATE = "gateway_breaker_state"
STATES = ("closed", "half-open", "open")
"""By the gauge's value."""


class Circuits:
    """The endpoints of one instance."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/api/v1/circuits", self.show),
            web.post("/api/v1/circuits/{upstream}/open", self.hold_open),
            web.post("/api/v1/circuits/{upstream}/close", self.close),
        ]

    async def show(self, _: web.Request) -> web.Response:
        instance = self._instance
        gauge = (await asyncio.to_thread(instance.readings, BREAKER_STATE))[BREAKER_STATE]
        notices = instance.board.current
        circuits = [
            {
                "upstream": upstream,
                "target": target or None,
                "state": state(gauge, upstream, target),
                "held": notices.holds(upstream, target),
            }
            for upstream, target in circuits_of(instance.settings, notices)
        ]
        events = [
            {
                "at": written(each.at),
                "upstream": each.upstream,
                "target": each.target or None,
                "to": each.to,
                "times": each.times,
            }
            for each in instance.transitions
        ]
        return answer(200, {"circuits": circuits, "events": events})

    async def hold_open(self, request: web.Request) -> web.Response:
        place = await self._place(request)
        board = self._instance.board
        told = board.post(held_open=board.current.held_open | {place})
        log.warning("circuit of %s held open by %s", named(place), asked_by(request))
        return self._done(place, told)

    async def close(self, request: web.Request) -> web.Response:
        place = await self._place(request)
        upstream, target = place
        board = self._instance.board
        held = board.current.held_open
        if target and (upstream, "") in held:
            raise conflict(f"all circuits of {upstream} are held open together: close them together, without a target")
        left = frozenset(each for each in held if each != place and (target or each[0] != upstream))
        times = board.current.closed.get(place, 0) + 1
        told = board.post(held_open=left, closed={**board.current.closed, place: times})
        log.warning("circuit of %s closed by %s", named(place), asked_by(request))
        return self._done(place, told)

    async def _place(self, request: web.Request) -> Place:
        """Which circuits are meant; "" are all of the upstream. Raises Refusal."""
        sent = await members(request, {"target": _url})
        upstream, target = request.match_info["upstream"], sent.get("target", "")
        concerning(request, target=target or None)
        settings = self._instance.settings.upstreams.get(upstream)
        if settings is None:
            raise _unknown(f"there is no upstream {show(upstream)}{hint(upstream, self._instance.settings.upstreams)}")
        if settings.breaker is None:
            raise conflict(f"upstream {upstream} has no circuits: its breaker is off")
        if target:
            if settings.breaker.per == "upstream":
                raise conflict(f"the targets of {upstream} share one circuit (breaker.per: upstream): leave target out")
            urls = targets_of(self._instance.settings, self._instance.board.current, upstream)
            if target not in urls:
                raise _unknown(f"upstream {upstream} has no target {show(target)}{hint(target, urls)}")
        return upstream, target

    def _done(self, place: Place, told: bool) -> web.Response:
        if not told:
            raise not_told()
        upstream, target = place
        held = self._instance.board.current.holds(upstream, target)
        return answer(200, {"upstream": upstream, "target": target or None, "held": held})


def circuits_of(config: Config, notices: Notices) -> list[Place]:
    """Every circuit there is; "" is one that all targets of the upstream share."""
    found = []
    for name, upstream in config.upstreams.items():
        if upstream.breaker is not None:
            own = upstream.breaker.per == "target"
            found += [(name, target) for target in (targets_of(config, notices, name) if own else [""])]
    return found


def targets_of(config: Config, notices: Notices, upstream: str) -> list[str]:
    """The URLs of all its targets, discovered ones included."""
    configured = [target.url for target in config.upstreams[upstream].targets]
    return configured + [each.url for each in notices.found.get(upstream, ()) if each.url not in configured]


def state(gauge: Mapping[tuple[str, ...], float], upstream: str, target: str) -> str | None:
    """The worst of all workers'; None while none has said anything. All targets show a circuit that they share."""
    if target:
        value = gauge.get((upstream, target))
    else:
        value = max((value for labels, value in gauge.items() if labels[0] == upstream), default=None)
    return None if value is None else STATES[int(value)]


def named(place: Place) -> str:
    """For the log."""
    return " ".join(filter(None, place))


def conflict(detail: str) -> Refusal:
    """It is understood, and does not go together with what there is."""
    return Refusal(409, "conflict", "Not possible", detail)


def not_told() -> Refusal:
    """A change that workers have not seen."""
    detail = "the folder of this instance cannot be written to, its log says why: it is tried again every second"
    return Refusal(503, "store_unavailable", "Not in force yet", detail)


def _unknown(detail: str) -> Refusal:
    return Refusal(404, "not_found", "There is none with this name", detail)


def _url(value: object) -> str:
    """As the configuration has it: in small letters, without a final slash."""
    url = text(value).lower().removesuffix("/")
    if not url:
        raise ValueError("is empty")
    return url
