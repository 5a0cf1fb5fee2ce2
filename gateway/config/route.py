"""`routes`: which requests are taken, from whom, how often, and who answers them."""

from typing import Annotated, Any, Self

import orjson
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

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
    SettableHeader,
    SizeOrNone,
    Status,
    Text,
    one_or_more,
    refuse,
)
from gateway.config.limits import Priority, RateLimit, RouteConcurrency
from gateway.config.listen import DEFAULT_BODY_LIMIT
from gateway.config.route_auth import ANY_METHOD, RouteAuth
from gateway.config.syntax import each_header_once
from gateway.config.upstream import failures

ALL_FAILURES = ("open", "timeout", "connect_failure", "reset", "5xx")
WITHOUT_BODY = (204, 205, 304)


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


def _json(value: object) -> Any:
    try:
        return orjson.loads(orjson.dumps(value))
    except TypeError:
        raise ValueError("cannot be written as JSON: a number is out of range") from None


Failure = Annotated[str | int, *failures(*ALL_FAILURES)]


class Fallback(Section):
    """A fixed answer for when the upstream fails. The first whose `on` covers the failure answers."""

    on: Annotated[tuple[Failure, ...], Field(min_length=1)] = ALL_FAILURES
    """open (the circuit), timeout, connect_failure, reset, 5xx, or a status. Absent: all of them."""
    status: Status = 200
    json_: Annotated[Any, PlainValidator(_json), WithJsonSchema({})] = Field(default=None, alias="json")
    """The body, as JSON. Counts only while `text` is None."""
    text: Text | None = None
    """The body, as text; "" where there is neither `json` nor `text`."""
    headers: dict[SettableHeader, HeaderValue] = Field(default_factory=dict)

    @field_validator("headers", mode="after")
    @classmethod
    def _each_once(cls, headers: dict[str, str]) -> dict[str, str]:
        return each_header_once(headers)

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        given = self.model_fields_set
        faults: list[Fault] = []
        if not given & {"status", "json_", "text"}:
            faults.append(((), "answers with nothing: give it json, text or a status"))
        elif {"json_", "text"} <= given:
            faults.append((("text",), "there is json already"))
        elif self.status in WITHOUT_BODY and given & {"json_", "text"}:
            faults.append((("status",), f"a reply with status {self.status} has no body"))
        refuse(faults)
        if "json_" not in given and self.text is None:
            self.__dict__["text"] = ""
        return self


def _kind_of_limit(value: object) -> str:
    return "(inline)" if isinstance(value, (dict, RateLimit)) else "(name)"


NameOrLimit = Annotated[
    Annotated[Text, Tag("(name)")] | Annotated[RateLimit, Tag("(inline)")],
    Discriminator(_kind_of_limit),
]


class Route(Section):
    """Which requests, who may make them, how often, and who answers."""

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
    upstream: Text
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
