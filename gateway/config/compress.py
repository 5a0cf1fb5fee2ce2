"""`compress`: which replies of a route are compressed, and with what."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, field_validator

from gateway.config.complaints import hint, show
from gateway.config.fields import Or, Section, Size, refuse
from gateway.transform.codecs import ENCODERS, KNOWN
from gateway.transform.compressible import NEVER, PATTERN

WORTHWHILE = (
    "text/*",
    "application/json",
    "application/*+json",
    "application/x-ndjson",
    "application/xml",
    "application/*+xml",
    "application/javascript",
    "application/yaml",
    "application/wasm",
    "image/svg+xml",
)

PACKAGES = "the extra `compress` of this package brings it"


def _encoding(value: object) -> str:
    if not isinstance(value, str) or value not in KNOWN:
        raise ValueError(f"must be one of {', '.join(KNOWN)}, not {show(value)}{hint(value, KNOWN)}")
    if value not in ENCODERS:
        raise ValueError(f"{value} is not installed: {PACKAGES}")
    return value


def _media_types(value: object) -> str:
    pattern = value.lower() if isinstance(value, str) else ""
    if not PATTERN.fullmatch(pattern):
        raise ValueError(f"{show(value)} is not a media type, such as application/json or text/*")
    if NEVER.fullmatch(pattern):
        raise ValueError(f"{show(value)} is never compressed")
    return pattern


Encoding = Annotated[str, PlainValidator(_encoding), WithJsonSchema({"enum": list(KNOWN)})]
MediaTypes = Annotated[
    str, PlainValidator(_media_types), WithJsonSchema({"type": "string", "pattern": "^[^/]+/[^/]+$"})
]


class Compress(Section):
    """Compresses replies for clients that accept it. `compress: true` is all of it by default."""

    encodings: Annotated[tuple[Encoding, ...], Field(min_length=1)] = tuple(ENCODERS)
    """zstd, br, gzip: the first is preferred where a client likes several equally. Absent: all that are installed."""
    min_size: Size = 1024
    """Smaller replies are left as they are, if their length is known."""
    types: Annotated[tuple[MediaTypes, ...], Field(min_length=1)] = WORTHWHILE
    """Media types that are compressed: application/json, text/*, application/*+json."""
    level: Literal["fast", "balanced", "small"] = "balanced"
    """What counts more: time or size."""

    @field_validator("encodings", "types", mode="after")
    @classmethod
    def _each_once(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        refuse([((index,), "is here twice") for index, each in enumerate(given) if each in given[:index]])
        return given


def _on_or_off(value: object) -> Any:
    if value is True or value == "true":
        return {}
    return None if value is False or value in ("false", "off") else value


CompressOrNot = Annotated[Compress | None, BeforeValidator(_on_or_off), Or(enum=[True, False, "off"])]
"""`true`, `false`, `off`, or the settings."""
