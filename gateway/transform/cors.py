"""The CORS protocol of the Fetch standard (section 3.3), at the gateway: which pages may use a route. Pure.

A preflight is answered here, before anybody asks for credentials, which browsers never send with it. Where the page's
origin is not allowed it gets a 403 problem: to a browser that is as good as any answer without permission, and whoever
looks into it reads why. Where the method or a header is not allowed, the answer lists what is: the browser compares,
and its message names what is missing. All other requests go on, whatever their origin: CORS protects readers of
replies, not servers, and same-origin requests have an Origin too. Their replies, errors included, say who may read.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from gateway.config.cors import ANY, Cors
from gateway.errors import Refused
from gateway.exchange import Call, Reply, Request
from gateway.pipe import Layer, Send
from gateway.routing.router import Router, Rule

T = TypeVar("T")

LONGEST = 320
"""Bytes of an origin that is looked at: a scheme, a host name of 253 and a port take less."""

REMEMBERED = 1024
"""Origins that a pattern has taken and that are kept; when they are too many they are all dropped."""

LONGEST_METHOD = 32
"""Bytes of a requested method that is looked at: it is untrusted, and becomes a key of the finder's memory."""

REQUESTED = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:[ \t]*,[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+)*")
"""A list of header names, as Access-Control-Request-Headers has it."""

LONGEST_REQUESTED = 4096
"""Bytes of such a list that is repeated to its sender."""

WITHOUT_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
"""Allowed where neither `methods` nor the route names any. A `*` would be no wildcard with credentials."""

VARY = b"vary: origin\r\n"
"""On every reply that would be another one for another origin, also when this request had none: caches must know."""

METHOD, HEADERS = b"access-control-request-method", b"access-control-request-headers"
PRIVATE_NETWORK = b"access-control-request-private-network"

UNANNOUNCED = frozenset(
    (
        *(
            b"accept",
            b"accept-language",
            b"content-language",
            b"content-type",
            b"range",
        ),  # harmless values need no leave
        *(b"cookie", b"host", b"origin", b"referer", b"user-agent"),  # the browser's own
    )
)
"""Headers that a request may have although its preflight did not ask for them."""

MARK = b"access-control-"
"""How the names of all reply headers of the protocol begin."""

REFUSED = "pages of this origin may not use this route"


def asked(request: Request) -> str:
    """The method for which a preflight asks; "" when `request` is not a preflight.

    An OPTIONS request that lacks Origin or Access-Control-Request-Method is an ordinary one.
    """
    index = request.fields.index
    if request.method != "OPTIONS" or b"origin" not in index:
        return ""
    return index.get(METHOD, b"")[: LONGEST_METHOD + 1].decode("latin-1")


def announced(conditions: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """What a route that asks for headers can ask of preflights: those tell which headers will come, not what they say.

    The router compares each element of a list, so this is a condition like any other.
    """
    return tuple((HEADERS, name) for name, _ in conditions if name not in UNANNOUNCED)


def cors(settings: Cors, methods: Iterable[str] | None) -> Callable[[Call], Reply | None]:
    """A step of a route's door. `methods` are the route's own, None for all.

    Says in `call.added` who may read the reply; answers preflights, and raises Refused for those of other origins.
    """
    permission = _permission(settings)
    others = b"" if ANY in settings.origins else VARY
    preflight = _preflight(settings, settings.methods or methods or WITHOUT_METHODS)
    vary = b"vary: %b\r\n" % b", ".join(
        [b"origin", METHOD, HEADERS, *([PRIVATE_NETWORK] if settings.private_network else [])]
    )

    def step(call: Call) -> Reply | None:
        request = call.request
        said = permission(request.fields.index.get(b"origin", b""))
        if request.method != "OPTIONS" or not asked(request):
            call.added += said.readable + others if said is not None else others
            return None
        call.added += vary
        if said is None:
            raise Refused("forbidden", 403, REFUSED)
        call.added += said.usable + preflight(request)
        call.reason = "preflight"
        return Reply(204, [])

    return step


class Permission:
    """What one origin is told."""

    __slots__ = ("readable", "usable")

    def __init__(self, settings: Cors, origin: bytes) -> None:
        self.usable = b"access-control-allow-origin: %b\r\n" % origin
        if settings.credentials:
            self.usable += b"access-control-allow-credentials: true\r\n"
        self.readable = self.usable  # and which headers may be read, which is of no use to a preflight
        if settings.expose:
            self.readable += b"access-control-expose-headers: %b\r\n" % ", ".join(settings.expose).encode()


def _permission(settings: Cors) -> Callable[[bytes], Permission | None]:
    """By the Origin of a request, b"" when it has none. `*` is for all of them: it never depends on the request."""
    if ANY in settings.origins:
        everybody = Permission(settings, b"*")
        return lambda origin: everybody
    exact = {name.encode(): Permission(settings, name.encode()) for name in settings.origins if "://*." not in name}
    patterns = [name.encode() for name in settings.origins if "://*." in name]
    if not patterns:
        return exact.get
    below = _below(patterns)
    known = dict(exact)

    def permission(origin: bytes) -> Permission | None:
        found = known.get(origin)
        if found is None and len(origin) <= LONGEST and below.fullmatch(origin):
            if len(known) >= REMEMBERED + len(exact):
                known.clear()
                known.update(exact)
            found = known[origin] = Permission(settings, origin)
        return found

    return permission


def _below(patterns: Sequence[bytes]) -> re.Pattern[bytes]:
    """All of them in one: `*.` is one label or more, each with its dot, so nothing merely ends like the domain.

    A dot is no part of a label, so there is one way to read each origin: no backtracking beyond its length.
    """
    parts = (pattern.split(b"*.", 1) for pattern in patterns)
    return re.compile(
        b"|".join(b"%b(?:[a-z0-9_-]+\\.)+%b" % (re.escape(scheme), re.escape(domain)) for scheme, domain in parts)
    )


def _preflight(settings: Cors, methods: Iterable[str]) -> Callable[[Request], bytes]:
    """What preflights of an allowed origin are told besides."""
    fixed = b"access-control-allow-methods: %b\r\n" % ", ".join(sorted(methods)).encode()
    if settings.max_age is not None:
        fixed += b"access-control-max-age: %d\r\n" % math.ceil(settings.max_age)
    any_header = ANY in settings.headers
    if settings.headers and not any_header:
        fixed += b"access-control-allow-headers: %b\r\n" % ", ".join(settings.headers).encode()
    private_network = settings.private_network

    def told(request: Request) -> bytes:
        index = request.fields.index
        lines = fixed
        if any_header:
            # Repeated, because `*` is none with credentials, and never means Authorization.
            names = index.get(HEADERS, b"")
            if len(names) <= LONGEST_REQUESTED and REQUESTED.fullmatch(names):
                lines += b"access-control-allow-headers: %b\r\n" % names
        if private_network and index.get(PRIVATE_NETWORK) == b"true":
            lines += b"access-control-allow-private-network: true\r\n"
        return lines

    return told


def without_cors() -> Layer:
    """Takes away what the upstream says about CORS: a second permission would make browsers refuse both."""

    def layer(send: Send) -> Send:
        silent: bytes | None = None  # the fields of a reply that says nothing: most repeat those of the last one

        async def cleared(call: Call) -> Reply:
            nonlocal silent
            reply = await send(call)
            lines = reply.lines
            if lines is not None and lines == silent:
                return reply
            kept = [field for field in reply.headers if not field[0].startswith(MARK)]
            if len(kept) == len(reply.headers):
                silent = lines
            else:
                reply.headers = kept
                reply.lines = None
            return reply

        return cleared

    return layer


def preflights(rules: Sequence[Rule[T]], answers: Callable[[T], bool]) -> Router[T] | None:
    """All routes as a preflight sees them: it names the headers to come, but not what they say.

    None when none of them `answers` preflights.
    """
    if not any(answers(each.target) for each in rules):
        return None
    # Where preflights cannot tell routes apart, the first one counts that answers them.
    in_order = sorted(rules, key=lambda each: not answers(each.target))
    return Router([replace(each, headers=announced(each.headers)) for each in in_order])
