"""Whether rate limits are exact and what they cost: processes that fight for one key, three stores, a million keys.

The server is a Valkey or Redis of its own on this machine. What a round trip costs shows what a lease saves: with one,
a caller's permit is in hand in most cases. Every bound that is missed makes the exit status 1.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from array import array
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import quantiles

import uvloop
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from bench.machine import keep
from bench.processes import redis_server, resident_bytes
from gateway.limits.clients import connect
from gateway.limits.failover import SharedStore
from gateway.limits.gcra import rate
from gateway.limits.lease import LeasedStore
from gateway.limits.memory import MemoryStore
from gateway.limits.redis import RedisStore
from gateway.limits.store import RateStore, Take

PROCESSES = 4
CALLERS = 32
LEASE = 100
YEAR = 365 * 86400.0
"""A window in which nothing comes back while a benchmark runs."""
PATIENCE = 60.0
"""Seconds that a store may take here: all callers of a process ask at once."""

BYTES_BOUND, PAUSE_BOUND, TRIPS_BOUND = 200, 5.0, 1.0
"""Bytes per key; milliseconds of the slowest take; round trips per turn of the loop in which somebody asked."""

FORK = get_context("fork")


@dataclass(frozen=True, slots=True)
class Speed:
    """One store under CALLERS that ask as fast as they are answered."""

    takes: int
    seconds: float
    p99: float
    """Seconds, as the next one."""
    slowest: float
    turns: int
    """Of the loop, in which somebody asked."""
    trips: int = 0
    commands: int = 0
    """As the server counts them."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.limits", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="fights for one key (default: 3)")
    parser.add_argument("--takes", type=int, default=100_000, help="in each of them, at once (default: 100,000)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each store (default: 3)")
    parser.add_argument("--keys", type=int, default=1_000_000, help="in memory (default: 1,000,000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, redis_server(Path(folder)) as (url, _):
        limit = options.takes * 6 // 10
        fights = {lease: [fight(url, options.takes, limit, lease) for _ in range(options.runs)] for lease in (0, LEASE)}
        speeds = {name: uvloop.run(speed(name, url, options.seconds)) for name in ("memory", "exact", "leased")}
    with FORK.Pool(1) as alone:
        bytes_per_key, slowest = alone.apply(many_keys, (options.keys,))
    console = Console()
    console.print(fights_table(fights, options.takes, limit), speeds_table(speeds))
    console.print(f"{options.keys:,} keys in memory: {bytes_per_key:.0f} bytes each, slowest take {slowest:.2f} ms")
    figures = {
        "limit": limit,
        "passed": {"exact": fights[0], f"leases of {LEASE}": fights[LEASE]},
        "stores": {name: figures_of(result) for name, result in speeds.items()},
        "memory": {"keys": options.keys, "bytes_per_key": bytes_per_key, "slowest_take_ms": slowest},
    }
    keep("limits", figures)
    kept = (
        all(passed == limit for passed in fights[0]),
        all(limit - PROCESSES * LEASE <= passed <= limit for passed in fights[LEASE]),
        all(result.trips <= result.turns * TRIPS_BOUND for result in speeds.values()),
        bytes_per_key < BYTES_BOUND,
        slowest < PAUSE_BOUND,
    )
    return int(not all(kept))


def store_of(name: str, url: str, trips: list[float] | None = None) -> RateStore:
    """`memory`, `exact` or `leased`; `trips` gets the seconds of each round trip."""
    if name == "memory":
        return MemoryStore()
    client = connect(url, PATIENCE)
    assert isinstance(client, Redis)  # one server, no cluster
    observe = trips.append if trips is not None else lambda seconds: None
    shared = SharedStore(RedisStore(client, timeout=PATIENCE, observe=observe), on_failure="closed")
    return LeasedStore(shared, {"hot": LEASE}) if name == "leased" else shared


def fight(url: str, takes: int, limit: int, lease: int) -> int:
    """How many of `takes` pass, which PROCESSES make at once of one fresh key."""
    key = os.urandom(16).hex().encode()
    barrier = FORK.Barrier(PROCESSES)
    with FORK.Pool(PROCESSES, _meet, (barrier,)) as pool:
        job = ("leased" if lease else "exact", url, key, limit, takes // PROCESSES)
        return sum(pool.starmap(contend, [job] * PROCESSES, chunksize=1))


_barrier: Barrier


def _meet(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def contend(name: str, url: str, key: bytes, limit: int, takes: int) -> int:
    """One process's part of a fight: how many of its takes pass."""

    async def run() -> int:
        store = store_of(name, url)
        take: list[Take] = [(key, rate("hot", limit, YEAR), 1)]
        _barrier.wait(PATIENCE)
        try:
            answers = await asyncio.gather(*(store.take(take) for _ in range(takes)))
        finally:
            await store.close()
        return sum(quota.allowed for (quota,), _, _ in answers)

    return uvloop.run(run())


async def speed(name: str, url: str, seconds: float) -> Speed:
    """One key that is never used up."""
    trips: list[float] = []
    store = store_of(name, url, trips)
    take: list[Take] = [(os.urandom(16).hex().encode(), rate("hot", 1_000_000_000, YEAR), 1)]
    loop, waits, turns = asyncio.get_running_loop(), array("d"), 0
    counted = False

    def turn_over() -> None:
        nonlocal counted
        counted = False

    async def caller(until: float) -> None:
        nonlocal counted, turns
        began = time.perf_counter()
        while began < until:
            if not counted:
                counted = True
                turns += 1
                loop.call_soon(turn_over)
            await store.take(take)
            now = time.perf_counter()
            waits.append(now - began)
            began = now

    try:
        async with Redis.from_url(url) as server:
            await store.take(take)  # connects, and loads the script
            await server.config_resetstat()
            trips.clear()
            started = time.perf_counter()
            await asyncio.gather(*(caller(started + seconds) for _ in range(CALLERS)))
            took = time.perf_counter() - started
            commands = (await server.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"]
    finally:
        await store.close()
    return Speed(len(waits), took, quantiles(waits, n=100)[98], max(waits), turns, len(trips), commands)


def many_keys(count: int) -> tuple[float, float]:
    """Bytes of resident memory per key, and milliseconds of the slowest take of so many and as many again.

    The second half finds the table full, so that others have to go. Counted is the time that this process had a
    processor for: what else the machine does at the moment is not the store's.
    """
    limit = rate("hot", 100, YEAR)
    store = MemoryStore(capacity=count)
    take, clock, slowest = store.take_one, time.thread_time, 0.0
    before = resident_bytes(os.getpid())
    bytes_per_key = 0.0
    for half in range(2):
        for number in range(half * count, (half + 1) * count):
            key = b"%032x" % number
            began = clock()
            take(key, limit, 1)
            took = clock() - began
            if took > slowest:
                slowest = took
        bytes_per_key = bytes_per_key or (resident_bytes(os.getpid()) - before) / count
    return bytes_per_key, slowest * 1000


def fights_table(fights: dict[int, list[int]], takes: int, limit: int) -> Table:
    table = Table(title=f"{takes:,} takes at once over {PROCESSES} processes, limit {limit:,}")
    for heading in ("", "passed", "bound"):
        table.add_column(heading, justify="left" if not heading else "right")
    for lease, passed in fights.items():
        bound = f"{limit - PROCESSES * lease:,} to {limit:,}" if lease else f"exactly {limit:,}"
        table.add_row(f"leases of {lease}" if lease else "exact", ", ".join(f"{p:,}" for p in passed), bound)
    return table


def speeds_table(speeds: dict[str, Speed]) -> Table:
    table = Table(title=f"{CALLERS} callers of one key in one process, leases of {LEASE}")
    for heading in ("", "takes/s", "p99 µs", "slowest ms", "commands/take", "trips/turn"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, it in speeds.items():
        table.add_row(
            name if name == "memory" else f"Redis, {name}",
            f"{it.takes / it.seconds:,.0f}",
            f"{it.p99 * 1e6:.1f}",
            f"{it.slowest * 1e3:.2f}",
            f"{it.commands / it.takes:.3f}" if it.trips else "",
            f"{it.trips / it.turns:.2f}" if it.trips else "",
        )
    return table


def figures_of(it: Speed) -> dict[str, float]:
    return {
        "takes_per_second": it.takes / it.seconds,
        "p99_us": it.p99 * 1e6,
        "slowest_ms": it.slowest * 1e3,
        "commands_per_take": it.commands / it.takes,
        "trips_per_turn": it.trips / it.turns,
    }


if __name__ == "__main__":
    sys.exit(main())
