"""What the admin application is sent and says: JSON, and problem details (RFC 9457) for what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from gateway.config.complaints import hint, show
from gateway.errors import PROBLEMS

LARGEST_BODY = 16 * 1024
"""Bytes. What operators send are a few words; the application refuses more (413)."""

Reader = Callable[[object], Any]
"""From a value of JSON to the one that is used. Raises ValueError that says what is wrong with it."""


class Refusal(Exception):
    """The request ends here, with this status and code; the text is for the operator."""

    def __init__(self, status: int, code: str, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.title = title


def invalid(detail: str) -> Refusal:
    """422 for a body; `detail` begins with the member that is wrong."""
    return Refusal(422, "invalid_request", "The request was refused", detail)


async def members(request: web.Request, readers: Mapping[str, Reader], needed: str = "") -> dict[str, Any]:
    """What the JSON object in the body has, each member as its reader reads it; no body is an empty object.

    Raises Refusal for any other member, for one that its reader refuses, and when `needed` is not there.
    """
    sent = _json_object(await request.read())
    read = {}
    for name, value in sent.items():
        if name not in readers:
            raise invalid(f"{show(name)} is not known here{hint(name, readers)}")
        try:
            read[name] = readers[name](value)
        except ValueError as error:
            raise invalid(f"{name}: {error}") from None
    if needed and needed not in read:
        raise invalid(f"{needed}: is needed")
    return read


def asked_by(request: web.Request) -> str:
    """Where an order came from, for the log."""
    return request.remote or "a unix socket"


def answer(status: int, value: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON object."""
    return web.Response(status=status, body=orjson.dumps(value), headers=headers, content_type="application/json")


def problem(
    status: int, code: str, title: str, *, headers: dict[str, str] | None = None, **members: object
) -> web.Response:
    """Problem details."""
    details = {"type": PROBLEMS + code, "title": title, "status": status, "code": code, **members}
    return web.Response(
        status=status,
        body=orjson.dumps(details),
        headers={"Content-Type": "application/problem+json", **(headers or {})},
    )


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        sent = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        raise Refusal(400, "bad_request", "The request is malformed", "The body is not JSON.") from None
    if not isinstance(sent, dict):
        raise invalid(f"the body must be an object, not {show(sent)}")
    return sent
