"""What a fallback can say by itself: status, headers and a body from configuration. Pure.

Texts, header values and strings in JSON are templates (`template.py`) over what is known of the failure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from mimetypes import MimeTypes
from typing import NamedTuple

from gateway.exchange import Call, Headers, Reply
from gateway.resilience.template import HEADER, JSON_TEXT, MARKUP, TEXT, Fields, Template, compile_json, compile_text

PLAIN = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"

TYPES = MimeTypes()
"""Python's own table, without what the machine may have added to it."""


class Failed(NamedTuple):
    """What an answer is given in place of."""

    call: Call
    status: int
    """What the client would have got."""
    reason: str
    """The kind of failure, as configuration names it: open, timeout, 503, …"""
    sent: bool = True
    """The upstream may have done what was asked."""


FIELDS: Fields[Failed] = {
    "request.id": lambda failed: failed.call.id,
    "route": lambda failed: failed.call.route,
    "consumer": lambda failed: failed.call.caller.consumer,
    "path": lambda failed: failed.call.path.decode("latin-1"),
    "status": lambda failed: str(failed.status),
    "reason": lambda failed: failed.reason,
}


def text_body(text: str, content_type: str = PLAIN) -> Template[Failed]:
    """Values are written so that they stay text in what `content_type` says this is. Raises ValueError."""
    kind = content_type.lower()
    if "json" in kind:
        return compile_text(text, FIELDS, JSON_TEXT)
    return compile_text(text, FIELDS, MARKUP if "html" in kind or "xml" in kind else TEXT)


def json_body(value: object) -> Template[Failed]:
    """Raises ValueError."""
    return compile_json(value, FIELDS)


def header_fields(headers: Mapping[str, str]) -> tuple[tuple[bytes, Template[Failed]], ...]:
    """Raises ValueError."""
    return tuple((name.lower().encode(), compile_text(value, FIELDS, HEADER)) for name, value in headers.items())


def type_of(file: str) -> str:
    """The content type of a file with this name."""
    kind, coding = TYPES.guess_type(file)
    if kind is None or coding is not None:
        return BINARY
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


@dataclass(frozen=True, slots=True)
class Static:
    """An answer from configuration. `on` holds configured names: open, timeout, reset, 5xx, 503, …"""

    on: frozenset[str]
    status: int
    headers: tuple[tuple[bytes, Template[Failed]], ...] = ()
    body: Template[Failed] = b""
    content_type: bytes = b""
    kind: str = "static"
    """Or `file`."""

    def reply(self, failed: Failed) -> Reply:
        """A fresh reply: stages above may add headers to it."""
        headers: Headers = [(name, _filled(value, failed)) for name, value in self.headers]
        headers.append((b"x-gateway-fallback", self.kind.encode()))
        if self.content_type:
            headers.append((b"content-type", self.content_type))
        reply = Reply(self.status, headers, _filled(self.body, failed))
        reply.fallback = self.kind
        return reply


def _filled(template: Template[Failed], failed: Failed) -> bytes:
    return template if isinstance(template, bytes) else template(failed)
