"""What only the whole configuration shows: names that nothing has, routes that others have already taken.

Reads the values as they were written, so that these complaints come together with all others; whatever
has a wrong type is left to the models.
"""

from collections.abc import Iterator
from typing import Any

from gateway.config.complaints import show
from gateway.config.paths import shape
from gateway.config.places import Path
from gateway.config.report import Report

Condition = tuple[object, ...]
"""Everything in a match but the methods, so that equal ones are equal."""
ANY = "*"
WITHOUT_CLAIMS = ("api_key", "basic", "client_certificate")
"""Types of providers whose callers bring nothing but who they are."""


def check(data: Any, report: Report) -> None:
    """Report unknown references, providers that nobody can use, duplicate route names and identical matches."""
    config = _mapping(data)
    upstreams = _mapping(config.get("upstreams"))
    auth = _mapping(config.get("auth"))
    providers, roles = _mapping(auth.get("providers")), _mapping(auth.get("roles"))
    _shown(providers, config, report)
    limits = _mapping(config.get("rate_limits"))
    used = [*_used(config.get("routes"), limits)]
    _tiers(_mapping(auth.get("consumers")), used, _mapping(config.get("shedding")), report)
    names: dict[str, Path] = {}
    matches: dict[Condition, dict[str, Path]] = {}
    for index, route in _entries(config.get("routes")):
        path: Path = ("routes", *index)
        route = _mapping(route)
        for name, place in _upstreams(route):
            _known(name, "upstream", upstreams, (*path, *place), report)
        for name, place in _split(route):
            _known(name, "upstream", upstreams, (*path, *place), report, key=True)
        _required(_mapping(route.get("auth")), providers, roles, (*path, "auth"), report)
        name = route.get("name")
        _limited(route.get("rate_limit"), name, limits, (*path, "rate_limit"), report)
        if isinstance(name, str) and names.setdefault(name, path) is not path:
            report((*path, "name"), f"{show(name)} is also the name of the route at line {report.line(names[name])}")
        other = _taken(_mapping(route.get("match")), path, matches)
        if other is not None:
            taken = f"route {show(_mapping(config['routes'][other[1]]).get('name'))} at line {report.line(other)}"
            report((*path, "match"), f"takes the same requests as {taken}")


def _upstreams(route: dict[str, Any]) -> Iterator[tuple[Any, Path]]:
    """The upstreams that a route names as values, and where."""
    yield route.get("upstream"), ("upstream",)
    yield _mapping(route.get("mirror")).get("upstream"), ("mirror", "upstream")
    for version, settings in _mapping(_mapping(route.get("versions")).get("available")).items():
        yield _mapping(settings).get("upstream"), ("versions", "available", version, "upstream")
    for position, entry in _entries(route.get("fallback")):
        yield _mapping(entry).get("upstream"), ("fallback", *position, "upstream")


def _split(route: dict[str, Any]) -> Iterator[tuple[Any, Path]]:
    """The upstreams that a route names as keys, and where."""
    yield from ((name, ("split", name)) for name in _mapping(route.get("split")))
    for version, settings in _mapping(_mapping(route.get("versions")).get("available")).items():
        for name in _mapping(_mapping(settings).get("split")):
            yield name, ("versions", "available", version, "split", name)


def _shown(providers: dict[str, Any], config: dict[str, Any], report: Report) -> None:
    """A provider of client certificates needs a listener that asks for them."""
    https = _mapping(_mapping(config.get("listen")).get("https"))
    for name, provider in providers.items():
        if _mapping(provider).get("type") == "client_certificate" and "client_ca" not in https:
            report(("auth", "providers", name), "has no effect: without listen.https.client_ca no client shows one")


def _limited(written: Any, route: Any, limits: dict[str, Any], path: Path, report: Report) -> None:
    """Limits that a route names must exist, and those that are written there get a name that nothing else has."""
    for position, limit in _entries(written):
        _known(limit, "rate limit", limits, (*path, *position), report)
        named = f"{route}-{(position or (0,))[0] + 1}"
        if isinstance(limit, dict) and named in limits:
            report((*path, *position), f"is called {show(named)}, like one of rate_limits: give one another name")


def _used(routes: Any, limits: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The limits of all routes."""
    for _, route in _entries(routes):
        for _, limit in _entries(_mapping(route).get("rate_limit")):
            yield _mapping(limits.get(limit) if isinstance(limit, str) else limit)


def _tiers(consumers: dict[str, Any], used: list[dict[str, Any]], shedding: dict[str, Any], report: Report) -> None:
    """Where limits tell tiers apart, a consumer's tier must be one that something knows."""
    limited = [tier for limit in used for tier in _mapping(limit.get("tiers"))]
    known = dict.fromkeys([*limited, *(tier for _, tier in _entries(shedding.get("last")) if isinstance(tier, str))])
    for name, consumer in consumers.items() if limited else ():
        tier = _mapping(consumer).get("tier")
        if isinstance(tier, str) and tier not in known:
            message = f"no limit of any route knows the tier {show(tier)}"
            report(("auth", "consumers", name, "tier"), message, word=tier, among=known)


def _required(
    auth: dict[str, Any], providers: dict[str, Any], roles: dict[str, Any], path: Path, report: Report
) -> None:
    """Providers and roles of a route must exist, and of its providers one must tell the claims that it requires."""
    told = []
    for position, name in _entries(auth.get("providers")):
        _known(name, "provider", providers, (*path, "providers", *position), report)
        told.append(not isinstance(name, str) or _mapping(providers.get(name)).get("type") not in WITHOUT_CLAIMS)
    if told and not any(told):
        for key in ("claims", "max_age"):
            if auth.get(key):
                report((*path, key), "none of these providers tells claims")
    every = _mapping(auth.get("roles")).get("all")
    for position, name in _entries(every or auth.get("roles")) if roles else ():
        _known(name, "role", roles, (*path, "roles", *(("all",) if every else ()), *position), report)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _entries(value: Any) -> Iterator[tuple[tuple[int, ...], Any]]:
    """The entries of a list with their positions; a lone value stands for a list of one."""
    if isinstance(value, list):
        yield from (((index,), entry) for index, entry in enumerate(value))
    elif value is not None:
        yield (), value


def _known(name: Any, kind: str, names: dict[str, Any], path: Path, report: Report, *, key: bool = False) -> None:
    if isinstance(name, str) and name not in names:
        report(path, f"there is no {kind} {show(name)}", key=key, word=name, among=names)


def _taken(match: dict[str, Any], path: Path, matches: dict[Condition, dict[str, Path]]) -> Path | None:
    """The earlier route, if there is one, that takes some of the requests of `match` on the same conditions."""
    pattern, host, methods = match.get("path"), match.get("host", ""), match.get("methods", [ANY])
    headers, query = _mapping(match.get("headers")), _mapping(match.get("query"))
    if not (isinstance(pattern, str) and isinstance(host, str) and isinstance(methods, list)):
        return None
    named = frozenset((name.lower(), show(value)) for name, value in headers.items())
    asked = frozenset((name, show(value)) for name, value in query.items())
    earlier = matches.setdefault((shape(pattern), host.lower(), named, asked), {})
    wanted = {method for method in methods if isinstance(method, str)}
    everywhere = earlier.keys() if ANY in wanted else earlier.keys() & {*wanted, ANY}
    found = min((earlier[method] for method in everywhere), key=lambda other: other[1], default=None)
    for method in wanted:
        earlier.setdefault(method, path)
    return found
