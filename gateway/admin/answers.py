"""What the admin application is sent and says: JSON, and problem details (RFC 9457) for what it refuses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from gateway.config.complaints import hint, show
from gateway.errors import PROBLEMS

BODY_WITHIN = 10.0
"""Seconds for a body to arrive: longer takes only who wants to hold on to something."""

LARGEST_BODY = 16 * 1024
"""Bytes. What operators send are a few words; the application refuses more (413)."""

READS = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing, wherever they are sent."""

Reader = Callable[[object], Any]
"""From a value of JSON to the one that is used. Raises ValueError that says what is wrong with it."""


ID = web.RequestKey("id", str)
"""On a request of the API: the id under which the audit log has it."""
BY = web.RequestKey("by", str)
"""Who it comes from: `token`, `certificate NAME` or `local`; not there before that is known."""
CONCERNS = web.RequestKey("concerns", dict[str, object])
"""What it is about, for the audit log."""


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
    sent = _json_object(await _body(request))
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


def parameters(request: web.Request, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """What the query says, each parameter as its reader reads it.

    Raises Refusal for any other one, for one that is there twice, and for one that its reader refuses.
    """
    read: dict[str, Any] = {}
    for name, value in request.query.items():
        if name not in readers:
            raise invalid(f"{show(name)} is not known here{hint(name, readers)}")
        if name in read:
            raise invalid(f"{name}: is there twice")
        try:
            read[name] = readers[name](value)
        except ValueError as error:
            raise invalid(f"{name}: {error}") from None
    return read


def concerning(request: web.Request, **fields: object) -> None:
    """Have the audit log tell this, too. Never a secret, and never a whole body."""
    request[CONCERNS] = {**request.get(CONCERNS, {}), **fields}


def over_unix(request: web.Request) -> bool:
    """Whether the caller came so. A missing address does not tell: whoever has hung up over TCP has none either."""
    sock = request.get_extra_info("socket")
    return sock is not None and sock.family == socket.AF_UNIX


def asked_by(request: web.Request) -> str:
    """Where an order came from, for the log."""
    return request.remote or ("a unix socket" if over_unix(request) else "somebody who has hung up")


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


async def _body(request: web.Request) -> bytes:
    """Raises Refusal for one that does not arrive, or not in one piece."""
    try:
        async with asyncio.timeout(BODY_WITHIN):
            return await request.read()
    except TimeoutError:
        detail = f"The body has not arrived within {BODY_WITHIN:g} s."
        raise Refusal(408, "request_timeout", "The request took too long to arrive", detail) from None
    except (ConnectionError, web.RequestPayloadError):
        detail = "The body is not what its head says, or the caller has hung up."
        raise Refusal(400, "bad_request", "The request is malformed", detail) from None


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        sent = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        raise Refusal(400, "bad_request", "The request is malformed", "The body is not JSON.") from None
    if not isinstance(sent, dict):
        raise invalid(f"the body must be an object, not {show(sent)}")
    return sent
