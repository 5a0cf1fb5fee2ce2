"""Works out what happens to one request, with the gateway's own router, providers and permissions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypedDict

from gateway.auth.asking import Issuer
from gateway.auth.identity import Identity
from gateway.auth.keyset import KeySet
from gateway.auth.providers import BadCredential
from gateway.auth.roles import Matrix
from gateway.cli.entering import Client, CrossOrigin, Entered, Version, call_of, client_of, enter, lines
from gateway.cli.shaping import Answer, Forwarded, added_to_replies, answer, compression, forwarded, told
from gateway.config import Config
from gateway.config.model import Route
from gateway.config.route_auth import AllOf, RouteAuth
from gateway.describe.routes import targets_of
from gateway.describe.stages import Stage, needed, stages, upstreams_of
from gateway.errors import TITLES, Refused, Shed
from gateway.exchange import Call, Headers, header
from gateway.exchange import Caller as Known
from gateway.parts import Parts
from gateway.routing.configured import rules_of
from gateway.routing.explain import Reason, why
from gateway.routing.finder import Finder
from gateway.routing.path import normalise
from gateway.routing.router import Router, Rule
from gateway.routing.versions import Versions
from gateway.transform.cors import asked, preflights
from gateway.transform.security import OWN


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
    """As it was matched; what is forwarded of it stands in `forwarded`."""
    route: str | None
    params: dict[str, str]
    stages: list[Stage]
    targets: list[str]
    client: Client | None
    cors: CrossOrigin | None
    version: Version | None
    body_limit: int | None
    caller: Caller | None
    permitted: bool | None
    reason: str
    refusal: Refusal | None
    forwarded: Forwarded | None
    answer: Answer | None
    """What the gateway answers by itself, errors excepted."""
    compression: str | None
    """The coding in which the client gets an upstream's replies, "" for none; None where they are not compressed."""
    reply_headers: list[str]
    """Lines that the gateway adds to the reply on this route's account."""
    others: list[Other]


async def explain(
    config: Config,
    method: str,
    url: str,
    headers: Headers,
    client: str | None = None,
    now: Callable[[], float] = time.time,
) -> Explanation:
    """What would happen to this request. `permitted` is None where no credential was given and one is needed.

    `reason` says why it is permitted: which of what is required the caller has through something else. `client` is
    its address, None when it is not known; `now` is Unix time.
    """
    scheme, host, target = _split(url, headers)
    call = call_of(config, (method, target, headers), host, scheme, client)
    said = _silent(method, url)
    versions = {route.name: Versions(route.versions, now) for route in config.routes if route.versions is not None}
    rules = [each for route in config.routes for each in rules_of(route, route, versions.get(route.name))]
    try:
        route = _find(rules, call, said)
    except Refused as error:
        _refused(config, call, said, error)
    else:
        await _decide(config, route, call, enter(route, versions.get(route.name), call, now), said)
    return said


async def _decide(config: Config, route: Route, call: Call, entered: Entered, said: Explanation) -> None:
    said["body_limit"] = route.body_limit
    said["client"], said["cors"], said["version"] = client_of(call, entered), entered.cross_origin, entered.version
    version = (entered.version and entered.version["name"]) or ""
    said["stages"] = stages(config, route, said["method"], version)
    said["targets"] = [url for name in upstreams_of(route, version) for url in targets_of(config.upstreams[name])]
    said["reply_headers"] = lines(call.added)
    if entered.answer is not None:
        said["answer"] = told(entered.answer)
        return
    try:
        if entered.refusal is not None:
            raise entered.refusal
        _bound_body(call, route.body_limit)
        await _ask_the_door(config, route, call, said)
        await _shape(config, route, call, said)
    except (Refused, Shed) as error:
        said["permitted"] = False
        _refused(config, call, said, error)


def _silent(method: str, url: str) -> Explanation:
    """Nothing is known yet."""
    return {
        "method": method,
        "url": url,
        "path": None,
        "route": None,
        "params": {},
        "stages": [],
        "targets": [],
        "client": None,
        "cors": None,
        "version": None,
        "body_limit": None,
        "caller": None,
        "permitted": None,
        "reason": "",
        "refusal": None,
        "forwarded": None,
        "answer": None,
        "compression": None,
        "reply_headers": [],
        "others": [],
    }


def _find(rules: Sequence[Rule[Route]], call: Call, said: Explanation) -> Route:
    """The route that takes the call, as `Handler._find` finds it. Raises Refused."""
    request, fields = call.request, call.request.fields
    normal = normalise(request.target, fields.host)
    said["path"] = normal.path.decode()
    router, method = Router(rules), request.method
    if wanted := asked(request):
        others = preflights(rules, lambda route: route.cors is not None)
        with suppress(Refused):  # OPTIONS itself may have a route, or is refused for its own reason
            if others is not None and others.match(wanted, call.host, normal, fields.headers).target.cors is not None:
                router, method = others, wanted
    reasons = why(router, method, call.host, normal, fields.headers)
    taken = next((each.rule for each in reasons if each.matched), None)
    said["others"] = [*_others(reasons, taken)]
    call.path, call.query, match = Finder(router).find(method, request.target, call.host, fields.host, fields.headers)
    said["route"] = call.route = match.target.name
    said["params"] = dict(match.params)
    call.params, call.version = match.params, match.version
    return match.target


def _others(reasons: Sequence[Reason], taken: str | None) -> Iterator[Other]:
    """One reason for each other route, also for one with two rules: its path alone, and with a version in front."""
    by_route: dict[str, list[str]] = {}
    for each in reasons:
        if each.rule != taken:
            by_route.setdefault(each.rule, []).append(each.reason)
    for name, given in by_route.items():
        yield {"route": name, "reason": "; with a version in front: ".join(given)}


def _bound_body(call: Call, limit: int | None) -> None:
    """As far as its head announces the body. Raises Refused."""
    announced_length = call.request.fields.index.get(b"content-length", b"")
    if limit is not None and announced_length.isdigit() and int(announced_length) > limit:
        raise Refused("body_too_large", 413, f"the limit is {limit} bytes")


def _refused(config: Config, call: Call, said: Explanation, error: Refused | Shed) -> None:
    said["refusal"] = _refusal(error)
    said["reply_headers"] = lines(call.added + (OWN if config.security_headers else b""))


async def _shape(config: Config, route: Route, call: Call, said: Explanation) -> None:
    """What becomes of the request and of its reply, if it is permitted. Raises Refused."""
    try:
        said["forwarded"] = await forwarded(config, route, call)
    except Refused:
        if said["permitted"]:
            raise
        return  # the path may need to know who is calling
    said["answer"] = await answer(config, route, call)
    if said["answer"] is not None:
        said["reply_headers"] = lines(call.added)
        return
    said["reply_headers"] += await added_to_replies(route, call)
    if route.compress is not None:
        said["compression"] = compression(route.compress, call)


async def _ask_the_door(config: Config, route: Route, call: Call, said: Explanation) -> None:
    """Who is calling, and may they? Raises Refused, Shed."""
    auth = route.auth
    parts = Parts()
    identity = Identity(config, parts)
    try:
        call.caller = caller = await identity.identify(auth)(call)
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
        raise
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


def _split(url: str, headers: Headers) -> tuple[str, bytes, bytes]:
    """Scheme, host and request target, as a client would send them for `url`."""
    given = header(headers, b"host")
    if url.startswith("/"):
        return "http", given or b"localhost", url.encode()
    scheme, _, rest = url.partition("://") if "://" in url else ("http", "", url)
    at = min((place for sign in "/?#" if (place := rest.find(sign)) >= 0), default=len(rest))
    authority, target = rest[:at].rpartition("@")[2], rest[at:]
    path = target if target.startswith("/") else f"/{target}"
    return scheme.lower(), given or authority.encode(), path.encode()


def _refusal(error: Refused | Shed) -> Refusal:
    return {"status": error.status, "code": error.code, "detail": error.detail or TITLES[error.code]}
