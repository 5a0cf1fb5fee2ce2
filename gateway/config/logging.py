"""`logging`: what is written about requests, and by the gateway about itself; and `routes[].log`."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator

from gateway.config.complaints import show
from gateway.config.fields import Fault, HeaderName, Section, refuse
from gateway.config.units import SHARE, share

MOST_HEADERS = 32
"""In a line: each may take a kilobyte."""


def logged_share(value: object) -> float:
    """`on` is all of them, `off` none."""
    if value in ("on", "true", "off", "false") or isinstance(value, bool):
        return 1.0 if value in ("on", "true", True) else 0.0
    try:
        return share(value)
    except ValueError:
        raise ValueError(f"must be on, off or a share such as 10%, not {show(value)}") from None


LoggedShare = Annotated[
    float,
    PlainValidator(logged_share),
    WithJsonSchema({"anyOf": [{"enum": ["on", "off", True, False]}, {"type": "string", "pattern": f"^(?:{SHARE})$"}]}),
]

Headers = Annotated[tuple[HeaderName, ...], Field(max_length=MOST_HEADERS)]


class Logging(Section):
    """What is logged."""

    access: Literal["json", "ecs", "combined", "off"] = "json"
    """One line for each request: JSON, Elastic Common Schema, Apache's combined format; or none."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important messages of the gateway itself that are written."""
    format: Literal["text", "json"] = "text"
    """How the messages of the gateway itself are written."""
    headers: Headers = ()
    """Headers of requests that their lines show, too."""
    redact: Headers = ("authorization", "cookie", "x-api-key")
    """Headers whose values no line ever shows, besides those that hold credentials by their definition."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        refuse([*self._faults()])
        return self

    def _faults(self) -> Iterator[Fault]:
        for key, names in (("headers", self.headers), ("redact", self.redact)):
            lowered = [name.lower() for name in names]
            for index, name in enumerate(lowered):
                if name in lowered[:index]:
                    yield (key, index), f"{names[index]} is here twice: case makes no difference"
        if self.headers and self.access in ("combined", "off"):
            yield ("headers",), f"has no effect: access is {self.access}, which has no place for them"
