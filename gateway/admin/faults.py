"""The admin API for rehearsals: failures and delays for a share of a route's requests, which end by themselves."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any

from aiohttp import web

from gateway.admin.answers import Refusal, answer, asked_by, concerning, invalid, members
from gateway.admin.circuits import conflict, not_told
from gateway.admin.times import written
from gateway.config.complaints import hint, show
from gateway.config.effective import duration_text, share_text
from gateway.config.fields import whole
from gateway.config.syntax import text
from gateway.config.units import positive_duration, positive_share
from gateway.upstream.notices import Rehearsal

if TYPE_CHECKING:
    from gateway.admin.app import Instance

log = logging.getLogger("gateway.admin")

LONGEST = 3600.0
"""Seconds. Nobody stays by a rehearsal for longer, and one that is forgotten is an outage."""


class Faults:
    """The endpoints of one instance."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/api/v1/faults", self.show),
            web.post("/api/v1/faults", self.start),
            web.delete("/api/v1/faults", self.stop_all),
            web.delete("/api/v1/faults/{id}", self.stop),
        ]

    async def show(self, _: web.Request) -> web.Response:
        return answer(200, {"faults": self._told(self._running())})

    async def start(self, request: web.Request) -> web.Response:
        readers = {"route": text, "share": positive_share, "status": _status, "delay": positive_duration, "for": _for}
        sent = await members(request, readers)
        concerning(request, route=sent.get("route"))
        self._check(sent)
        running = self._running()
        if any(each.route == sent["route"] for each in running):
            raise conflict(f"route {sent['route']} has a rehearsal already: stop that one first")
        fault = Rehearsal(
            id=f"flt_{secrets.token_hex(6)}",
            route=sent["route"],
            share=sent["share"],
            status=sent.get("status", 0),
            delay=sent.get("delay", 0.0),
            until=self._instance.board.clock() + sent["for"],
        )
        self._post((*running, fault))
        (said,) = self._told((fault,))
        concerning(request, fault=fault.id, share=said["share"], fails=said["status"], delay=said["delay"])
        log.warning("rehearsal %s begun by %s: %s", fault.id, asked_by(request), described(said))
        return answer(201, said)

    async def stop(self, request: web.Request) -> web.Response:
        await members(request, {})
        wanted = request.match_info["id"]
        stopped = tuple(each for each in self._running() if each.id == wanted)
        if not stopped:
            raise Refusal(404, "not_found", "There is none with this id", f"there is no rehearsal {show(wanted)}")
        return self._stop(request, stopped)

    async def stop_all(self, request: web.Request) -> web.Response:
        await members(request, {})
        return self._stop(request, self._running())

    def _stop(self, request: web.Request, stopped: tuple[Rehearsal, ...]) -> web.Response:
        for each in stopped:
            log.warning("rehearsal %s on route %s stopped by %s", each.id, each.route, asked_by(request))
        self._post(tuple(each for each in self._running() if each not in stopped))
        return answer(200, {"stopped": self._told(stopped)})

    def _running(self) -> tuple[Rehearsal, ...]:
        now = self._instance.board.clock()
        return tuple(each for each in self._instance.board.current.faults if each.until > now)

    def _post(self, faults: tuple[Rehearsal, ...]) -> None:
        if not self._instance.board.post(faults=faults):
            raise not_told()

    def _check(self, sent: dict[str, Any]) -> None:
        """Raises Refusal."""
        for needed in ("route", "share", "for"):
            if needed not in sent:
                raise invalid(f"{needed}: is needed")
        if not sent.keys() & {"status", "delay"}:
            raise invalid("status: is needed, or a delay: else nothing would happen")
        if sent.get("delay", 0.0) > sent["for"]:
            raise invalid("delay: is longer than the rehearsal")
        routes = [route.name for route in self._instance.settings.routes]
        if sent["route"] not in routes:
            raise invalid(f"route: there is no route {show(sent['route'])}{hint(sent['route'], routes)}")

    def _told(self, faults: tuple[Rehearsal, ...]) -> list[dict[str, Any]]:
        now = self._instance.board.clock()
        return [
            {
                "id": each.id,
                "route": each.route,
                "share": share_text(each.share),
                "status": each.status or None,
                "delay": duration_text(each.delay) if each.delay else None,
                "until": written(each.until),
                "left": max(0, round(each.until - now)),
            }
            for each in faults
        ]


def described(said: dict[str, Any]) -> str:
    """For the log: what it does."""
    status = f"status {said['status']}" if said["status"] is not None else ""
    delay = f"a delay of {said['delay']}" if said["delay"] is not None else ""
    what = " after ".join(filter(None, (status, delay)))
    return f"{what} for {said['share']} of route {said['route']}, until {said['until']}"


def _for(value: object) -> float:
    seconds = positive_duration(value)
    if seconds > LONGEST:
        raise ValueError("is longer than an hour: begin another one after it")
    return seconds


def _status(value: object) -> int:
    status = whole(value)
    if not 400 <= status <= 599:
        raise ValueError("must be an error status, from 400 to 599")
    return status
