"""One process that serves: opens the listeners, tells when it is ready, drains when it is asked to stop."""

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from aiohttp import web

from gateway.admin.app import start_admin
from gateway.assemble import Runtime, assemble
from gateway.config.model import Config
from gateway.http.address import join_address
from gateway.http.server import Limits, ListenError, Server
from gateway.telemetry.line_writer import LineWriter
from gateway.telemetry.loop_lag import LoopLag

log = logging.getLogger("gateway.process")

Ready = Callable[[Sequence[str], str | None], None]
"""Told once, when all sockets listen: the addresses for clients, and the one for operators if there is one."""


class StartError(Exception):
    """The gateway cannot start; the message is one line for the operator."""


async def serve(config: Config, *, ready: Ready | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends at once. Raises StartError."""
    stop = _on_signal()
    writer = LineWriter(sys.stdout.fileno()) if config.logging.access != "off" else None
    try:
        runtime = assemble(config, access_log=writer)
    except OSError as error:
        raise StartError(str(error)) from None
    if writer is not None:
        runtime.metrics.access_log_dropped.read_from(lambda: {(): float(writer.dropped)})
    server = Server(runtime.handler, _limits(config), config.trusted_proxies)
    lag = LoopLag()
    runtime.metrics.loop_lag.read_from(lambda: {(): lag.worst})
    runtime.metrics.connections.read_from(lambda: {("http",): float(len(server.connections))})
    sampling = asyncio.create_task(lag.run(), name="loop-lag")
    checking = asyncio.create_task(_check_names(config), name="check-names")
    admin: web.AppRunner | None = None
    try:
        addresses = [await server.listen(str(address)) for address in config.listen.http]
        if config.listen.admin is not None:
            admin = await _start_admin(str(config.listen.admin), server, runtime)
        # What is here now lives as long as the process: the collector need not look at it again, and with
        # few cycles per request it need not look often (5 % of the rate of small requests).
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        if ready is not None:
            ready(addresses, _address_of(admin, str(config.listen.admin)) if admin is not None else None)
        await stop
        log.info("draining: no new connections, up to %g s for requests under way", config.wire.drain_timeout)
    except ListenError as error:
        raise StartError(str(error)) from None
    finally:
        await server.close()
        sampling.cancel()
        checking.cancel()
        if admin is not None:
            await admin.cleanup()
        await runtime.close()
        if writer is not None:
            await asyncio.to_thread(writer.close)
    return 0


async def _check_names(config: Config) -> None:
    """Say which targets have names that lead nowhere; they may do so later, so it is no reason not to start."""
    loop = asyncio.get_running_loop()
    for name, upstream in config.upstreams.items():
        for target in upstream.targets:
            try:
                await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            except OSError as error:
                reason = error.strerror or str(error)
                log.warning("upstream %s: the target %s cannot be resolved: %s", name, target.url, reason)


def _on_signal() -> asyncio.Future[None]:
    """Done at the first SIGTERM or SIGINT; the second one ends the process as if nobody listened to it."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def caught() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        if not stop.done():
            stop.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, caught)
    return stop


async def _start_admin(address: str, server: Server, runtime: Runtime) -> web.AppRunner:
    try:
        return await start_admin(
            address, runtime.metrics.registry, lambda: ["the gateway is draining"] if server.draining else []
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise ListenError(f"cannot listen on {address} (listen.admin): {reason}") from None


def _address_of(admin: web.AppRunner, configured: str) -> str:
    """The admin listener's address with its real port."""
    if configured.startswith("unix:") or not admin.addresses:
        return configured
    host, port = admin.addresses[0][:2]
    return join_address(host, port)


def _limits(config: Config) -> Limits:
    wire = config.wire
    return Limits(
        header_limit=wire.header_limit,
        target_limit=wire.target_limit,
        connections=wire.connections,
        header_timeout=wire.header_timeout,
        body_timeout=wire.body_timeout,
        idle_timeout=wire.idle_timeout,
        drain_timeout=wire.drain_timeout,
    )
