"""Works out what happens to one request, with the gateway's own router, providers and permissions."""

from __future__ import annotations

from typing import TypedDict

from gateway.assemble import provider, rule
from gateway.auth.configured import identify, permit
from gateway.auth.providers import BadCredential
from gateway.auth.roles import matrix
from gateway.cli.routes import limit_text
from gateway.config import Config
from gateway.config.model import ANY_METHOD, Breaker, Route
from gateway.errors import TITLES, Refused, Shed
from gateway.exchange import Call, Fields, Headers, Peer, Request, header
from gateway.routing.explain import why
from gateway.routing.path import normalise
from gateway.routing.router import Router


class Stage(TypedDict):
    stage: str
    settings: str


class Refusal(TypedDict):
    status: int
    code: str
    detail: str


class Caller(TypedDict):
    consumer: str
    provider: str
    scopes: list[str]
    roles: list[str]


class Other(TypedDict):
    route: str
    reason: str


class Explanation(TypedDict):
    method: str
    url: str
    path: str | None
    route: str | None
    params: dict[str, str]
    stages: list[Stage]
    targets: list[str]
    caller: Caller | None
    permitted: bool | None
    refusal: Refusal | None
    others: list[Other]


async def explain(config: Config, method: str, url: str, headers: Headers) -> Explanation:
    """What would happen to this request. `permitted` is None where no credential was given and one is needed."""
    host, target = _split(url, headers)
    said: Explanation = {
        "method": method,
        "url": url,
        "path": None,
        "route": None,
        "params": {},
        "stages": [],
        "targets": [],
        "caller": None,
        "permitted": None,
        "refusal": None,
        "others": [],
    }
    router = Router([rule(route, route) for route in config.routes])
    try:
        normal = normalise(target, host)
        said["path"] = normal.path.decode()
        reasons = why(router, method, host, normal, headers)
        said["others"] = [{"route": each.rule, "reason": each.reason} for each in reasons if not each.matched]
        match = router.match(method, host, normal, headers)
    except Refused as error:
        said["refusal"] = _refusal(error)
        return said
    route = match.target
    said["route"] = route.name
    said["params"] = dict(match.params)
    said["stages"] = _stages(config, route, method)
    said["targets"] = [target.url for target in config.upstreams[route.upstream].targets]
    await _ask_the_door(config, route, _call(method, target, headers, host, normal.query), said)
    return said


async def _ask_the_door(config: Config, route: Route, call: Call, said: Explanation) -> None:
    auth = route.auth
    providers = {name: provider(config, name) for name in auth.providers} if auth is not None else {}
    try:
        caller = await identify(config, auth, providers)(call)
        said["caller"] = {
            "consumer": caller.consumer,
            "provider": caller.provider,
            "scopes": sorted(caller.scopes),
            "roles": sorted(caller.roles),
        }
        permit(auth, matrix(config.auth.roles))(call.request.method, caller)
        said["permitted"] = True
    except (Refused, Shed) as error:
        if said["caller"] is None and not isinstance(error, BadCredential | Shed):
            return  # nothing was shown: whether it is permitted depends on the caller
        said["permitted"] = False
        said["refusal"] = _refusal(error)


def _stages(config: Config, route: Route, method: str) -> list[Stage]:
    """Every stage of the route in the order in which a request meets them."""
    upstream = config.upstreams[route.upstream]
    auth, retry, timeouts = route.auth, upstream.retry, upstream.timeouts
    stages: list[tuple[str, str]] = []
    if auth is None:
        stages.append(("identify", "nobody is asked: open to everybody"))
    else:
        stages.append(("identify", f"by {' or '.join(auth.providers)}{', or anonymous' if auth.optional else ''}"))
        stages.append(("permit", _permit_text(route, method)))
    stages += [("limit", limit_text(config, limit)) for limit in route.rate_limit]
    for entry in route.fallback:
        stages.append(("fallback", f"on {' '.join(map(str, entry.on))}: status {entry.status}"))
    stages.append(("deadline", f"{timeouts.total:g} s for everything below"))
    if retry.attempts > 1:
        repeats = "" if method in retry.methods else f", {method} only if nothing was sent"
        stages.append(
            (
                "retry",
                f"{retry.attempts} tries in all on {' '.join(map(str, retry.on))}{repeats}, budget {retry.budget:.0%}",
            )
        )
    stages.append(("balance", f"{upstream.balance} of {', '.join(target.url for target in upstream.targets)}"))
    if upstream.breaker is not None:
        stages.append(("breaker", _breaker_text(upstream.breaker)))
    stages.append(("try", f"{timeouts.try_:g} s, of which at most {timeouts.connect:g} s to connect"))
    return [{"stage": name, "settings": settings} for name, settings in stages]


def _permit_text(route: Route, method: str) -> str:
    scopes, roles = _needed(route, method), route.auth.roles if route.auth is not None else None
    needed = [f"scopes {' '.join(scopes)}"] if scopes else []
    needed += [f"role {' or '.join(roles)}"] if roles else []
    return ", and ".join(needed) or "anybody"


def _breaker_text(breaker: Breaker) -> str:
    return (
        f"per {breaker.per}: opens for {breaker.open_for:g} s after {breaker.consecutive_failures} failures in a row, "
        f"or {breaker.failure_rate:.0%} of {breaker.minimum_requests} or more in {breaker.window:g} s"
    )


def _needed(route: Route, method: str) -> tuple[str, ...]:
    """The scopes that this method needs: its own list, HEAD that of GET, else the list for any method."""
    if route.auth is None:
        return ()
    scopes = route.auth.scopes
    if method == "HEAD" and "HEAD" not in scopes:
        method = "GET"
    return scopes.get(method, scopes.get(ANY_METHOD, ()))


def _split(url: str, headers: Headers) -> tuple[bytes, bytes]:
    """Host and request target, as a client would send them for `url`."""
    given = header(headers, b"host")
    if url.startswith("/"):
        return given or b"localhost", url.encode()
    _, _, rest = url.partition("://") if "://" in url else ("", "", url)
    at = min((place for sign in "/?#" if (place := rest.find(sign)) >= 0), default=len(rest))
    authority, target = rest[:at].rpartition("@")[2], rest[at:]
    return given or authority.encode(), (target if target.startswith("/") else f"/{target}").encode()


def _call(method: str, target: bytes, headers: Headers, host: bytes, query: bytes) -> Call:
    call = Call(Request(method, target, Fields(headers, host=host), Peer("127.0.0.1", 0)), "explain")
    call.query = query
    return call


def _refusal(error: Refused | Shed) -> Refusal:
    return {"status": error.status, "code": error.code, "detail": error.detail or TITLES[error.code]}
