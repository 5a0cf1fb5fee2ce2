"""`routes[].cors`: whose pages may use a route from within a browser.

An origin is written as browsers write it (HTML, "ASCII serialisation of an origin"), because it is compared byte by
byte: `https://app.example.com`, never with a path, a default port or capitals.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from gateway.config.complaints import cut, hint, show
from gateway.config.fields import (
    DurationOrZero,
    Fault,
    Flag,
    HeaderName,
    Method,
    OrOne,
    Section,
    one_or_more,
    refuse,
)
from gateway.config.syntax import split_authority, text

ANY = "*"
NULL = "null"
"""What sandboxed frames, local files and some redirects send: any page can bring it about."""

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*", re.ASCII)
DEFAULT_PORTS = {"http": 80, "https": 443}


def origin(value: object) -> str:
    """scheme://host[:port] as a browser sends it, perhaps with `*.` in front of a domain; or `*`, or `null`."""
    written = text(value)
    if written in (ANY, NULL):
        return str(value)
    scheme, found, authority = written.partition("://")
    if not found or not SCHEME.fullmatch(scheme):
        raise ValueError(f"{show(value)} is not an origin such as https://app.example.com")
    authority, *path = authority.split("/", 1)
    below = authority.startswith("*.")
    host, port = split_authority(cut(written, authority.removeprefix("*.")))
    host = _plain_host(host.lower(), below)
    end = "" if port in (None, DEFAULT_PORTS.get(scheme.lower())) else f":{port}"
    exact = f"{scheme.lower()}://{'*.' if below else ''}{host}{end}"
    if exact != written:
        wrong = "has a path" if path else "is not written as browsers send it"
        raise ValueError(f"{show(value)} {wrong}" + hint(value, [exact]))
    return str(value)


def _plain_host(host: str, below: bool) -> str:
    """Of an IPv6 address there is one spelling only, the shortest; and nothing is below an address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if below:
        raise ValueError("'*.' stands in front of a domain, not of an address")
    if "%" in host:
        raise ValueError("the address in an origin names no interface")
    return f"[{address}]" if address.version == 6 else host


Origin = Annotated[str, PlainValidator(origin), WithJsonSchema({"type": "string", "pattern": r"^(\*|null|.+://.+)$"})]
Names = Annotated[tuple[HeaderName, ...], BeforeValidator(one_or_more), OrOne()]
"""Of headers, or `*` alone for all."""


class Cors(Section):
    """Pages of these origins may use the route (the CORS protocol of the Fetch standard)."""

    origins: Annotated[tuple[Origin, ...], Field(min_length=1), BeforeValidator(one_or_more), OrOne()]
    """https://app.example.com, https://*.example.com for all hosts below it, or * for every page."""
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] | None = None
    """Absent: those of the route."""
    headers: Names = (ANY,)
    """Which request headers pages may set, besides those that need no permission. Absent: any."""
    expose: Names = ()
    """Which reply headers pages may read, besides those that need no permission."""
    credentials: Flag = False
    """Whether the browser may send cookies and certificates along."""
    max_age: DurationOrZero | None = None
    """How long browsers remember a permission. Absent: their own 5 seconds."""
    private_network: Flag = False
    """Whether public pages may use it in a private network (Access-Control-Request-Private-Network)."""

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        refuse([*self._faults()])
        return self

    def _faults(self) -> Iterator[Fault]:
        for key, names in (("origins", self.origins), ("headers", self.headers), ("expose", self.expose)):
            if ANY in names and len(names) > 1:
                yield (key, names.index(ANY)), "'*' is everything already: it stands alone"
        if not self.credentials:
            return
        if ANY in self.origins:
            yield (
                ("origins", self.origins.index(ANY)),
                "'*' with credentials would let every page act as its visitor: name the origins",
            )
        if NULL in self.origins:
            yield (
                ("origins", self.origins.index(NULL)),
                "'null' with credentials would let every page act as its visitor: a sandboxed frame has this origin",
            )
        if ANY in self.expose:
            yield ("expose", 0), "with credentials browsers take '*' for a name: name the headers"

    def unserved(self, served: tuple[str, ...] | None) -> Iterator[Fault]:
        """Methods that could be allowed in vain, because the route does not have them; None is all."""
        if served is None:
            return
        known = {*served, *(("HEAD",) if "GET" in served else ())}
        for index, method in enumerate(self.methods or ()):
            if method not in known:
                yield ("cors", "methods", index), "has no effect: match.methods does not have this method"
