"""`auth` of a route: who may use it. What is required of a caller is written here and judged by `gateway/auth`."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    Tag,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import CoreSchema

from gateway.config.complaints import show
from gateway.config.fields import Claim, Duration, Fault, Flag, OrOne, Scope, Section, Text, one_or_more, refuse
from gateway.config.syntax import SCOPE, method, plain_text

ANY_METHOD = "*"

Names = Annotated[tuple[Scope, ...], Field(min_length=1)]


class AnyOf(Section):
    """Scopes of which one is enough."""

    any: Names
    """Any one of these."""


class AllOf(Section):
    """Roles that are all required."""

    all: Names
    """Every one of these."""


def _kind(value: object) -> str:
    """Marks of the two forms, which complaints leave out (`translate.py`)."""
    return "(inline)" if isinstance(value, (dict, Section)) else "(name)"


ScopeOrAny = Annotated[
    Annotated[Scope, Tag("(name)")] | Annotated[AnyOf, Tag("(inline)")],
    Discriminator(_kind),
]
Scopes = Annotated[tuple[ScopeOrAny, ...], Field(min_length=1)]
Roles = Annotated[
    Annotated[Names, Tag("(name)")] | Annotated[AllOf, Tag("(inline)")],
    Discriminator(_kind),
]


def _method_or_any(value: object) -> str:
    return ANY_METHOD if value == ANY_METHOD else method(value)


MethodOrAny = Annotated[str, PlainValidator(_method_or_any), WithJsonSchema({"type": "string"})]


def _for_any_method(value: object) -> object:
    return {ANY_METHOD: value} if isinstance(value, (list, tuple)) else value


class OrForAnyMethod:
    """Tells editors that a list alone may stand for a mapping with lists by method."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        by_method = handler(core)
        return {"anyOf": [by_method["additionalProperties"], by_method]}


def _claim_value(value: object) -> str | int | float | bool:
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return plain_text(value)
    raise ValueError(f"must be text, a number, true or false, not {show(value)}")


ClaimValue = Annotated[
    str | int | float | bool,
    PlainValidator(_claim_value),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]}),
]
ClaimValues = Annotated[tuple[ClaimValue, ...], Field(min_length=1), BeforeValidator(one_or_more), OrOne()]


def _whole_seconds(seconds: float) -> float:
    if not seconds.is_integer():
        raise ValueError("must be whole seconds: in these a client is told how recent")
    return seconds


class RouteAuth(Section):
    """Who may use a route."""

    providers: Annotated[tuple[Text, ...], Field(min_length=1)]
    """Any one of these must vouch for the caller."""
    optional: Flag = False
    """Let callers without credentials pass as anonymous; wrong credentials are refused all the same."""
    scopes: Annotated[
        dict[MethodOrAny, Scopes],
        BeforeValidator(_for_any_method),
        OrForAnyMethod(),
    ] = Field(default_factory=dict)
    """What the caller must have been granted, all of it: a list, or lists by method. {any: [a, b]} is for one of both.

    A list alone stands under "*", which means every method that has no list of its own.
    """
    roles: Roles | None = None
    """Any one of these the caller must have, besides the scopes; all of them: {all: [a, b]}."""
    claims: dict[Claim, ClaimValues] = Field(default_factory=dict)
    """What the caller's token must say: each of these claims must be, or as a list hold, one of the values."""
    max_age: Annotated[Duration, AfterValidator(_whole_seconds)] | None = None
    """The longest time since the user has authenticated (the claim auth_time). Absent: any."""

    @field_validator("claims", mode="after")
    @classmethod
    def _levels_fit_a_header(
        cls, claims: dict[str, tuple[str | int | float | bool, ...]]
    ) -> dict[str, tuple[str | int | float | bool, ...]]:
        refuse(list(_levels_in_no_header(claims.get("acr", ()))))
        return claims


def _levels_in_no_header(levels: tuple[str | int | float | bool, ...]) -> Iterator[Fault]:
    """A client is told which levels would do: RFC 9470 section 3, `acr_values="gold silver"`."""
    for position, level in enumerate(levels):
        if not isinstance(level, str) or not SCOPE.fullmatch(level):
            yield ("acr", position), "must be text without spaces, quotes or backslashes: a header names it"
