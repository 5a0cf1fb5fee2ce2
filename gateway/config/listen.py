"""`listen`, `store`, `wire` and `logging`: where the gateway listens, what it shares, its limits, its log."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from cryptography.x509 import load_pem_x509_certificate
from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    WithJsonSchema,
    model_validator,
)

from gateway.config import store_url
from gateway.config.complaints import show
from gateway.config.fields import (
    Address,
    Duration,
    DurationOrZero,
    Fault,
    File,
    Flag,
    Or,
    OrOne,
    Section,
    Size,
    SizeOrZero,
    Text,
    Whole,
    one_or_more,
    refuse,
    whole,
)
from gateway.config.syntax import Address as Where
from gateway.config.syntax import text

DEFAULT_BODY_LIMIT = 10 * 1024**2


def _off(value: object) -> object:
    return None if value == "off" or value is False else value


def _redirect(value: object) -> int | None:
    """The port to redirect to: 0 for that of the listener, None for no redirect."""
    if value is True or value == "true":
        return 0
    if value is False or value == "false":
        return None
    port = whole(value)
    if not 1 <= port <= 65535:
        raise ValueError(f"{show(value)} is not a port: a number up to 65535")
    return port


def _store_url(value: object) -> str:
    """memory, embedded, or Redis by URL. Never quoted in a message: it may carry a password."""
    if value in ("memory", "embedded"):
        return str(value)
    store_url.parse(text(value))
    return str(value)


Urls = Annotated[tuple[Address, ...], Field(min_length=1), BeforeValidator(one_or_more), OrOne()]


def unusable_pair(certificate: Path, key: Path) -> str:
    """Why a server cannot use the two files together; "" when it can."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A password, even a wrong one: without it OpenSSL would ask on the terminal.
        context.load_cert_chain(certificate, key, password="")
        # Its names are read by another parser, which takes no "TRUSTED CERTIFICATE" for one.
        load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        return "is not a PEM certificate with `key` as its key (without a password)"
    return ""


def unusable_authorities(file: Path) -> str:
    """Why nobody can be verified by what is in the file; "" when they can."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(file)
    except OSError:
        return "is not a PEM file with certificates"
    return ""


class Pair(Section):
    """A certificate and its key."""

    certificate: File
    """With the chain up to the authority behind it."""
    key: File
    """Without a password."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if reason := unusable_pair(self.certificate, self.key):
            refuse([(("certificate",), reason)])
        return self


class CertificatePair(Pair):
    """A certificate and its key, PEM files relative to this one. Renewed files are picked up while it runs."""


class Https(Section):
    """The listener for TLS 1.2 and 1.3. Files are PEM, relative to this one."""

    address: Urls
    """host:port, [::1]:port, unix:path, or a list of them."""
    certificate: File
    """With the chain up to the authority behind it. Renewed files are picked up while it runs."""
    key: File
    """Without a password."""
    certificates: tuple[CertificatePair, ...] = ()
    """More of them: a client gets the one whose names have the host it asks for, else the first."""
    client_ca: File | None = None
    """Authorities whose client certificates are accepted; without it none is asked for."""
    client_certificate: Literal["optional", "required"] = "required"
    """Whether a client without one is served all the same."""
    hsts: Duration | None = None
    """How long browsers shall use https only (Strict-Transport-Security)."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        faults: list[Fault] = []
        if reason := unusable_pair(self.certificate, self.key):
            faults.append((("certificate",), reason))
        if self.client_ca is None and "client_certificate" in self.model_fields_set:
            faults.append((("client_certificate",), "has no effect without client_ca"))
        if self.client_ca is not None and (reason := unusable_authorities(self.client_ca)):
            faults.append((("client_ca",), reason))
        refuse(faults)
        return self

    @property
    def pairs(self) -> list[tuple[Path, Path]]:
        """All certificates and their keys, the first of them for whoever asks for no name or an unknown one."""
        return [(self.certificate, self.key), *((pair.certificate, pair.key) for pair in self.certificates)]


class AdminTls(Pair):
    """TLS 1.2 and 1.3 for operators. Files are PEM, relative to this one; renewed ones are picked up while it runs."""

    client_ca: File | None = None
    """Authorities whose client certificates are as good as the token."""

    @model_validator(mode="after")
    def _authorities(self) -> Self:
        if self.client_ca is not None and (reason := unusable_authorities(self.client_ca)):
            refuse([(("client_ca",), reason)])
        return self


THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class Listen(Section):
    """Where the gateway listens."""

    http: Annotated[Urls | None, BeforeValidator(_off), Or(enum=["off", False])] = (Where("127.0.0.1", 8080),)
    """For clients: host:port, [::1]:port, unix:path, or a list of them. Port 0 takes any free one. `off` for none."""
    https: Https | None = None
    """For clients over TLS."""
    redirect_to_https: Annotated[
        int | None, PlainValidator(_redirect), WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "integer"}]})
    ] = None
    """Answer plain requests with a redirect to https: true for the port of listen.https, or the port clients see."""
    proxy_protocol: Flag = False
    """Connections from `trusted_proxies` begin with a PROXY header (version 1 or 2) that tells the client's address."""
    admin: Annotated[Address | None, BeforeValidator(_off), Or(enum=["off", False])] = Where("127.0.0.1", 9901)
    """For operators: /metrics, /healthz, /readyz and the admin API. `off` for none."""
    admin_token: SecretStr | None = None
    """Asked for by the admin API (not by metrics and health). Without it the API answers this machine only."""
    admin_tls: AdminTls | None = None
    """Serve operators over TLS."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        faults: list[Fault] = []
        taken: set[Where] = set()
        for part, addresses in (("http", self.http or ()), ("https", self.https.address if self.https else ())):
            place = (part,) if part == "http" else (part, "address")
            named = [address for address in addresses if address.path or address.port]
            if len(named) != len(set(named)):
                faults.append((place, "an address is here twice"))
            if taken & set(named):
                faults.append((place, "is the address of listen.http, too"))
            if self.admin in named:
                own = ("admin",) if "admin" in self.model_fields_set else place
                faults.append((own, "clients and operators cannot be served at the same address"))
            taken |= set(named)
        if self.http is None and self.https is None:
            faults.append((("http",), "is off, and there is no listen.https: nobody could be served"))
        if self.admin is None and self.admin_tls is not None:
            faults.append((("admin_tls",), "has no effect without listen.admin"))
        if self.redirect_to_https is not None and (self.https is None or self.http is None):
            missing = "https" if self.https is None else "http"
            faults.append((("redirect_to_https",), f"has no effect without listen.{missing}"))
        refuse(faults)
        return self

    def at(self, host: str, port: int) -> Where | None:
        """The listener that answers there, as far as the name tells."""
        for address in [*(address for address, _ in self.clients), *([self.admin] if self.admin else [])]:
            here = address.host in (*THIS_MACHINE, "0.0.0.0", "::")  # noqa: S104
            if address.port == port and (address.host == host or (here and host in THIS_MACHINE)):
                return address
        return None

    @property
    def clients(self) -> Iterator[tuple[Where, bool]]:
        """Every address for clients, and whether it speaks TLS."""
        yield from ((address, False) for address in self.http or ())
        yield from ((address, True) for address in (self.https.address if self.https else ()))


class Store(Section):
    """Where the counters of rate limits live. Not said: `memory` for one worker, `embedded` for several."""

    url: Annotated[
        str,
        PlainValidator(_store_url),
        PlainSerializer(store_url.masked),
        WithJsonSchema({"type": "string", "pattern": r"^(?:memory|embedded|rediss?(?:\+sentinel|\+cluster)?://.+)$"}),
        Field(repr=False),
    ] = "memory"
    """memory (each process alone), embedded (one Valkey for all workers), redis://…, redis+sentinel://… and such."""
    on_failure: Literal["local", "open", "closed"] = "local"
    """While the store is away: count in this process, let everything pass, or refuse."""
    timeout: Duration = 0.05
    """The longest that one check may wait for the store."""
    prefix: Text = "gw:"
    """In front of every key, so that several gateways can share a store."""


class Wire(Section):
    """Limits of the HTTP listener."""

    header_limit: Size = 32 * 1024
    """Largest request head; beyond it 431."""
    target_limit: Size = 8 * 1024
    """Longest request target; beyond it 414."""
    body_limit: SizeOrZero = DEFAULT_BODY_LIMIT
    """Largest request body; beyond it 413. A route may set its own, or none."""
    connections: Whole = 10_000
    """Client connections at a time, shared out evenly among the workers; one more is answered with 503."""
    header_timeout: Duration = 10.0
    """For a whole request head; then 408."""
    body_timeout: Duration = 30.0
    """Between two pieces of a request body; then 408."""
    body_rate: SizeOrZero = 240
    """Bytes of a request body that must come per second on the average, after a start of 5s; then 408. `0B`: none."""
    idle_timeout: Duration = 75.0
    """For a kept-alive connection without a request."""
    lame_duck: DurationOrZero = 1.0
    """From not being ready any more (SIGTERM) to accepting no more: what a load balancer needs to notice."""
    drain_timeout: Duration = 30.0
    """For requests under way when the gateway stops."""
