"""An answer that is prepared in the configuration: status, header fields and a body, with fields to fill in. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from mimetypes import MimeTypes
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from gateway.exchange import Headers
from gateway.transform.template import (
    HEADER,
    JSON_TEXT,
    MARKUP,
    TEXT,
    Fields,
    Template,
    compile_json,
    compile_text,
    filled,
)

T = TypeVar("T")

PLAIN = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"

TYPES = MimeTypes()
"""Python's own table, without what the machine may have added to it."""


class Settings(Protocol):
    """What the sections of the configuration have in common that describe an answer."""

    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def json_(self) -> object: ...
    @property
    def text(self) -> str | None: ...
    @property
    def file(self) -> Path | None: ...


@dataclass(frozen=True, slots=True)
class Content(Generic[T]):
    """What is said, whatever the status."""

    headers: tuple[tuple[bytes, Template[T]], ...] = ()
    body: Template[T] = b""
    content_type: bytes = b""
    """b"" where `headers` say it, or there is no body."""

    def fill(self, source: T) -> tuple[Headers, bytes]:
        """Fresh fields and the body: stages above may add headers to them."""
        headers: Headers = [(name, filled(value, source)) for name, value in self.headers]
        if self.content_type:
            headers.append((b"content-type", self.content_type))
        return headers, filled(self.body, source)


def content(settings: Settings, fields: Fields[T]) -> Content[T]:
    """The first of `file`, `text` and `json` that is there. Raises OSError."""
    headers = header_fields(settings.headers, fields)
    own_type = next((value for name, value in settings.headers.items() if name.lower() == "content-type"), "")
    body: Template[T]
    if settings.file is not None:
        body, content_type = settings.file.read_bytes(), type_of(settings.file.name)
    elif settings.text is not None:
        content_type = PLAIN if settings.text else ""
        body = text_body(settings.text, own_type or content_type, fields)
    else:
        body, content_type = compile_json(settings.json_, fields), "application/json"
    return Content(headers, body, b"" if own_type else content_type.encode())


def text_body(text: str, content_type: str, fields: Fields[T]) -> Template[T]:
    """Values are written so that they stay text in what `content_type` says this is. Raises ValueError."""
    kind = content_type.lower()
    if "json" in kind:
        return compile_text(text, fields, JSON_TEXT)
    return compile_text(text, fields, MARKUP if "html" in kind or "xml" in kind else TEXT)


def header_fields(headers: Mapping[str, str], fields: Fields[T]) -> tuple[tuple[bytes, Template[T]], ...]:
    """Raises ValueError."""
    return tuple((name.lower().encode(), compile_text(value, fields, HEADER)) for name, value in headers.items())


def type_of(file: str) -> str:
    """The content type of a file with this name."""
    kind, coding = TYPES.guess_type(file)
    if kind is None or coding is not None:
        return BINARY
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
