"""The admin API for what watches the gateway itself: its probes, and what is wrong at the moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from gateway.admin.answers import answer

if TYPE_CHECKING:
    from gateway.admin.app import Instance


class Probes:
    """The endpoints of one instance."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def routes(self) -> list[web.RouteDef]:
        """Both of them."""
        return [web.get("/api/v1/probes", self.probes), web.get("/api/v1/alerts", self.alerts)]

    async def probes(self, _: web.Request) -> web.Response:
        return answer(200, {"probes": self._instance.probes()})

    async def alerts(self, _: web.Request) -> web.Response:
        return answer(200, {"alerts": self._instance.alerts()})
