"""The admin application over aiohttp, on a listener of its own: metrics, health, and the API that changes things.

What changes or tells something asks for a token where one is configured, and else for a caller on this
machine. A browser cannot be made to call it: see `_guard`.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.admin.answers import LARGEST_BODY, Refusal, answer, problem
from gateway.admin.circuits import Circuits
from gateway.admin.credentials import Credentials
from gateway.admin.faults import Faults
from gateway.admin.upstreams import Upstreams
from gateway.admin.usage import Usage
from gateway.process.link import LinkLostError
from gateway.telemetry.exposition import exposition

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from gateway.admin.transitions import Transition
    from gateway.auth.ledger import Ledger
    from gateway.config import Config
    from gateway.process.notices import NoticeBoard
    from gateway.telemetry.tally import Readings
    from gateway.telemetry.usage_store import UsageStore

HOST = re.compile(r"(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9.]{1,255}))(?::[0-9]{1,5})?")

CLIENT = "X-Gateway-Client"
"""A header that pages of other sites cannot send: it would take a CORS preflight, which nobody answers."""


class Instance(Protocol):
    """The running gateway as the admin application sees it."""

    registry: CollectorRegistry

    @property
    def token(self) -> str:
        """For the API; "" when none is configured."""

    def reasons(self) -> list[str]:
        """Why the gateway should get no traffic, one line each; nothing when it should."""

    def config(self) -> dict[str, Any]:
        """The effective configuration, secrets masked, and its hash."""

    @property
    def settings(self) -> Config:
        """The configuration in force."""

    @property
    def ledger(self) -> Ledger:
        """The API keys and revocations of operators."""

    @property
    def board(self) -> NoticeBoard:
        """What all workers are told about circuits, targets and rehearsals."""

    @property
    def transitions(self) -> Iterable[Transition]:
        """The last changes of circuits, the newest first."""

    def readings(self, *names: str) -> Mapping[str, Readings]:
        """What these metrics of all living workers say. May be asked in a thread."""

    @property
    def usage(self) -> UsageStore | None:
        """Who called what, how often; None where that is not counted."""

    @property
    def jwks(self) -> bytes | None:
        """The public key of the gateway's own tokens (RFC 7517); None when it signs none."""

    async def reload(self) -> dict[str, Any]:
        """Reload; `reloaded` tells whether, `errors` or `detail` why not."""

    async def drain(self) -> None:
        """Begin to stop, as after SIGTERM."""


def admin_app(instance: Instance) -> web.Application:
    """The application; its handlers know nothing but the instance."""
    app = web.Application(middlewares=[_problems, _guard(instance)], client_max_size=LARGEST_BODY)
    app.add_routes([*_watching(instance), *_operating(instance)])
    app.add_routes([*Credentials(instance).routes(), *Usage(instance).routes()])
    app.add_routes([*Upstreams(instance).routes(), *Circuits(instance).routes(), *Faults(instance).routes()])
    return app


def _watching(instance: Instance) -> list[web.RouteDef]:
    """For everybody who can reach the listener."""

    async def metrics(request: web.Request) -> web.Response:
        # In a thread: thousands of series take longer to print than a health check may wait for the loop.
        accept = request.headers.get("Accept", "")
        body, content_type = await asyncio.to_thread(exposition, instance.registry, accept)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def healthz(_: web.Request) -> web.Response:
        return answer(200, {"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        if reasons := instance.reasons():
            return answer(503, {"status": "unavailable", "reasons": reasons})
        return answer(200, {"status": "ready"})

    async def jwks(_: web.Request) -> web.Response:
        if instance.jwks is None:
            raise web.HTTPNotFound
        headers = {"Content-Type": "application/jwk-set+json", "Cache-Control": "max-age=300"}
        return web.Response(body=instance.jwks, headers=headers)

    return [
        web.get("/metrics", metrics),
        web.get("/healthz", healthz),
        web.get("/readyz", readyz),
        web.get("/.well-known/jwks.json", jwks),
    ]


def _operating(instance: Instance) -> list[web.RouteDef]:
    """For operators."""

    async def config(_: web.Request) -> web.Response:
        return answer(200, instance.config())

    async def reload(_: web.Request) -> web.Response:
        try:
            outcome = await instance.reload()
        except (LinkLostError, TimeoutError):
            return problem(503, "internal", "The gateway does not answer", detail="Its log may tell more.")
        if outcome["reloaded"]:
            return answer(200, outcome)
        if "errors" in outcome:
            return problem(422, "invalid_request", "The new configuration was refused", errors=outcome["errors"])
        return problem(500, "internal", "The reload failed; the old configuration stays", detail=outcome["detail"])

    async def drain(_: web.Request) -> web.Response:
        try:
            await instance.drain()
        except LinkLostError:
            return problem(503, "internal", "The gateway does not answer", detail="Its log may tell more.")
        return answer(202, {"status": "draining"})

    return [
        web.get("/api/v1/config", config),
        web.post("/api/v1/reload", reload),
        web.post("/api/v1/drain", drain),
    ]


def _guard(instance: Instance) -> Middleware:
    """Who may use /api/: whoever has the token, or without one somebody on this machine.

    A page in a browser on this machine is not somebody: it can send neither CLIENT across origins nor, after
    DNS rebinding, a Host that is an address.
    """

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/api/"):
            return await handler(request)
        if instance.token:
            sent = request.headers.get("Authorization", "")
            if not hmac.compare_digest(sent.encode(errors="surrogateescape"), f"Bearer {instance.token}".encode()):
                headers = {"WWW-Authenticate": 'Bearer realm="gateway admin"'}
                return problem(401, "unauthenticated", "The admin API needs its token", headers=headers)
        elif not (_local(request.remote) and _by_address(request.host)):
            detail = (
                "Without listen.admin_token it answers only callers on this machine, asked by address or localhost."
            )
            return problem(403, "forbidden", "The admin API is not for you", detail=detail)
        if request.method != "GET" and CLIENT not in request.headers:
            return problem(403, "forbidden", "Not from a browser", detail=f"Send the header {CLIENT}.")
        return await handler(request)

    return guard


def _local(remote: str | None) -> bool:
    """On this machine: the loopback, or a unix socket, for which there is no address."""
    if not remote:
        return True
    try:
        return ipaddress.ip_address(remote).is_loopback
    except ValueError:
        return False


def _by_address(host: str) -> bool:
    """The Host is an address or localhost; a name may be anybody's that leads here."""
    found = HOST.fullmatch(host)
    if found is None:
        return False
    name = found[1] or found[2]
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refusals, aiohttp's own too, as problem details, like everywhere else in the gateway."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return problem(refusal.status, refusal.code, refusal.title, detail=str(refusal))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return problem(405, "method_not_allowed", "Method not allowed here", headers={"Allow": allowed})
    except web.HTTPNotFound:
        return problem(404, "no_route", "No such admin page")
    except web.HTTPRequestEntityTooLarge:
        return problem(413, "body_too_large", "The request body is too large", detail=f"{LARGEST_BODY} bytes at most.")
