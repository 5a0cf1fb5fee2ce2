"""Works out what happens to one request, with the gateway's own router, providers and permissions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

from gateway.assemble import rule
from gateway.auth.asking import Issuer
from gateway.auth.identity import Identity
from gateway.auth.keyset import KeySet
from gateway.auth.providers import BadCredential
from gateway.auth.roles import Matrix
from gateway.cli.routes import targets_of
from gateway.cli.stages import Stage, needed, stages
from gateway.config import Config
from gateway.config.model import Route
from gateway.config.route_auth import AllOf, RouteAuth
from gateway.errors import TITLES, Refused, Shed
from gateway.exchange import Call, Fields, Headers, Peer, Request, header
from gateway.exchange import Caller as Known
from gateway.parts import Parts
from gateway.routing.explain import why
from gateway.routing.path import normalise
from gateway.routing.router import Router


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
    said["stages"] = stages(config, route, method)
    said["targets"] = [url for name in route.upstreams for url in targets_of(config.upstreams[name])]
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


def _reasons(auth: RouteAuth, method: str, caller: Known, known: Matrix) -> Iterator[str]:
    """Of each scope and role that is required and held, where it comes from."""
    for entry in needed(auth, method):
        choice = frozenset((entry,) if isinstance(entry, str) else entry.any)
        scope = min(known.granted(caller.scopes, caller.roles, choice), key=lambda one: (one not in caller.scopes, one))
        own = scope in caller.scopes
        yield scope if own else f"{scope} through {known.through(scope, caller.scopes, caller.roles)}"
    wanted = auth.roles.all if isinstance(auth.roles, AllOf) else auth.roles or ()
    for role in wanted:
        givers = [own for own in sorted(caller.roles) if role in known.held(frozenset((own,)))]
        if givers:
            yield f"role {role}" if role in givers else f"role {role} through role {givers[0]}"


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
