"""The admin API for the configuration as it was built: routes with their stages, and rate limits with their counts.

Nothing here changes anything. What takes long with thousands of routes is done in a thread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from gateway.admin.answers import Refusal, answer, parameters
from gateway.config.complaints import hint, show
from gateway.config.store_url import masked
from gateway.config.syntax import method, text
from gateway.describe.as_built import routes_as_built
from gateway.describe.limits import policies

if TYPE_CHECKING:
    from gateway.admin.app import Instance

DECISIONS = "gateway_rate_limit_decisions_total"
STORE_UP = "gateway_store_up"


class Routes:
    """The endpoints of one instance."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [web.get("/api/v1/routes", self.show), web.get("/api/v1/limits", self.limits)]

    async def show(self, request: web.Request) -> web.Response:
        asked = parameters(request, {"route": text, "method": method})
        config, only = self._instance.settings, asked.get("route", "")
        names = [route.name for route in config.routes]
        if "route" in asked and only not in names:
            detail = f"there is no route {show(only)}{hint(only, names)}"
            raise Refusal(404, "not_found", "There is none with this name", detail)
        built = await asyncio.to_thread(routes_as_built, config, asked.get("method", ""), only)
        return answer(200, {"routes": built})

    async def limits(self, request: web.Request) -> web.Response:
        parameters(request, {})
        config = self._instance.settings
        said = await asyncio.to_thread(self._instance.readings, DECISIONS, STORE_UP)
        up = list(said[STORE_UP].values())
        store = {"url": masked(config.store_url), "up": min(up) == 1 if up else None}
        told = await asyncio.to_thread(policies, config, said[DECISIONS])
        return answer(200, {"limits": told, "store": store})
