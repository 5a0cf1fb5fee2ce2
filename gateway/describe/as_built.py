"""A route as it was built, as plain data: its match, its stages with their reasons, who answers.

What may be secret is not in here: `effective` of the configuration has it, masked.
"""

from typing import Any

from gateway.config import Config
from gateway.config.route import Route
from gateway.config.versions import Version
from gateway.describe.precedence import Place, places
from gateway.describe.reasons import WHY
from gateway.describe.routes import auth_text, targets_of
from gateway.describe.stages import stages
from gateway.limits.names import named


def routes_as_built(config: Config, method: str = "", only: str = "") -> list[dict[str, Any]]:
    """All routes, or the `only` one, in the order of the file; their stages as a request with `method` meets them."""
    ranks = places(config.routes)
    chosen = [route for route in config.routes if not only or route.name == only]
    return [_route(config, route, method or _usual_method(route), ranks[route.name]) for route in chosen]


def _usual_method(route: Route) -> str:
    methods = route.match.methods
    return "GET" if methods is None or "GET" in methods else methods[0]


def _route(config: Config, route: Route, method: str, place: Place) -> dict[str, Any]:
    match = route.match
    return {
        "name": route.name,
        "match": {
            "host": match.host,
            "methods": list(match.methods) if match.methods is not None else None,
            "path": match.path,
            "headers": sorted(match.headers),
            "query": sorted(match.query),
        },
        "precedence": {"position": place.position, "behind": list(place.behind)},
        "access": auth_text(route),
        "priority": route.priority,
        "body_limit": route.body_limit,
        "limits": [named(config, route.name, entry, number)[0] for number, entry in enumerate(route.rate_limit)],
        "slo": _slo(route),
        "method": method,
        "stages": [_stage(dict(each)) for each in stages(config, route, method)],
        "upstreams": [{"name": name, "targets": targets_of(config.upstreams[name])} for name in route.upstreams],
        "split": route.split,
        "versions": _versions(route),
        "redirect": route.redirect and {"status": route.redirect.status, "to": route.redirect.to},
        "respond": route.respond and {"status": route.respond.status},
    }


def _stage(stage: dict[str, Any]) -> dict[str, Any]:
    part, why = WHY[stage["stage"]]
    return {"part": part, "upstream": None, **stage, "why": why}


def _versions(route: Route) -> list[dict[str, Any]] | None:
    if route.versions is None:
        return None
    return [_version(name, each) for name, each in route.versions.available.items()]


def _slo(route: Route) -> dict[str, Any] | None:
    slo = route.slo
    if slo is None:
        return None
    latency = slo.latency and {"p": slo.latency.p, "under_ms": slo.latency.under * 1000}
    return {"availability": slo.availability, "latency": latency}


def _version(name: str, version: Version) -> dict[str, Any]:
    return {
        "name": name,
        "upstreams": list(version.upstreams),
        "deprecated": version.deprecated,
        "sunset": version.sunset,
        "after_sunset": version.after_sunset,
        "successor": version.successor,
        "link": version.link,
    }
