"""What operating costs: from the command to the first reply, and what clients notice of a reload.

Then how evenly two workers get connections: from a listening socket each, as they have, and from a shared one.
"""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from threading import Event, Thread

import uvloop
from rich.console import Console
from rich.table import Table

from bench.machine import keep
from bench.processes import free_port
from gateway.http.sockets import Group, bind

ROUNDS = 5
START_ROUTES, START_BOUND = 100, 1.0
RELOAD_ROUTES, RELOAD_BOUND, STALL_BOUND = 1000, 0.5, 0.02
PAUSE = 0.002
"""Seconds between two requests of the probe."""
CONNECTIONS = 64


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        starts = [start(Path(folder)) for _ in range(ROUNDS)]
        reloads, stalls = reload(Path(folder))
    rows = [
        (f"start to first reply, {START_ROUTES} routes", starts, START_BOUND),
        (f"reload of {RELOAD_ROUTES} routes", reloads, RELOAD_BOUND),
        ("slowest request of a client meanwhile", stalls, STALL_BOUND),
    ]
    spread = {name: [balance(name == "own", gap) for gap in (PAUSE, 0.0)] for name in ("own", "shared")}
    table = Table()
    for heading in ("", "median ms", "spread", "bound"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, runs, bound in rows:
        low, high = min(runs) * 1000, max(runs) * 1000
        table.add_row(name, f"{median(runs) * 1000:.1f}", f"{low:.1f}–{high:.1f}", f"{bound * 1000:.0f}")
    console = Console()
    console.print(table)
    for name, (one_by_one, burst) in spread.items():
        console.print(f"{CONNECTIONS} connections, {name} sockets: one by one {one_by_one}, at once {burst}")
    keep("operation", {"seconds": {name: runs for name, runs, _ in rows}, "connections_per_worker": spread})
    return int(any(median(runs) > bound for _, runs, bound in rows))


def configuration(routes: int, port: int, admin: int) -> str:
    """That many routes, each with a token and a limit, over a tenth as many upstreams, which nobody will need."""
    lines = [f"listen: {{http: 127.0.0.1:{port}, admin: 127.0.0.1:{admin}}}", "logging: {access: off}", "auth:"]
    lines.append(f"  providers: {{idp: {{type: jwt, secret: {'s' * 40}, algorithms: [HS256]}}}}")
    lines.append("upstreams:")
    lines += [f"  up-{n}: {{targets: [http://127.0.0.1:1, http://127.0.0.2:1]}}" for n in range(routes // 10)]
    lines.append("routes:")
    lines += [
        f"  - {{name: route-{n}, match: {{path: '/service-{n}/items/{{id}}', methods: [GET, POST]}}, "
        f"auth: {{providers: [idp], scopes: [items]}}, rate_limit: [{{by: ip, limit: 100/second}}], "
        f"upstream: up-{n % (routes // 10)}}}"
        for n in range(routes)
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def running(folder: Path, routes: int) -> Iterator[tuple[int, int]]:
    """`gateway run`; yields its ports once it answers: a request without a token gets its 401."""
    port, admin = free_port(), free_port()
    file = folder / "routes.yaml"
    file.write_text(configuration(routes, port, admin))
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "run", "-c", str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ends = time.monotonic() + 20
        while True:
            with suppress(OSError):
                if ask(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) == 401:
                    break
            if time.monotonic() > ends or process.poll() is not None:
                raise RuntimeError("the gateway did not start")
            time.sleep(0.001)
        yield port, admin
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def ask(client: http.client.HTTPConnection) -> int:
    """The status of one request."""
    client.request("GET", "/service-1/items/7")
    reply = client.getresponse()
    reply.read()
    return reply.status


def start(folder: Path) -> float:
    """Seconds from the command to the first reply."""
    began = time.perf_counter()
    with running(folder, START_ROUTES):
        return time.perf_counter() - began


def reload(folder: Path) -> tuple[list[float], list[float]]:
    """Seconds of each reload, and of the slowest request of a client that asks all the time."""
    took, slowest = [], []
    with running(folder, RELOAD_ROUTES) as (port, admin):
        for _ in range(ROUNDS):
            waits: list[float] = []
            done = Event()
            probing = Thread(target=probe, args=(port, waits, done))
            probing.start()
            time.sleep(0.3)
            operator = http.client.HTTPConnection("127.0.0.1", admin, timeout=30)
            operator.request("POST", "/api/v1/reload", headers={"X-Gateway-Client": "bench"})
            took.append(json.loads(operator.getresponse().read())["took_ms"] / 1000)
            operator.close()
            time.sleep(0.3)
            done.set()
            probing.join()
            slowest.append(max(waits))
    return took, slowest


def probe(port: int, waits: list[float], done: Event) -> None:
    """Ask again and again on one connection, and keep the seconds of each request."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    while not done.wait(PAUSE):
        began = time.perf_counter()
        ask(client)
        waits.append(time.perf_counter() - began)
    client.close()


def balance(own: bool, gap: float) -> list[int]:
    """How many of CONNECTIONS, opened every `gap` seconds, each of two workers gets."""
    (group,) = bind("127.0.0.1:0", 2 if own else 1)
    counts, reports = [], []
    for number in range(2):
        reads, writes = os.pipe()
        pid = os.fork()
        if pid == 0:
            uvloop.run(accept(group, number if own else 0, writes))
            os._exit(0)
        os.close(writes)
        reports.append((pid, reads))
    try:
        clients = []
        for _ in range(CONNECTIONS):
            clients.append(socket.create_connection(("127.0.0.1", int(group.address.rpartition(":")[2]))))
            time.sleep(gap)
        time.sleep(0.2)
    finally:
        for client in clients:
            client.close()
        for pid, reads in reports:
            os.kill(pid, signal.SIGTERM)
            counts.append(int(os.read(reads, 100) or b"0"))
            os.close(reads)
            os.waitpid(pid, 0)
        for sock in group.sockets:
            sock.close()
    return counts


async def accept(group: Group, number: int, report: int) -> None:
    """Count connections until SIGTERM, then write their number."""
    loop, count, told = asyncio.get_running_loop(), 0, asyncio.Event()

    class Counting(asyncio.Protocol):
        def connection_made(self, _: asyncio.BaseTransport) -> None:
            nonlocal count
            count += 1

    loop.add_signal_handler(signal.SIGTERM, told.set)
    await loop.create_server(Counting, sock=group.sockets[number].dup())
    await told.wait()
    os.write(report, b"%d" % count)


if __name__ == "__main__":
    sys.exit(main())
