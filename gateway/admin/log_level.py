"""The admin API for how much the gateway says: another level now, in all processes, until a reload or a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from gateway.admin.answers import Refusal, answer, concerning, members, parameters
from gateway.config.complaints import hint, show
from gateway.logs import own_log
from gateway.process.link import LinkLostError

if TYPE_CHECKING:
    from gateway.admin.app import Instance

LEVELS = ("debug", "info", "warning", "error")


class LogLevel:
    """The endpoints of one instance."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [web.get("/api/v1/log-level", self.show), web.put("/api/v1/log-level", self.change)]

    async def show(self, request: web.Request) -> web.Response:
        parameters(request, {})
        return self._said()

    async def change(self, request: web.Request) -> web.Response:
        wanted = (await members(request, {"level": _level}, "level"))["level"]
        concerning(request, level=wanted)
        try:
            await self._instance.set_log_level(wanted)
        except LinkLostError:
            detail = "Its log may tell more."
            raise Refusal(503, "internal", "The gateway does not answer", detail) from None
        return self._said()

    def _said(self) -> web.Response:
        return answer(200, {"level": own_log.level(), "configured": self._instance.settings.logging.level})


def _level(value: object) -> str:
    if value not in LEVELS:
        raise ValueError(f"{show(value)} is none of {', '.join(LEVELS)}{hint(value, LEVELS)}")
    return str(value)
