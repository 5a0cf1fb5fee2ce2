"""`upstreams`: the services behind the gateway, and how failures of theirs are met."""

import re
import ssl
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gateway.config.complaints import cut, hint, show
from gateway.config.fields import (
    AsWhole,
    Duration,
    DurationOrZero,
    Fault,
    File,
    Flag,
    HostName,
    Method,
    Or,
    PositiveShare,
    Section,
    Share,
    SizeOrZero,
    Whole,
    given_for,
    one_of_required,
    refuse,
)
from gateway.config.health import (
    Balance,
    Discover,
    Eject,
    Health,
    Hedge,
    Percentile,
    SlowCalls,
    UpstreamQuota,
)
from gateway.config.limits import UpstreamConcurrency
from gateway.config.syntax import TOKEN, host_header, identity_header, split_authority, text

URL = re.compile(r"(https?)://([^/?#]*)(.*)", re.DOTALL)
FAILURES = ("connect_failure", "reset", "timeout")
IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")


def _target_url(value: object) -> str:
    """scheme://host:port, without a final slash."""
    found = URL.fullmatch(text(value))
    if not found:
        raise ValueError(f"{show(value)} does not begin with http:// or https://")
    scheme, authority, rest = found.groups()
    if "@" in authority:
        raise ValueError("a target's URL has no user name and no password")
    if rest not in ("", "/"):
        raise ValueError(f"a target's URL ends after the port: leave {show(cut(text(value), rest))} out")
    _, port = split_authority(cut(text(value), authority))
    if port == 0:
        raise ValueError("port 0 cannot be connected to")
    return f"{scheme}://{authority.lower()}"


def _url_alone(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


def failure(value: object, classes: tuple[str, ...]) -> str | int:
    """One of `classes`, or an error status."""
    if isinstance(value, str) and value in classes:
        return str(value)
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{3}", value, re.ASCII) else value
    if isinstance(number, int) and not isinstance(number, bool) and 400 <= number <= 599:
        return number
    raise ValueError(f"{show(value)} is none of {', '.join(classes)} or a status from 400 to 599{hint(value, classes)}")


def failures(*classes: str) -> tuple[PlainValidator, WithJsonSchema]:
    """How one failure that a policy reacts to is read and described."""
    known = {"anyOf": [{"enum": list(classes)}, {"type": "integer", "minimum": 400, "maximum": 599}]}
    return PlainValidator(lambda value: failure(value, classes)), WithJsonSchema(known)


def _retry_off(value: object) -> object:
    return {"attempts": 1} if value == "off" or value is False else value


def _breaker_off(value: object) -> object:
    return None if value == "off" or value is False else value


class Target(Section):
    """One address of a service. A URL alone may stand for it."""

    url: Annotated[str, PlainValidator(_target_url), WithJsonSchema({"type": "string", "pattern": "^https?://"})]
    """http:// or https://, host and port."""
    weight: Annotated[int, Field(ge=1, le=1000), AsWhole] = 1
    """Its share of the requests, in proportion to the others'."""
    priority: Annotated[int, Field(ge=0, le=100), AsWhole] = 0
    """Targets of a higher number are asked when too few of the lower ones are well."""

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0]

    @property
    def host(self) -> str:
        """IPv6 without brackets."""
        return split_authority(self.url.partition("://")[2])[0]

    @property
    def port(self) -> int:
        return split_authority(self.url.partition("://")[2])[1] or (443 if self.scheme == "https" else 80)


def _time_header(value: object) -> str:
    name = identity_header(value)
    if name.lower() in ("authorization", "cookie"):
        raise ValueError(f"{name} carries credentials, which would be lost")
    return name


TimeHeader = Annotated[
    str, PlainValidator(_time_header), WithJsonSchema({"type": "string", "pattern": f"^(?:{TOKEN.pattern})$"})
]


class Timeouts(Section):
    """How long to wait for an upstream."""

    connect: Duration = 1.0
    """For a connection, TLS included."""
    try_: Duration = Field(default=3.0, alias="try")
    """For one try, to the head of its reply."""
    total: Duration = 10.0
    """For all tries and the waits between them."""
    idle: Duration = 60.0
    """How long an unused connection is kept."""
    header: TimeHeader | None = None
    """Tells the upstream how many milliseconds are left, as X-Request-Timeout-Ms; heard from trusted proxies, too."""

    @model_validator(mode="after")
    def _try_within_total(self) -> Self:
        if self.try_ > self.total:
            refuse(
                [
                    (("try",), "is longer than timeouts.total, the time for all tries together (10s unless set)")
                    if "try_" in self.model_fields_set
                    else (("total",), "is shorter than timeouts.try, the time for a single try (3s unless set)")
                ]
            )
        return self


class Backoff(Section):
    """The wait before another try, with full jitter: from nothing to `base`, then twice that, up to `max`."""

    base: DurationOrZero = 0.05
    max: DurationOrZero = 2.0

    @model_validator(mode="after")
    def _base_within_max(self) -> Self:
        if self.base > self.max:
            refuse(
                [
                    (("base",), "is longer than backoff.max (2s unless set)")
                    if "base" in self.model_fields_set
                    else (("max",), "is shorter than backoff.base (50ms unless set)")
                ]
            )
        return self


Failure = Annotated[str | int, *failures(*FAILURES)]


class Retry(Section):
    """When to try again. `retry: off` means `attempts: 1`."""

    attempts: Annotated[int, Field(ge=1, le=20), AsWhole] = 3
    """Tries in all."""
    on: tuple[Failure, ...] = (*FAILURES, 502, 503, 504)
    """connect_failure, reset, timeout, and statuses."""
    methods: tuple[Method, ...] = IDEMPOTENT
    """Others are tried again only where nothing was sent."""
    backoff: Backoff = Backoff()
    budget: Share = 0.2
    """Retries as a share of requests: more would only add to an overload."""
    replay_limit: SizeOrZero = 64 * 1024
    """Larger request bodies stream through and are not sent again."""
    attempts_header: Flag = False
    """Say in X-Gateway-Attempts how many tries a reply took."""


class Breaker(Section):
    """When to stop asking a failing upstream for a while. `breaker: off` for never."""

    consecutive_failures: Whole = 5
    failure_rate: PositiveShare = 0.5
    """Within `window`, once there were `minimum_requests`."""
    window: Duration = 10.0
    minimum_requests: Whole = 20
    open_for: Duration = 10.0
    """Then `trials` requests are let through to see."""
    open_for_max: Duration | None = None
    """It is open twice as long each time a trial fails, up to this. Absent: always `open_for`."""
    trials: Whole = 3
    """How many tries may be under way while it is found out. Absent: 3, or `concurrency.limit` if that is less."""
    per: Literal["target", "upstream"] = "target"
    """Whether each target has a circuit of its own."""
    slow_calls: SlowCalls | None = None

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.open_for_max is not None and self.open_for_max < self.open_for:
            refuse([(("open_for_max",), "is shorter than breaker.open_for (10s unless set)")])
        return self


class Tls(Section):
    """TLS towards https:// targets. Certificates are always verified. Files are PEM, relative to this file."""

    ca: File | None = None
    """Authorities to trust instead of the system's."""
    certificate: File | None = None
    """The gateway's own, with `key`."""
    key: File | None = None
    """Without a password."""
    server_name: HostName | None = None
    """The name the certificate must have, where it is not the target's host."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        faults: list[Fault] = []
        if self.ca:
            try:
                context.load_verify_locations(self.ca)
            except OSError:  # ssl.SSLError is one
                faults.append((("ca",), "is not a PEM file with certificates"))
        if self.certificate and self.key:
            try:
                # A password, even a wrong one: without it OpenSSL would ask on the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
            except (OSError, ValueError):
                faults.append((("certificate",), "is not a PEM certificate with `key` as its key (without a password)"))
        elif self.certificate or self.key:
            faults.append((("certificate" if self.certificate else "key",), "needs certificate and key together"))
        refuse(faults)
        return self


def _host(value: object) -> str:
    return str(value) if value in ("upstream", "client") else host_header(value)


class Upstream(Section):
    """A service: its targets, and what the gateway does when it is slow or fails."""

    model_config = ConfigDict(json_schema_extra=one_of_required("targets", "discover"))

    targets: tuple[Annotated[Target, BeforeValidator(_url_alone), Or(type="string")], ...]
    """Empty beside `discover`."""
    discover: Discover | None = None
    balance: Balance = "round_robin"
    """How the next target is chosen: round_robin, least_requests, random (the better of two), peak_ewma (the quickest),
    or {hash: …}."""
    slow_start: Duration | None = None
    """A target that has come back gets its share little by little, over this time."""
    panic: Share = 0.5
    """When fewer of the targets than this are well, health and ejection are ignored, and open circuits tried early:
    better some answers than none."""
    timeouts: Timeouts = Timeouts()
    retry: Annotated[Retry, BeforeValidator(_retry_off), Or(enum=["off", False])] = Retry()
    breaker: Annotated[Breaker | None, BeforeValidator(_breaker_off), Or(enum=["off", False])] = Breaker()
    hedge: Hedge | None = None
    health: Health | None = None
    eject: Eject | None = None
    quota: UpstreamQuota | None = None
    concurrency: UpstreamConcurrency | None = None
    """How many tries may be under way at the same time."""
    tls: Tls | None = None
    host: Annotated[str, PlainValidator(_host), WithJsonSchema({"type": "string"})] = "upstream"
    """The Host header: `upstream` (the target's), `client` (as received), or a host."""

    @model_validator(mode="before")
    @classmethod
    def _found_or_named(cls, data: Any) -> Any:
        return given_for(data, "targets", ("discover",), ())

    @field_validator("targets", mode="after")
    @classmethod
    def _each_once(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        seen: set[str] = set()
        faults: list[Fault] = []
        for index, target in enumerate(targets):
            if target.url in seen:
                faults.append(((index,), "is the same target as one before it; for a larger share give it a weight"))
            seen.add(target.url)
        refuse(faults)
        return targets

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        breaker, gate = self.breaker, self.concurrency
        if breaker is not None and gate is not None and "trials" not in breaker.model_fields_set:
            trials = min(breaker.trials, gate.limit)
            self.__dict__["breaker"] = breaker.model_copy(update={"trials": trials})
        refuse([*self._faults()])
        return self

    def _faults(self) -> Iterator[Fault]:
        yield from self._faults_of_targets()
        patience = self.timeouts.try_
        if self.breaker is not None and self.concurrency is not None and self.breaker.trials > self.concurrency.limit:
            yield ("breaker", "trials"), "is above concurrency.limit: so many can never be under way"
        if self.breaker is not None and self.breaker.slow_calls and self.breaker.slow_calls.over >= patience:
            yield ("breaker", "slow_calls", "over"), "is not shorter than timeouts.try (3s unless set), when a try ends"
        if self.hedge is not None and not isinstance(self.hedge.after, Percentile) and self.hedge.after >= patience:
            yield ("hedge", "after"), "is not shorter than timeouts.try (3s unless set), when a try ends"

    def _faults_of_targets(self) -> Iterator[Fault]:
        if self.discover is None and not self.targets:
            yield ("targets",), "must have at least one entry"
        if self.discover is not None and self.targets:
            yield ("discover",), "cannot stand beside targets"
        if self.tls and self.discover is None and all(target.scheme != "https" for target in self.targets):
            yield ("tls",), "has no effect: no target begins with https://"
        if self.tls and self.discover is not None and self.discover.scheme != "https":
            yield ("tls",), "has no effect without discover.scheme: https"
        if self.eject is not None and len(self.targets) == 1:
            yield ("eject",), "has no effect: the only target is never set aside"
        if self.slow_start is not None and (self.health, self.eject, self.discover) == (None, None, None):
            yield ("slow_start",), "has no effect without health, eject or discover: nothing tells who has come back"
