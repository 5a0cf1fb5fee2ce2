"""The services behind the demo: `python -m gateway.cli.demo_upstreams [--host H] [NAME=PORT ...]`.

orders-1 and orders-2 are two instances of one service; payments answers the first try of every request with
503, and everything under /payments/down always. With `--with-parent` it ends when its standard input does.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections import OrderedDict

from aiohttp import WSMsgType, web

DEFAULT = ("orders-1=9001", "orders-2=9002", "payments=9003")
TOLD = ("X-User-Id", "X-Request-Id", "X-Forwarded-For", "X-Forwarded-Proto", "Via")
"""Headers from the gateway that a reply repeats, for the curious."""

REMEMBERED = 1000
"""Requests whose tries payments counts."""


def orders_app(name: str) -> web.Application:
    """One instance of the orders service."""

    async def anything(request: web.Request) -> web.Response:
        return web.json_response(
            {
                "instance": name,
                "method": request.method,
                "path": request.path_qs,
                "headers": {header: request.headers[header] for header in TOLD if header in request.headers},
            }
        )

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(2)
        return await anything(request)

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read(), content_type=request.content_type)

    async def websocket(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(f"{name} repeats what you say")
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket

    async def events(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await stream.prepare(request)
        for number in range(1, 6):
            await stream.write(b"event: tick\ndata: %d from %s\n\n" % (number, name.encode()))
            await asyncio.sleep(0.3)
        return stream

    app = web.Application()
    app.router.add_get("/orders/slow", slow)
    app.router.add_get("/ws", websocket)
    app.router.add_get("/events", events)
    app.router.add_route("*", "/{anything:(?:.*/)?echo}", echo)
    app.router.add_route("*", "/{anything:.*}", anything)
    return app


def payments_app(name: str) -> web.Application:
    """A service in trouble."""
    tries: OrderedDict[str, int] = OrderedDict()

    async def down(request: web.Request) -> web.Response:
        return web.json_response({"error": "out of order", "instance": name}, status=503)

    async def flaky(request: web.Request) -> web.Response:
        # The gateway sends the same X-Request-Id with every try of a request.
        which = request.headers.get("X-Request-Id", "")
        tries[which] = tries.get(which, 0) + 1
        if len(tries) > REMEMBERED:
            tries.popitem(last=False)
        answer = {"instance": name, "path": request.path_qs, "try": tries[which]}
        return web.json_response(answer, status=503 if tries[which] % 2 else 200)

    app = web.Application()
    app.router.add_route("*", "/payments/down", down)
    app.router.add_route("*", "/{anything:.*}", flaky)
    return app


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or, with `--with-parent`, the end of standard input."""
    parser = argparse.ArgumentParser(prog="python -m gateway.cli.demo_upstreams", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input does")
    parser.add_argument("services", nargs="*", metavar="NAME=PORT", default=DEFAULT, type=_service)
    options = parser.parse_args(argv)
    services = [each if isinstance(each, tuple) else _service(each) for each in options.services]
    try:
        return asyncio.run(_serve(options.host, services, with_parent=options.with_parent))
    except KeyboardInterrupt:
        return 130


def _service(text: str) -> tuple[str, int]:
    name, _, port = text.partition("=")
    if not name or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PORT")
    return name, int(port)


async def _serve(host: str, services: list[tuple[str, int]], *, with_parent: bool) -> int:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    if with_parent:

        def listen_to_parent() -> None:
            if not os.read(sys.stdin.fileno(), 1024):
                done.set()

        loop.add_reader(sys.stdin.fileno(), listen_to_parent)
    runners = []
    try:
        for name, port in services:
            app = payments_app(name) if name.startswith("payments") else orders_app(name)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
            runners.append(runner)
            await runner.setup()
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                print(f"failed {name} cannot listen on {host}:{port}: {reason}", flush=True)
                return 1
            print(f"ready {name} on {host}:{port}", flush=True)
        await done.wait()
        return 0
    finally:
        if with_parent:
            loop.remove_reader(sys.stdin.fileno())
        for runner in runners:
            await runner.cleanup()
        for number in (signal.SIGTERM, signal.SIGINT):
            # It ends anyway; a loop that is being closed answers a signal with a complaint of its own.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    raise SystemExit(main())
