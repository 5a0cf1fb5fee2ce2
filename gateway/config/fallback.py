"""`routes[].fallback`: what answers when the upstream fails."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, Self

import orjson
from pydantic import Field, PlainValidator, WithJsonSchema, field_validator, model_validator

from gateway.config.complaints import Substituted
from gateway.config.fields import Fault, File, Section, SettableHeader, Status, Text, refuse
from gateway.config.syntax import each_header_once, header_value, text
from gateway.config.upstream import failures
from gateway.resilience.fallback_answers import header_fields, json_body, text_body

ALL_FAILURES = ("open", "timeout", "connect_failure", "reset", "5xx", "quota", "no_healthy_target")
WITHOUT_BODY = (204, 205, 304)


def checked(value: object, compiled: Callable[[], object]) -> None:
    """What stands between braces must be a field. Raises ValueError."""
    try:
        compiled()
    except ValueError as error:
        raise ValueError("has braces that are no field" if _replaced(value) else str(error)) from None


def _replaced(value: object) -> bool:
    """Something in it came from `${…}`, so that no message may quote it."""
    match value:
        case dict():
            return any(map(_replaced, value.values()))
        case list():
            return any(map(_replaced, value))
    return isinstance(value, Substituted)


def json_value(value: object) -> Any:
    """`value` as JSON holds it. Raises ValueError."""
    try:
        return orjson.loads(orjson.dumps(value))
    except TypeError:
        raise ValueError("cannot be written as JSON: a number is out of range") from None


def _json(value: object) -> Any:
    plain = json_value(value)
    checked(value, lambda: json_body(plain))
    return plain


def _text(value: object) -> str:
    checked(value, partial(text_body, text(value)))
    return str(value)


def _header(value: object) -> str:
    checked(value, partial(header_fields, {"": header_value(value)}))
    return str(value)


Failure = Annotated[str | int, *failures(*ALL_FAILURES, "overloaded")]
Json = Annotated[Any, PlainValidator(_json), WithJsonSchema({})]
TextTemplate = Annotated[str, PlainValidator(_text), WithJsonSchema({"type": "string"})]
HeaderTemplate = Annotated[str, PlainValidator(_header), WithJsonSchema({"type": "string"})]


def bodies_of(given: set[str]) -> list[str]:
    """Which keys say what the body is, of those that are given."""
    return [name.rstrip("_") for name in ("json_", "text", "file") if name in given]


def body_faults(status: int, bodies: list[str]) -> Iterator[Fault]:
    if len(bodies) > 1:
        yield (bodies[1],), f"there is {bodies[0]} already"
    elif status in WITHOUT_BODY and bodies:
        yield ("status",), f"a reply with status {status} has no body"


class Fallback(Section):
    """What answers when the upstream fails: another upstream, or a fixed answer. The first that covers the failure
    and can answer does. In texts, strings of JSON and values of headers {request.id}, {route}, {consumer}, {path},
    {status} and {reason} are filled in; {{ and }} are braces.
    """

    on: Annotated[tuple[Failure, ...], Field(min_length=1)] = ALL_FAILURES
    """open (the circuit), timeout, connect_failure, reset, 5xx, quota, no_healthy_target, overloaded, or a status.
    Absent: all of them but overloaded."""
    upstream: Text | None = None
    """The name of the upstream that answers instead."""
    status: Status = 200
    json_: Json = Field(default=None, alias="json")
    """The body, as JSON. Counts only while `text`, `file` and `upstream` are None."""
    text: TextTemplate | None = None
    """The body, as text; "" where there is no other body."""
    file: File | None = None
    """The body, from a file; its ending tells the type."""
    headers: dict[SettableHeader, HeaderTemplate] = Field(default_factory=dict)

    @field_validator("headers", mode="after")
    @classmethod
    def _each_once(cls, headers: dict[str, str]) -> dict[str, str]:
        return each_header_once(headers)

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        refuse([*self._faults()])
        if "json_" not in self.model_fields_set and {self.text, self.file, self.upstream} == {None}:
            self.__dict__["text"] = ""
        return self

    def _faults(self) -> Iterator[Fault]:
        given = self.model_fields_set
        bodies = bodies_of(given)
        if "upstream" in given:
            for name in [*bodies, *(name for name in ("status", "headers") if name in given)]:
                yield (name,), "has no effect: the upstream answers"
        elif not given & {"status", "json_", "text", "file"}:
            yield (), "answers with nothing: give it an upstream, json, text, file or a status"
        else:
            yield from body_faults(self.status, bodies)
