"""`routes`: which requests are taken, from whom, how often, and who answers them."""

from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from gateway.config.addresses import Networks, shut_out
from gateway.config.compress import CompressOrNot
from gateway.config.cors import Cors
from gateway.config.fallback import Fallback
from gateway.config.fields import (
    Fault,
    HeaderName,
    HeaderValue,
    HostPattern,
    Method,
    Name,
    OrOne,
    PathPattern,
    Section,
    SizeOrNone,
    Text,
    given_for,
    one_of_required,
    one_or_more,
    refuse,
)
from gateway.config.health import Sticky
from gateway.config.limits import Priority, RateLimit, RouteConcurrency
from gateway.config.listen import DEFAULT_BODY_LIMIT
from gateway.config.logging import LoggedShare
from gateway.config.route_auth import ANY_METHOD, RouteAuth
from gateway.config.slo import Slo
from gateway.config.syntax import each_header_once
from gateway.config.traffic import FaultInjection, Idempotency, Mirror, Split, sharing, split_faults
from gateway.config.transform import Redirect, Respond, Transform
from gateway.config.transform_checks import faults as transform_faults
from gateway.config.versions import Versions
from gateway.resilience.retry_policy import IDEMPOTENT

ENDS = ("upstream", "split", "versions", "redirect", "respond")
"""What answers a route's requests: one of these."""


class Match(Section):
    """Which requests a route takes: those for which all of this holds."""

    path: PathPattern
    """Literal segments, {param}, * for one segment, ** at the end for the rest."""
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] | None = None
    """Absent: every method."""
    host: HostPattern | None = None
    """A host, or *.domain for the hosts below a domain. Absent: every host."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    query: dict[str, Text] = Field(default_factory=dict)

    @field_validator("headers", mode="after")
    @classmethod
    def _each_once(cls, headers: dict[str, str]) -> dict[str, str]:
        return each_header_once(headers)


def _kind_of_limit(value: object) -> str:
    return "(inline)" if isinstance(value, (dict, RateLimit)) else "(name)"


NameOrLimit = Annotated[
    Annotated[Text, Tag("(name)")] | Annotated[RateLimit, Tag("(inline)")],
    Discriminator(_kind_of_limit),
]


class Route(Section):
    """Which requests, who may make them, how often, and who answers."""

    model_config = ConfigDict(json_schema_extra=one_of_required(*ENDS))

    name: Name
    """For metrics and logs; unique."""
    match: Match
    auth: RouteAuth | None = None
    """Absent: open to everybody."""
    rate_limit: Annotated[tuple[NameOrLimit, ...], BeforeValidator(one_or_more), OrOne()] = ()
    """Names from `rate_limits`, or limits of this route alone; all must allow."""
    concurrency: RouteConcurrency | None = None
    """How many of its requests may be under way at the same time."""
    priority: Priority = "normal"
    """Which requests are turned away first when there is too much to do (`shedding`); critical ones never are."""
    fallback: tuple[Fallback, ...] = ()
    """When the upstream fails, the first of these that covers the failure."""
    body_limit: SizeOrNone = DEFAULT_BODY_LIMIT
    """Largest request body, or none for no limit (None). Absent: what `wire.body_limit` says."""
    cors: Cors | None = None
    """Which pages of other sites may use it from within a browser. Absent: what upstreams say passes."""
    allow_ip: Networks = ()
    """Only requests from these addresses are taken. Absent or empty: from all."""
    deny_ip: Networks = ()
    """Requests from these addresses are refused, whatever allow_ip says."""
    idempotency: Idempotency | None = None
    mirror: Mirror | None = None
    fault: FaultInjection | None = None
    split: Split | None = None
    """Instead of `upstream`: the names of several, each with its weight."""
    split_by: Sticky | None = None
    """Whose requests go the same way: consumer, ip, header:NAME, cookie:NAME, …. Absent: each for itself."""
    versions: Versions | None = None
    """Instead of `upstream`: one for each version of the API."""
    redirect: Redirect | None = None
    """Instead of `upstream`: the client is sent elsewhere."""
    respond: Respond | None = None
    """Instead of `upstream`: a fixed answer."""
    transform: Transform | None = None
    """What is changed of requests and replies on their way."""
    compress: CompressOrNot = None
    """Compress replies for clients that accept it."""
    log: LoggedShare = 1.0
    """The share of its requests that have a line in the access log; problems always have one."""
    slo: Slo | None = None
    """What is promised of it: metrics count what breaks the promise, and alerts tell."""
    upstream: Text | None
    """The name of the upstream that answers."""

    @field_validator("rate_limit", mode="after")
    @classmethod
    def _each_limit_once(cls, limits: tuple[str | RateLimit, ...]) -> tuple[str | RateLimit, ...]:
        refuse(
            [
                ((index,), "is here twice")
                for index, limit in enumerate(limits)
                if isinstance(limit, str) and limit in limits[:index]
            ]
        )
        return limits

    @model_validator(mode="before")
    @classmethod
    def _upstream_or_split(cls, data: Any) -> Any:
        return given_for(data, "upstream", ENDS[1:], None)

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Who may answer, fallbacks and mirrors not counted."""
        if self.upstream is None and self.versions is not None:
            return self.versions.upstreams
        return sharing(self.upstream, self.split)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        refuse([*self._faults()])
        return self

    def _faults(self) -> Iterator[Fault]:
        first, *others = [end for end in ENDS if getattr(self, end) is not None]
        for other in others:
            yield (other,), f"cannot stand beside {first}"
        if first in ("redirect", "respond"):
            yield from (((key,), f"has no effect beside {first}: no upstream is asked") for key in self._of_upstreams())
        yield from transform_faults(self.match.path, self.transform, self.redirect, self.respond)
        yield from split_faults(None, self.split, self.split_by)
        if self.cors is not None:
            yield from self.cors.unserved(self.match.methods)
        yield from shut_out(self.allow_ip, self.deny_ip)
        if self.idempotency is not None and IDEMPOTENT.issuperset(self.match.methods or ("POST",)):
            yield ("idempotency",), "has no effect: all of match.methods may be repeated without a key"
        for index, entry in enumerate(self.fallback):
            if (entry.upstream,) == self.upstreams:
                yield ("fallback", index, "upstream"), "is the upstream that has failed: it would be asked once more"

    def _of_upstreams(self) -> list[str]:
        keys = ("idempotency", "mirror", "fallback", "fault")
        return [key for key in keys if getattr(self, key)]

    @model_validator(mode="after")
    def _scopes_of_use(self) -> Self:
        methods = self.match.methods
        if self.auth and methods is not None:
            served = {*methods, ANY_METHOD, *(("HEAD",) if "GET" in methods else ())}
            refuse(
                [
                    (("auth", "scopes", method), "has no effect: match.methods does not have this method")
                    for method in self.auth.scopes
                    if method not in served
                ]
            )
        return self
