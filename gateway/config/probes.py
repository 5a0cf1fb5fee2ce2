"""`probes`: requests that the gateway makes to its own routes now and then, and what their replies must be."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, PlainValidator, WithJsonSchema, field_validator, model_validator

from gateway.config.complaints import show
from gateway.config.fallback import json_value
from gateway.config.fields import (
    Duration,
    Fault,
    HeaderName,
    HeaderValue,
    Method,
    Name,
    SecretHeaders,
    Section,
    Text,
    refuse,
)
from gateway.config.health import ProbeHost, ProbePath, Statuses, StatusRange
from gateway.config.syntax import Network, each_header_once, text
from gateway.errors import Refused
from gateway.exchange import Headers
from gateway.http.trust import address_in
from gateway.routing.configured import rules_of
from gateway.routing.finder import Finder
from gateway.routing.router import Router, Rule
from gateway.routing.versions import Versions

if TYPE_CHECKING:
    from gateway.config.listen import Listen
    from gateway.config.route import Route

HOST = "localhost"
"""Whom a probe asks for that names nobody."""


def _json_path(value: object) -> str:
    """Names of members and positions in lists, with dots between them."""
    if not all(text(value).split(".")):
        raise ValueError(f"{show(value)} is not a path such as items.0.id")
    return str(value)


JsonPath = Annotated[str, PlainValidator(_json_path), WithJsonSchema({"type": "string"})]
JsonValue = Annotated[Any, PlainValidator(json_value), WithJsonSchema({})]


class Expect(Section):
    """What a reply must be: all of this."""

    status: Statuses = (StatusRange(200, 299),)
    """200-299, 204, or a list."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    """Exact values; parameters behind a `;` count only where they are written here."""
    json_: dict[JsonPath, JsonValue] = Field(default_factory=dict, alias="json")
    """Values within a JSON body, by their path: `items.0.id`."""
    within: Duration | None = None
    """To the last byte of the reply."""

    @field_validator("headers", mode="after")
    @classmethod
    def _each_once(cls, headers: dict[str, str]) -> dict[str, str]:
        return each_header_once(headers)


class Probe(Section):
    """A request to one of the gateway's own routes, over its own listener, like any client's."""

    name: Name
    """For metrics and alerts; unique."""
    method: Method = "GET"
    path: ProbePath
    """With its query."""
    host: ProbeHost = HOST
    """The Host header."""
    headers: SecretHeaders = Field(default_factory=dict)
    body: Text | None = None
    every: Duration = 30.0
    """From the beginning of one run to that of the next."""
    timeout: Duration = 5.0
    """For all of a run."""
    expect: Expect = Field(default_factory=Expect)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        refuse([*self._faults()])
        return self

    def _faults(self) -> Iterator[Fault]:
        if self.method == "CONNECT":
            yield ("method",), "asks for no route"
        if self.body is not None and self.method in ("GET", "HEAD", "TRACE"):
            yield ("body",), f"means nothing with {self.method}"
        if self.expect.json_ and self.method == "HEAD":
            yield ("expect", "json"), "cannot be seen: a reply to HEAD has no body"
        if self.expect.within is not None and self.expect.within > self.timeout:
            yield ("expect", "within"), "is longer than timeout (5s unless set)"
        if self.timeout > self.every:
            if "timeout" in self.model_fields_set:
                yield ("timeout",), "is longer than every (30s unless set)"
            else:
                yield ("every",), "is shorter than timeout (5s unless set)"

    @property
    def fields(self) -> Headers:
        """Its headers as the router sees them."""
        said = ((name, value.get_secret_value()) for name, value in self.headers.items())
        return [(name.lower().encode(), value.encode("latin-1")) for name, value in said]


def over_tls(listen: "Listen") -> bool:
    """Which of the gateway's listeners probes use: a plain one, unless there is none or it sends everybody away."""
    return listen.http is None or listen.redirect_to_https is not None


def nearest(host: str) -> str:
    """Where to connect to a listener on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nobody listens here


def faults(
    probes: Sequence[Probe], routes: "Sequence[Route]", listen: "Listen", trusted: Sequence[Network]
) -> Iterator[Fault]:
    """What is wrong with probes in this gateway."""
    if not probes:
        return
    if reason := _shut_out(listen, trusted):
        yield ("probes",), reason
    names = [probe.name for probe in probes]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield ("probes", index, "name"), f"is also the name of probes[{names.index(name)}]"
    finder = _finder(routes)
    for index, probe in enumerate(probes):
        if reason := _untaken(finder, probe):
            yield ("probes", index, "path"), reason


def _finder(routes: "Sequence[Route]") -> Finder[None]:
    """The way of every request to its route, as in the gateway."""
    nothing = None
    rules: list[Rule[None]] = []
    for route in routes:
        versions = Versions(route.versions, lambda: 0.0) if route.versions is not None else None
        rules += rules_of(route, nothing, versions)
    return Finder(Router(rules))


def _untaken(finder: Finder[None], probe: Probe) -> str:
    """Why no route takes it; "" when one does."""
    host = probe.host.encode()
    try:
        finder.find(probe.method, probe.path.encode(), host, host, probe.fields)
    except Refused as refusal:
        asked = f"{probe.method} {show(probe.path.partition('?')[0])}"
        why = f" ({refusal.detail or refusal.code})"
        return f"no route takes {asked} of host {show(probe.host)}{why}"
    return ""


def _shut_out(listen: "Listen", trusted: Sequence[Network]) -> str:
    """Why probes cannot use the gateway's listener; "" when they can."""
    secure = over_tls(listen)
    https = listen.https if secure else None
    if https is not None and https.client_ca is not None and https.client_certificate == "required":
        return "have no client certificate, which listen.https requires: add a listen.http on 127.0.0.1"
    usable = (address for address, tls in listen.clients if tls == secure and not (tls and address.path))
    first = next(usable, None)
    if first is None:
        return "cannot use TLS over a unix socket: add a listen.http on 127.0.0.1, or a listen.https with a port"
    at = ("127.0.0.1", "::1") if first.host == "localhost" else (nearest(first.host),)
    if listen.proxy_protocol and any(address_in(each, trusted) for each in at):
        return "send no PROXY header, but come from this machine, of which listen.proxy_protocol asks for one"
    return ""
