"""What a scrape of a thousand routes takes, and what it holds up: health checks of its own process, and a worker.

Two workers' sets are filled with every series that a route with an upstream of its own has. One process scrapes, as
the operator process does: in a thread, beside a running loop. Another one counts like a worker, on the other core, in
one of the sets, and notes how long its loop ever paused: for a while without scrapes, then with them.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import uvloop
from rich.console import Console
from rich.table import Table

from bench.machine import keep
from bench.processes import cores, pinned
from gateway.telemetry.cells import SharedCells, Summary
from gateway.telemetry.collector import MetricsCollector
from gateway.telemetry.exposition import Scrape
from gateway.telemetry.metrics import Metrics

ROUTES = 1000
ROUNDS = 15
LIVE = ("0", "1")
SCRAPE_BOUND, GAP_BOUND = 0.2, 0.002
MORE = "2 more"
TURNS, SECONDS = 5, 3.0
"""A worker is watched so many times without and with scrapes, for so long each time."""

Pause = tuple[float, float]
"""Seconds by the clock, in which others may have had the core, and of the worker's own CPU time."""

TEXT, OPENMETRICS = "text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"


def main() -> int:
    system, rest = cores()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name in LIVE:
            fill(Path(folder) / name)
        collector = MetricsCollector(Summary(Path(folder)), lambda: LIVE, lambda: None)
        scrape = Scrape(collector.read)
        if rest is not None:
            os.sched_setaffinity(0, {rest})
        figures = {
            f"{name}{', gzip' if coding else ''}": [timed(scrape, accept, coding) for _ in range(ROUNDS)]
            for name, accept in (("text", TEXT), ("OpenMetrics", OPENMETRICS))
            for coding in ("", "gzip")
        }
        body, _ = scrape.answer(OPENMETRICS)
        pauses = asyncio.run(loop_pauses(scrape))
        began = time.process_time()
        scrape.answer(OPENMETRICS, "gzip")
        spent = time.process_time() - began
        quiet, scraped = watched(Path(folder), scrape, system)
    table = Table()
    for heading in (
        f"{ROUTES} routes, {body.count(10)} lines, {len(body) / 1e6:.1f} MB",
        "median ms",
        "spread",
        "bound",
    ):
        table.add_column(heading, justify="left" if heading.startswith(str(ROUTES)) else "right")
    for name, runs in figures.items():
        table.add_row(f"scrape, {name}", *shown(runs), f"{SCRAPE_BOUND * 1000:.0f}")
    table.add_row("of this, the last one's own CPU time", *shown([spent]), "–")
    table.add_row("longest pause of the operator's loop meanwhile", *shown(pauses), "–")
    for which, name in enumerate(("longest pause of a worker's loop", "… of this, CPU time in one turn")):
        table.add_row(f"{name}, nobody scrapes", *shown([pause[which] for pause in quiet]), "–")
        table.add_row(f"{name}, somebody always scrapes", *shown([pause[which] for pause in scraped]), MORE)
    Console().print(table)
    keep(
        "telemetry",
        {"scrape": figures, "scrape_cpu": spent, "operator": pauses, "worker_quiet": quiet, "worker_scraped": scraped},
    )
    late = median(wall for wall, _ in scraped) - median(wall for wall, _ in quiet) > GAP_BOUND
    return int(late or any(median(runs) > SCRAPE_BOUND for runs in figures.values()))


def shown(runs: list[float]) -> tuple[str, str]:
    return f"{median(runs) * 1000:.2f}", f"{min(runs) * 1000:.2f}–{max(runs) * 1000:.2f}"


def timed(scrape: Scrape, accept: str, coding: str) -> float:
    began = time.perf_counter()
    scrape.answer(accept, coding)
    return time.perf_counter() - began


def fill(folder: Path) -> None:
    """What a worker has counted."""
    cells, dice = SharedCells(folder), random.Random(8)
    metrics = Metrics(cells)
    targets = [(f"upstream-{n}", f"http://10.0.{n // 250}.{n % 250}:8080") for n in range(ROUTES)]
    for number, (upstream, target) in enumerate(targets):
        count_route(metrics, f"route-{number}", dice)
        for outcome in ("200", "timeout"):
            metrics.attempts.child(upstream, target, outcome).inc(dice.randrange(10**7))
        for histogram in (metrics.upstream_duration.child(upstream, target), metrics.connect_duration.child(upstream)):
            for _ in range(30):
                histogram.observe(dice.expovariate(20))
        metrics.retries.child(upstream, "timeout").inc(dice.randrange(1000))
        metrics.breaker_transitions.child(upstream, target, "open").inc()
    metrics.breaker_state.replace(dict.fromkeys(targets, 0.0))
    metrics.target_healthy.replace(dict.fromkeys(targets, 1.0))
    metrics.upstream_connections.replace({(name, state): 3.0 for name, _ in targets for state in ("busy", "idle")})
    cells.close()


def count_route(metrics: Metrics, route: str, dice: random.Random) -> None:
    for status, kind in (("200", "2xx"), ("503", "5xx")):
        metrics.requests.child(route, "v1", "GET", status, "acme").inc(dice.randrange(10**7))
        series = (route, "GET", kind)
        for _ in range(30):
            metrics.request_duration.child(*series).observe(dice.expovariate(20))
        metrics.exemplars.note(series, 0.03, f"{dice.getrandbits(128):032x}", 1.79e9)
    for _ in range(30):
        metrics.own_duration.child(route).observe(dice.expovariate(5000))
        metrics.first_byte.child(route).observe(dice.expovariate(20))
    for direction in ("in", "out"):
        metrics.bytes.child(route, direction).inc(dice.randrange(10**10))
    metrics.ended.child(route, "rate_limited").inc(5)
    metrics.refusals.child(route, "rate_limited").inc(5)
    metrics.rate_limit_decisions.child(route, "standard", "allowed").inc(dice.randrange(10**7))
    for slo in ("availability", "latency"):
        for result in ("good", "bad"):
            metrics.slo_requests.child(route, slo, result).inc(dice.randrange(10**7))


async def loop_pauses(scrape: Scrape) -> list[float]:
    """The longest wait of somebody who asks the loop for nothing but a turn, during each scrape."""
    found = []
    for _ in range(ROUNDS):
        task = asyncio.create_task(asyncio.to_thread(scrape.answer, OPENMETRICS, "gzip"))
        longest, last = 0.0, time.perf_counter()
        while not task.done():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last - 0.001), now
        found.append(longest)
    return found


def watched(folder: Path, scrape: Scrape, core: int | None) -> tuple[list[Pause], list[Pause]]:
    """The longest pauses of a worker's loop, without scrapes and with them, by turns: by the clock, and of CPU time."""
    quiet: list[Pause] = []
    scraped: list[Pause] = []
    for _ in range(TURNS):
        for found, work in ((quiet, lambda: time.sleep(0.1)), (scraped, lambda: scrape.answer(OPENMETRICS, "gzip"))):
            command = [sys.executable, "-m", "bench.telemetry", str(folder / LIVE[0])]
            with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=pinned(core)) as worker:
                while worker.poll() is None:
                    work()
                assert worker.stdout is not None
                found.append(json.load(worker.stdout))
    return quiet, scraped


async def count(folder: Path) -> Pause:
    """Be a worker that counts as for requests, turn after turn of its loop; returns the longest pauses."""
    metrics, longest, most = Metrics(SharedCells(folder)), 0.0, 0.0
    duration = metrics.request_duration.child("route-7", "GET", "2xx")
    requests = metrics.requests.child("route-7", "v1", "GET", "200", "acme")
    began = last = time.perf_counter()
    spent = time.thread_time()
    while last - began < SECONDS:
        requests.inc()
        duration.observe(0.03)
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        used = time.thread_time()
        most, spent = max(most, used - spent), used
    return longest, most


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(uvloop.run(count(Path(sys.argv[1])))))
    else:
        sys.exit(main())
