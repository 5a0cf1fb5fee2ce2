"""The admin application over aiohttp, on a listener of its own: metrics, health, and the API that changes things.

What changes or tells something is for whoever has the token or a certificate (`access.py`), and what was changed is
on record (`audit.py`). The dashboard's page and its files have no data in them, so they are for everybody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.admin.access import guard
from gateway.admin.answers import LARGEST_BODY, Refusal, answer, members, problem
from gateway.admin.audit import audited
from gateway.admin.circuits import Circuits
from gateway.admin.credentials import Credentials
from gateway.admin.errors import Errors
from gateway.admin.faults import Faults
from gateway.admin.headers import on_prepare
from gateway.admin.live import Live
from gateway.admin.log_level import LogLevel
from gateway.admin.openapi import document
from gateway.admin.page import page_routes
from gateway.admin.probes import Probes
from gateway.admin.routes import Routes
from gateway.admin.tail import Tail
from gateway.admin.upstreams import Upstreams
from gateway.admin.usage import Usage
from gateway.process.link import LinkLostError

if TYPE_CHECKING:
    from gateway.admin.transitions import Transition
    from gateway.auth.ledger import Ledger
    from gateway.config import Config
    from gateway.process.mailbox import Mailbox
    from gateway.process.notices import NoticeBoard
    from gateway.telemetry.cells import Totals
    from gateway.telemetry.collector import Snapshot
    from gateway.telemetry.exposition import Scrape
    from gateway.telemetry.tally import Readings
    from gateway.telemetry.usage_store import UsageStore

log = logging.getLogger("gateway.admin")


class Instance(Protocol):
    """The running gateway as the admin application sees it."""

    scrape: Scrape
    """Of the metrics of all workers."""

    @property
    def token(self) -> str:
        """For the API; "" when none is configured."""

    def reasons(self) -> list[str]:
        """Why the gateway should get no traffic, one line each; nothing when it should."""

    def config(self) -> dict[str, Any]:
        """The effective configuration, secrets masked, and its hash. May be asked in a thread."""

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
    def mailbox(self) -> Mailbox:
        """Where workers tell about requests."""

    @property
    def transitions(self) -> Iterable[Transition]:
        """The last changes of circuits, the newest first."""

    def readings(self, *names: str) -> Mapping[str, Readings]:
        """What these metrics of all living workers say. May be asked in a thread."""

    def totals(self, *names: str) -> Totals:
        """All cells of these metrics, of all living workers together. May be asked in a thread."""

    @property
    def snapshot(self) -> Snapshot:
        """What the supervisor has told."""

    def probes(self) -> list[dict[str, Any]]:
        """What each probe has found last."""

    def alerts(self) -> list[dict[str, Any]]:
        """What is wrong at the moment, pending or firing."""

    def watched(self) -> dict[str, Any]:
        """For the live feed: recent `errors` and the `slowest` requests, `probes` and `alerts`."""

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

    def trusts(self, context: object) -> bool:
        """Whether client certificates that this TLS context has verified are as good as the token."""

    async def set_log_level(self, level: str) -> None:
        """In all processes, until the next reload. Raises LinkLostError."""


def admin_app(instance: Instance) -> web.Application:
    """The application; its handlers know nothing but the instance."""
    app = web.Application(middlewares=[audited(), _problems, guard(instance)], client_max_size=LARGEST_BODY)
    app.on_response_prepare.append(on_prepare)
    app.add_routes([*_watching(instance), *_operating(instance)])
    app.add_routes([*Credentials(instance).routes(), *Usage(instance).routes()])
    app.add_routes([*Routes(instance).routes(), *LogLevel(instance).routes()])
    live = Live(instance)
    app.on_shutdown.append(live.close)  # before aiohttp waits for listeners to leave by themselves
    app.add_routes([*live.routes(), *page_routes()])
    app.add_routes([*Upstreams(instance).routes(), *Circuits(instance).routes(), *Faults(instance).routes()])
    app.add_routes([*Errors(instance).routes(), *Tail(instance).routes(), *Probes(instance).routes()])
    return app


def _watching(instance: Instance) -> list[web.RouteDef]:
    """For everybody who can reach the listener."""

    async def metrics(request: web.Request) -> web.Response:
        # In a thread: thousands of series take longer to print than a health check may wait for the loop.
        asked = (request.headers.get(name, "") for name in ("Accept", "Accept-Encoding"))
        body, headers = await asyncio.to_thread(instance.scrape.answer, *asked)
        return web.Response(body=body, headers=headers)

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
        return answer(200, await asyncio.to_thread(instance.config))  # 0.4 s with 3,000 routes

    async def openapi(_: web.Request) -> web.Response:
        return answer(200, document())

    async def reload(request: web.Request) -> web.Response:
        await members(request, {})
        try:
            outcome = await instance.reload()
        except (LinkLostError, TimeoutError):
            return problem(503, "internal", "The gateway does not answer", detail="Its log may tell more.")
        if outcome["reloaded"]:
            return answer(200, outcome)
        if "errors" in outcome:
            return problem(422, "invalid_request", "The new configuration was refused", errors=outcome["errors"])
        return problem(500, "internal", "The reload failed; the old configuration stays", detail=outcome["detail"])

    async def drain(request: web.Request) -> web.Response:
        await members(request, {})
        try:
            await instance.drain()
        except LinkLostError:
            return problem(503, "internal", "The gateway does not answer", detail="Its log may tell more.")
        return answer(202, {"status": "draining"})

    return [
        web.get("/api/v1/config", config),
        web.get("/api/v1/openapi.json", openapi),
        web.post("/api/v1/reload", reload),
        web.post("/api/v1/drain", drain),
    ]


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
    except ConnectionError:  # the client has left in the middle of a stream
        raise
    except Exception:  # the outermost boundary: a defect is a line in the log, and tells nobody else anything
        log.exception("%s %s failed", request.method, request.path)
        return problem(500, "internal", "The gateway failed", detail="Its log tells more.")
