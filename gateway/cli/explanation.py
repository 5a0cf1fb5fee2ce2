"""Works out what happens to one request, with the gateway's own router, providers and permissions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

from gateway.assemble import rule
from gateway.auth.asking import Issuer
from gateway.auth.claim_rules import value_text
from gateway.auth.identity import Identity
from gateway.auth.keyset import KeySet
from gateway.auth.providers import BadCredential
from gateway.auth.roles import Matrix
from gateway.cli.routes import limit_text
from gateway.config import Config
from gateway.config.model import Breaker, Route
from gateway.config.route_auth import ANY_METHOD, AllOf, AnyOf, RouteAuth
from gateway.errors import TITLES, Refused, Shed
from gateway.exchange import Call, Fields, Headers, Peer, Request, header
from gateway.exchange import Caller as Known
from gateway.parts import Parts
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
    reason: str
    refusal: Refusal | None
    others: list[Other]


async def explain(config: Config, method: str, url: str, headers: Headers) -> Explanation:
    """What would happen to this request. `permitted` is None where no credential was given and one is needed.

    `reason` says why it is permitted: which of what is required the caller has through something else.
    """
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
        "reason": "",
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
    parts = Parts()
    identity = Identity(config, parts)
    try:
        caller = await identity.identify(auth)(call)
        said["caller"] = {
            "consumer": caller.consumer,
            "provider": caller.provider,
            "scopes": sorted(caller.scopes),
            "roles": sorted(caller.roles),
        }
        identity.permit(auth)(call.request.method, caller)
        said["permitted"] = True
        if auth is not None:
            said["reason"] = ", ".join(_reasons(auth, call.request.method, caller, identity.roles))
    except (Refused, Shed) as error:
        if said["caller"] is None and error.status == 401 and not isinstance(error, BadCredential):
            return  # nothing was shown: whether it is permitted depends on the caller
        said["permitted"] = False
        said["refusal"] = _refusal(error)
    finally:
        for keys in parts.of(KeySet):
            await keys.close()
        for issuer in parts.of(Issuer):
            await issuer.close()


def _stages(config: Config, route: Route, method: str) -> list[Stage]:
    """Every stage of the route in the order in which a request meets them."""
    upstream = config.upstreams[route.upstream]
    auth, retry, timeouts = route.auth, upstream.retry, upstream.timeouts
    stages: list[tuple[str, str]] = []
    if auth is None:
        stages.append(("identify", "nobody is asked: open to everybody"))
    else:
        stages.append(("identify", f"by {' or '.join(auth.providers)}{', or anonymous' if auth.optional else ''}"))
        stages.append(("permit", _permit_text(auth, method)))
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


def _permit_text(auth: RouteAuth, method: str) -> str:
    scopes = [each if isinstance(each, str) else f"({' or '.join(each.any)})" for each in _needed(auth, method)]
    needed = [f"scopes {' '.join(scopes)}"] if scopes else []
    if isinstance(auth.roles, AllOf):
        needed.append(f"roles {' and '.join(auth.roles.all)}")
    elif auth.roles:
        needed.append(f"role {' or '.join(auth.roles)}")
    needed += [f"claim {name} {' or '.join(map(value_text, values))}" for name, values in auth.claims.items()]
    if auth.max_age is not None:
        needed.append(f"authenticated within {auth.max_age:g} s")
    return ", and ".join(needed) or "anybody"


def _reasons(auth: RouteAuth, method: str, caller: Known, known: Matrix) -> Iterator[str]:
    """Of each scope and role that is required and held, where it comes from."""
    for entry in _needed(auth, method):
        choice = frozenset((entry,) if isinstance(entry, str) else entry.any)
        scope = min(known.granted(caller.scopes, caller.roles, choice), key=lambda one: (one not in caller.scopes, one))
        own = scope in caller.scopes
        yield scope if own else f"{scope} through {known.through(scope, caller.scopes, caller.roles)}"
    wanted = auth.roles.all if isinstance(auth.roles, AllOf) else auth.roles or ()
    for role in wanted:
        givers = [own for own in sorted(caller.roles) if role in known.held(frozenset((own,)))]
        if givers:
            yield f"role {role}" if role in givers else f"role {role} through role {givers[0]}"


def _breaker_text(breaker: Breaker) -> str:
    return (
        f"per {breaker.per}: opens for {breaker.open_for:g} s after {breaker.consecutive_failures} failures in a row, "
        f"or {breaker.failure_rate:.0%} of {breaker.minimum_requests} or more in {breaker.window:g} s"
    )


def _needed(auth: RouteAuth, method: str) -> tuple[str | AnyOf, ...]:
    """The scopes that this method needs: its own list, HEAD that of GET, else the list for any method."""
    if method == "HEAD" and "HEAD" not in auth.scopes:
        method = "GET"
    return auth.scopes.get(method, auth.scopes.get(ANY_METHOD, ()))


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
