"""What a fallback can say by itself: status, headers and a body from configuration. Pure.

Texts, header values and strings in JSON are templates (`transform/template.py`) over what is known of the failure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gateway.exchange import Call, Headers, Reply, Request
from gateway.routing.path import normalise
from gateway.transform import answer
from gateway.transform.answer import PLAIN
from gateway.transform.template import Fields, Template, compile_json, filled


class Failed(NamedTuple):
    """What an answer is given in place of."""

    call: Call
    status: int
    """What the client would have got."""
    reason: str
    """The kind of failure, as configuration names it: open, timeout, 503, …"""
    sent: bool = True
    """The upstream may have done what was asked."""


def _path(request: Request) -> str:
    """As the client has asked for it: the one that was forwarded is nobody else's business."""
    return normalise(request.target, request.fields.host).path.decode("latin-1")


FIELDS: Fields[Failed] = {
    "request.id": lambda failed: failed.call.id,
    "route": lambda failed: failed.call.route,
    "consumer": lambda failed: failed.call.caller.consumer,
    "path": lambda failed: _path(failed.call.request),
    "status": lambda failed: str(failed.status),
    "reason": lambda failed: failed.reason,
}


def text_body(text: str, content_type: str = PLAIN) -> Template[Failed]:
    """Raises ValueError."""
    return answer.text_body(text, content_type, FIELDS)


def json_body(value: object) -> Template[Failed]:
    """Raises ValueError."""
    return compile_json(value, FIELDS)


def header_fields(headers: Mapping[str, str]) -> tuple[tuple[bytes, Template[Failed]], ...]:
    """Raises ValueError."""
    return answer.header_fields(headers, FIELDS)


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
        headers: Headers = [(name, filled(value, failed)) for name, value in self.headers]
        headers.append((b"x-gateway-fallback", self.kind.encode()))
        if self.content_type:
            headers.append((b"content-type", self.content_type))
        reply = Reply(self.status, headers, filled(self.body, failed))
        reply.fallback = self.kind
        return reply
