"""The admin API for upstreams: which targets they have, discovered ones included, and how those are doing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from gateway.admin.answers import answer
from gateway.admin.circuits import BREAKER_STATE, state

if TYPE_CHECKING:
    from gateway.admin.app import Instance
    from gateway.config.model import Upstream

CONNECTIONS = "gateway_upstream_connections"
IN_USE = "gateway_target_healthy"

Gauge = Mapping[tuple[str, ...], float]


class Upstreams:
    """The endpoint of one instance."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def routes(self) -> list[web.RouteDef]:
        """All there are."""
        return [web.get("/api/v1/upstreams", self.show)]

    async def show(self, _: web.Request) -> web.Response:
        gauges = await asyncio.to_thread(self._instance.readings, BREAKER_STATE, CONNECTIONS, IN_USE)
        upstreams = self._instance.settings.upstreams
        return answer(200, {"upstreams": [self._told(name, upstreams[name], gauges) for name in upstreams]})

    def _told(self, name: str, settings: Upstream, gauges: Mapping[str, Gauge]) -> dict[str, Any]:
        said = settings.model_dump(mode="json", by_alias=True, include={"balance", "targets"})
        found = self._instance.board.current.found.get(name, ())
        targets = [(each, False) for each in said["targets"]]
        targets += [({"url": each.url, "weight": each.weight, "priority": each.priority}, True) for each in found]
        connections = gauges[CONNECTIONS]
        return {
            "name": name,
            "balance": said["balance"],
            "targets": [self._target(name, settings, each, found, gauges) for each, found in targets],
            "connections": {
                kind: int(connections[name, kind]) if (name, kind) in connections else None for kind in ("busy", "idle")
            },
        }

    def _target(
        self, upstream: str, settings: Upstream, target: dict[str, Any], found: bool, gauges: Mapping[str, Gauge]
    ) -> dict[str, Any]:
        notices, url = self._instance.board.current, target["url"]
        healthy = (upstream, url) not in notices.ill
        in_use = gauges[IN_USE].get((upstream, url))
        circuit = settings.breaker is not None
        return {
            **target,
            "discovered": found,
            "healthy": healthy,
            # Workers do not use it although probes find it well: then at least one of them has set it aside.
            "ejected": None if settings.eject is None or in_use is None else healthy and not in_use,
            "circuit": state(gauges[BREAKER_STATE], upstream, url) if circuit else None,
            "held": circuit and notices.holds(upstream, url),
        }
