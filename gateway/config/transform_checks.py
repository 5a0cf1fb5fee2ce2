"""What is wrong with `transform`, `redirect` and `respond` beyond the values themselves: a parameter that the route's
path does not have, a header that the gateway tells already, redirects that lead in a circle.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol
from urllib.parse import quote, urlencode

from gateway.config.fields import Fault, Section
from gateway.config.paths import is_parameter
from gateway.config.providers import BearerProvider
from gateway.config.route_auth import RouteAuth
from gateway.config.transform import Redirect, Respond, Transform
from gateway.config.upstream import Upstream
from gateway.config.versions import Versions
from gateway.errors import Refused
from gateway.exchange import Call, Fields, Peer, Request
from gateway.routing.host import host_key
from gateway.routing.path import normalise
from gateway.routing.router import Router, Rule
from gateway.transform.fields import PARAM
from gateway.transform.redirect import compile_url, locator
from gateway.transform.template import LITERALS, names

MOST_REDIRECTS = 20
"""After as many browsers give up."""
SOMETHING = "~"
"""A segment that hardly any route spells out."""


class Shaped(Protocol):
    """What is asked of a route here."""

    @property
    def auth(self) -> RouteAuth | None: ...
    @property
    def transform(self) -> Transform | None: ...
    @property
    def upstreams(self) -> tuple[str, ...]: ...
    @property
    def versions(self) -> Versions | None: ...


def params_of(path: str) -> frozenset[str]:
    """The names of the parameters in a route's path."""
    return frozenset(segment[1:-1] for segment in path.split("/") if is_parameter(segment))


def faults(
    path: str, transform: Transform | None, redirect: Redirect | None, respond: Respond | None
) -> Iterator[Fault]:
    """What is wrong with them on a route with this path."""
    params = params_of(path)
    sections = {"transform": transform, "redirect": redirect, "respond": respond}
    for key, section in sections.items():
        for place, written in _texts(section.model_dump(by_alias=True) if section is not None else None, (key,)):
            if any(name.startswith(PARAM) and name.removeprefix(PARAM) not in params for name in names(written)):
                there = ", ".join(f"{{{PARAM}{name}}}" for name in sorted(params)) or "none"
                yield place, f"has a parameter that match.path does not have: there is {there}"
    if transform is not None and transform.strip_prefix is not None and not _begins(path, transform.strip_prefix):
        yield ("transform", "strip_prefix"), "has no effect: no path that this route matches begins with it"
    for own in ("redirect", "respond"):
        if sections[own] is not None and transform is not None:
            for key in sorted(transform.model_fields_set - {"response_headers"}):
                yield ("transform", key), f"has no effect beside {own}: nothing is forwarded"


def _texts(value: object, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    match value:
        case str():
            yield place, value
        case dict():
            for key, part in value.items():
                yield from _texts(part, (*place, key))
        case list() | tuple():
            for index, part in enumerate(value):
                yield from _texts(part, (*place, index))


def _begins(path: str, prefix: str) -> bool:
    """Some request that `path` matches begins with the segments of `prefix`."""
    pattern = path[1:].removesuffix("/").split("/")
    for index, segment in enumerate(prefix[1:].split("/")):
        if index == len(pattern):
            return False
        if pattern[index] == "**":
            return True
        if pattern[index] != segment and pattern[index] != "*" and not is_parameter(pattern[index]):
            return False
    return True


def clashes(
    routes: Sequence[Shaped], providers: Mapping[str, Section], upstreams: Mapping[str, Upstream]
) -> Iterator[Fault]:
    """Headers that a route sets and the gateway itself tells the upstream, or the client: they would get two."""
    for index, route in enumerate(routes):
        yield from _of_versions(index, route)
        edit = route.transform.request_headers if route.transform is not None else None
        if edit is None:
            continue
        told = dict(_told(route, providers, upstreams))
        for kind, given in (("set", edit.set), ("add", edit.add)):
            for name in given:
                if by := told.get(_plain(name)):
                    yield ("routes", index, "transform", "request_headers", kind, name), f"is set by {by} already"


def _of_versions(index: int, route: Shaped) -> Iterator[Fault]:
    edit = route.transform.response_headers if route.transform is not None else None
    if edit is None or route.versions is None or not route.versions.retiring:
        return
    for kind, given in (("set", edit.set), ("add", edit.add)):
        for name in given:
            if _plain(name) in ("deprecation", "sunset"):
                yield ("routes", index, "transform", "response_headers", kind, name), "is set by versions already"


def _told(
    route: Shaped, providers: Mapping[str, Section], upstreams: Mapping[str, Upstream]
) -> Iterator[tuple[str, str]]:
    for name in route.auth.providers if route.auth is not None else ():
        provider = providers.get(name)
        if isinstance(provider, BearerProvider):
            yield from ((_plain(header), f"the provider {name}") for header in provider.forward)
        if getattr(provider, "credential", "") == "sign":
            yield "authorization", f"the provider {name}"
    for name in route.upstreams:
        if name in upstreams and (header := upstreams[name].timeouts.header) is not None:
            yield _plain(header), f"timeouts of the upstream {name}"


def _plain(name: str) -> str:
    """As servers fold names into variables."""
    return name.lower().replace("_", "-").replace(".", "-")


def circles(rules: Sequence[Rule[Redirect | None]]) -> Iterator[Fault]:
    """Redirects that never end; `rules` are those of all routes, in their order."""
    if not any(rule.target for rule in rules):
        return
    router = Router(rules)
    for index, rule in enumerate(rules):
        if rule.target is not None and _endless(rule, router):
            yield ("routes", index, "redirect", "to"), "leads back to where it came from, again and again"


def _endless(rule: Rule[Redirect | None], router: Router[Redirect | None]) -> bool:
    """Follow a request that `rule` takes, as a browser would."""
    browser = Browser(rule, router)
    if browser.follow() is not rule:
        return False  # what would stand for its requests is another route's
    return all(browser.follow() is not None for _ in range(MOST_REDIRECTS))


class Browser:
    """Asks for what a rule takes, and goes where it is sent."""

    def __init__(self, rule: Rule[Redirect | None], router: Router[Redirect | None]) -> None:
        self._router = router
        self._abroad = False  # has been sent to a host of which we cannot say that it is ours
        pattern = rule.path.split("/")
        path = "/".join(SOMETHING if part in ("*", "**") or is_parameter(part) else part for part in pattern)
        host = (rule.host or SOMETHING).replace("*", SOMETHING).encode()
        methods = rule.methods or {"GET"}
        method = "GET" if "GET" in methods else min(methods)
        self._call = call = Call(Request(method, b"", Fields(list(rule.headers), host=host), Peer("", 0)), SOMETHING)
        call.path = quote(path, safe=LITERALS).encode()
        call.query = b"?" + urlencode(rule.query).encode() if rule.query else b""

    def follow(self) -> Rule[Redirect | None] | None:
        """The rule that sends it on; None where it stays, or is somewhere else."""
        call = self._call
        try:
            normal = normalise(call.path + call.query, b"")
            found = self._router.match(call.request.method, host_key(call.host), normal, call.request.headers)
            redirect = found.target
            if redirect is None or (self._abroad and found.rule.host is None):
                return None
            call.path, call.query, call.params = normal.path, normal.query, found.params
            to = compile_url(redirect.to, params_of(found.rule.path))
            self._go(locator(to, redirect.keep_query)(call))
        except (
            Refused,
            ValueError,
        ):  # no route, or a parameter that its path does not have: that has its own complaint
            return None
        if redirect.status < 307:
            call.request.method = "GET"
        return found.rule

    def _go(self, location: bytes) -> None:
        call = self._call
        scheme, mark, rest = location.partition(b"#")[0].partition(b"://")
        if mark:
            authority, slash, rest = rest.partition(b"/")
            self._abroad = self._abroad or authority != call.host
            call.host = authority
            scheme = slash + rest or b"/"
        call.path, question, query = scheme.partition(b"?")
        call.query = question + query
