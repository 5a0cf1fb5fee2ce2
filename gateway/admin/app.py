"""The admin application: metrics, liveness and readiness over aiohttp, on a listener of its own."""

import asyncio
from collections.abc import Callable

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from gateway.errors import PROBLEMS
from gateway.http.address import split_address

Readiness = Callable[[], list[str]]
"""Why the gateway should get no traffic, one line each; nothing when it should."""


def admin_app(registry: CollectorRegistry, readiness: Readiness) -> web.Application:
    """The application; its handlers know nothing but what they are given here."""

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # In a thread: thousands of series take longer to print than a request may wait for the loop.
        body = await asyncio.to_thread(encode, registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def healthz(_: web.Request) -> web.Response:
        return _json(200, {"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        reasons = readiness()
        return _json(503, {"status": "unavailable", "reasons": reasons}) if reasons else _json(200, {"status": "ready"})

    app = web.Application(middlewares=[_problems])
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


async def start_admin(address: str, registry: CollectorRegistry, readiness: Readiness) -> web.AppRunner:
    """Listen on host:port, [v6]:port or unix:path; `cleanup()` of the runner ends it. Raises OSError.

    `runner.addresses` tells the real port when `address` asks for port 0.
    """
    # Scrapes are short: one that lasts longer than a second must not hold up the end of the process.
    runner = web.AppRunner(admin_app(registry, readiness), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site: web.BaseSite
        if address.startswith("unix:"):
            site = web.UnixSite(runner, address.removeprefix("unix:"))
        else:
            site = web.TCPSite(runner, *split_address(address))
        await site.start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """aiohttp's own refusals as problem details, like everywhere else in the gateway."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return _problem(405, "method_not_allowed", "Method not allowed here", {"Allow": allowed})
    except web.HTTPNotFound:
        return _problem(404, "no_route", "No such admin page")


def _problem(status: int, code: str, title: str, headers: dict[str, str] | None = None) -> web.Response:
    problem = {"type": PROBLEMS + code, "title": title, "status": status, "code": code}
    return web.Response(
        status=status,
        body=orjson.dumps(problem),
        headers={"Content-Type": "application/problem+json", **(headers or {})},
    )


def _json(status: int, value: dict[str, object]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
