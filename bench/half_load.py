"""What a Redis adds to the time of a request while the gateway has half of what it can do to do.

wrk finds out how much that is; then 32 connections ask at an even pace, each its next request at its time, whether
limits are in memory or in Redis: the difference between the two is what the round trip costs. The bound is 1 ms at p99.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import cast

import uvloop
from rich.console import Console
from rich.table import Table

from bench.load import load
from bench.machine import keep
from bench.processes import cores
from bench.systems import PATH, Bench, Started, make_keys, ours_full, ours_full_redis, upstream

CONNECTIONS = 32
BOUND = 1.0
"""Milliseconds at p99."""
UNTIMED = 0.5
"""Seconds at the beginning that do not count."""

SYSTEMS: dict[str, Callable[[Bench], Started]] = {"memory": ours_full, "redis": ours_full_redis}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.half_load", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured (default: 3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one measurement (default: 5)")
    options = parser.parse_args()
    wrk = shutil.which("wrk")
    if wrk is None or shutil.which("nginx") is None:
        Console().print("bench.half_load needs wrk (to find the full load) and nginx (the upstream): one is missing")
        return 2
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        own, others = cores()
        headers = {"Authorization": f"Bearer {make_keys(folder)}"}
        port, running = upstream(folder, others)
        with running:
            bench = Bench(folder, port, own)
            full = full_load(wrk, bench, headers, others)
            if others is not None:
                os.sched_setaffinity(0, {others})
            times: dict[str, list[list[float]]] = {name: [] for name in SYSTEMS}
            for number in range(options.rounds):
                for name in [*SYSTEMS] if number % 2 else [*reversed(SYSTEMS)]:
                    times[name].append(paced(bench, SYSTEMS[name], headers, full / 2, options.seconds))
    return report(full / 2, times)


def full_load(wrk: str, bench: Bench, headers: dict[str, str], core: int | None) -> float:
    """Requests per second that the gateway can do with a Redis."""
    port, running = ours_full_redis(bench)
    with running as pid:
        figure = load(wrk, port, PATH, headers, seconds=3, connections=CONNECTIONS, core=core, pid=pid)
    return figure.rate


def paced(
    bench: Bench, start: Callable[[Bench], Started], headers: dict[str, str], rate: float, seconds: float
) -> list[float]:
    """The seconds that each request took."""
    port, running = start(bench)
    with running:
        return uvloop.run(drive(port, headers, rate, seconds))


async def drive(port: int, headers: dict[str, str], rate: float, seconds: float) -> list[float]:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"GET {PATH} HTTP/1.1\r\nHost: api\r\n{lines}\r\n".encode()
    loop = asyncio.get_running_loop()
    clients = [Client(request, CONNECTIONS / rate) for _ in range(CONNECTIONS)]
    for number, client in enumerate(clients):
        await loop.create_connection(lambda each=client: each, "127.0.0.1", port)  # type: ignore[misc]
        client.begin(number / rate)
    await asyncio.sleep(UNTIMED)
    for client in clients:
        client.times.clear()
    await asyncio.sleep(seconds)
    for client in clients:
        client.end()
    bad = sum(client.bad for client in clients)
    if bad:
        raise RuntimeError(f"{bad} replies were not 200: such a figure means nothing")
    return [each for client in clients for each in client.times]


class Client(asyncio.Protocol):
    """Asks every `pace` seconds, or as soon as the last reply is here; the time counts from when it was due."""

    def __init__(self, request: bytes, pace: float) -> None:
        self.times: list[float] = []
        self.bad = 0
        self._request = request
        self._pace = pace
        self._due = 0.0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not derived from it

    def begin(self, wait: float) -> None:
        self._due = time.monotonic() + wait
        self._timer = self._loop.call_later(wait, self._ask)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    def _ask(self) -> None:
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """The reply is small: it comes in one piece."""
        now = time.monotonic()
        self.bad += not data.startswith(b"HTTP/1.1 200 ")
        self.times.append(now - self._due)
        self._due += self._pace
        self._timer = self._loop.call_later(max(0.0, self._due - now), self._ask)


def report(rate: float, times: dict[str, list[list[float]]]) -> int:
    """1 when the bound is missed."""
    p50 = {name: median(median(each) * 1000 for each in rounds) for name, rounds in times.items()}
    p99 = {name: median(quantiles(each, n=100)[98] * 1000 for each in rounds) for name, rounds in times.items()}
    table = Table("limits in", "p50, ms", "p99, ms", title=f"{rate:,.0f} requests a second, half of the full load")
    for name in times:
        table.add_row(name, f"{p50[name]:.2f}", f"{p99[name]:.2f}")
    added = p99["redis"] - p99["memory"]
    console = Console()
    console.print(table, f"a Redis adds {added:.2f} ms at p99")
    keep("half_load", {"rate": rate, "p50_ms": p50, "p99_ms": p99, "added_p99_ms": added})
    return int(added > BOUND)


if __name__ == "__main__":
    sys.exit(main())
