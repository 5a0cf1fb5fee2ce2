"""What each stage costs without sockets: the assembled handler in front of a connection that answers at once.

Counted is everything between a parsed request and the reply's head: call, match, door, road, the head for
the upstream, metrics. Parsing, writing and the kernel are left to bench.wire.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import cast

import uvloop
from rich.console import Console
from rich.table import Table

from bench.machine import describe, keep
from bench.systems import AUDIENCE, ISSUER, PATH, REPLY, SCOPE, make_keys
from gateway.assemble import World, assemble
from gateway.config import load
from gateway.exchange import Fields, Peer, Reply, Request
from gateway.http.pool import Pool
from gateway.runtime import Runtime
from gateway.telemetry.metrics import Metrics

BATCH = 2000
TARGET = "targets: [http://127.0.0.1:9001]"
OFF = {"retry": "retry: off", "breaker": "breaker: off"}
AUTH = f'auth: {{providers: [idp], scopes: ["{SCOPE}"]}}'
LIMIT = "rate_limit: [standard]"
TARGETS = "targets: [http://127.0.0.1:9001, http://127.0.0.1:9002]"
WATCHED = ("health: {path: /healthz}", "eject: {}", "slow_start: 10s")
RESILIENCE = (
    TARGETS,
    *WATCHED,
    "balance: peak_ewma",
    "hedge: {after: p95}",
    "quota: {respect: true}",
    "timeouts: {header: X-Request-Timeout-Ms}",
    "retry: {attempts_header: true}",
    "breaker: {slow_calls: {over: 1s}, open_for_max: 5m}",
)
VERSIONS = "versions: {default: v2, available: {v1: {upstream: orders}, v2: {upstream: orders}}}"
TEMPLATE = "transform: {request_headers: {set: {X-Source: 'gateway {request.id}'}}}"
PATHS = {"+ version by path": f"/v2{PATH}"}
"""Where it is not PATH that is asked for."""
FALLBACK = "fallback: [{on: [5xx], status: 200, json: {}}]"


class Answering:
    """A pooled connection whose upstream needs no time."""

    async def send(self, *_: object, **__: object) -> Reply:
        return Reply(200, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(REPLY))], REPLY)


class AlwaysIdle:
    """A pool that always has one of them."""

    connection = Answering()
    busy = 0

    def take(self) -> Answering:
        return self.connection

    def close(self) -> None:
        """There is nothing to close."""


class Nowhere:
    """A sink of access-log lines."""

    def put(self, line: bytes) -> None:
        """Forget it."""


UNCOUNTED = "bare, without metrics"

VARIANTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], bool]] = {
    # name: what the route has, what the upstream has (a stage that is off unless named, or a setting), access log
    "bare": ((), (), False),
    UNCOUNTED: ((), (), False),
    "+ access log": ((), (), True),
    "+ token and scope": ((AUTH,), (), False),
    "+ limit in memory": ((LIMIT.replace("standard", "per_ip"),), (), False),
    "+ retry": ((), ("retry",), False),
    "+ breaker": ((), ("breaker",), False),
    "+ fallback": ((FALLBACK,), (), False),
    "+ two targets": ((), (TARGETS,), False),
    "+ peak EWMA": ((), (TARGETS, "balance: peak_ewma"), False),
    "+ health and ejection": ((), (TARGETS, *WATCHED), False),
    "+ hedge": ((), (TARGETS, "hedge: {after: p95}"), False),
    "+ quota": ((), ("quota: {respect: true}",), False),
    "+ deadline header": ((), ("timeouts: {header: X-Request-Timeout-Ms}",), False),
    "+ version by path": ((VERSIONS,), (), False),
    "+ header template": ((TEMPLATE,), (), False),
    "+ CORS": (("cors: {origins: ['https://app.example.com']}",), (), False),
    "+ compression (none)": (("compress: true",), (), False),
    "full policy": ((AUTH, LIMIT, FALLBACK), ("retry", "breaker"), True),
    "all of resilience": ((FALLBACK,), RESILIENCE, False),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.stack", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help=f"batches of {BATCH} requests (default: 15)")
    rounds = max(1, parser.parse_args().rounds)
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        costs = uvloop.run(measure(Path(temporary), rounds))
    bare = median(costs["bare"])
    machine = describe()
    table = Table(caption=f"{machine['cpu']}, Python {sys.version.split()[0]}")
    table.add_column("stages")
    for heading in ("µs per request", "spread", "over bare"):
        table.add_column(heading, justify="right")
    for name, runs in costs.items():
        table.add_row(name, f"{median(runs):.1f}", f"{min(runs):.1f}–{max(runs):.1f}", f"{median(runs) - bare:+.1f}")
    console = Console()
    console.print(table)
    kept = {name: {"median": median(runs), "min": min(runs), "max": max(runs)} for name, runs in costs.items()}
    file = keep("stack", {"unit": "µs per request", "rounds": rounds, "stages": kept})
    console.print(f"written to {file.relative_to(Path(__file__).parent.parent)}")
    return 0


async def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Microseconds per request of every variant, in interleaved rounds."""
    token = make_keys(folder)
    runtimes = {name: runtime(folder, *variant, counted=name != UNCOUNTED) for name, variant in VARIANTS.items()}
    # One object for all requests, as on a kept-alive connection whose client repeats itself.
    fields = Fields(
        [
            (b"host", b"api.example.com"),
            (b"authorization", f"Bearer {token}".encode()),
            (b"accept", b"*/*"),
            (b"user-agent", b"bench"),
        ],
        host=b"api.example.com",
    )
    costs: dict[str, list[float]] = {name: [] for name in runtimes}
    for number in range(-1, rounds):  # the first round warms up
        for name, built in runtimes.items():
            cost = await batch(built, fields, PATHS.get(name, PATH))
            if number >= 0:
                costs[name].append(cost)
    for built in runtimes.values():
        await built.close()
    return costs


def runtime(
    folder: Path, on_route: tuple[str, ...], on_upstream: tuple[str, ...], logged: bool, *, counted: bool
) -> Runtime:
    """The runtime of one variant, its upstream connections replaced."""
    settings = {each.partition(":")[0]: each for each in (TARGET, *OFF.values(), *on_upstream)}
    upstream = ", ".join(setting for setting in settings.values() if ":" in setting)
    end = () if VERSIONS in on_route else ("upstream: orders",)
    route = ", ".join(["name: orders", "match: {path: /orders/**}", *on_route, *end])
    file = folder / "routes.yaml"
    file.write_text(f"""
auth:
  providers:
    idp: {{type: jwt, issuer: {ISSUER}, audience: [{AUDIENCE}], key: public.pem, algorithms: [RS256]}}
rate_limits:
  standard: {{by: consumer, limit: 1000000/second}}
  per_ip: {{by: ip, limit: 1000000/second}}
upstreams:
  orders: {{{upstream}}}
routes:
  - {{{route}}}
""")
    world = World(Metrics(), Nowhere() if logged else None, instance="bench")
    built = assemble(load(file, {}), world)
    if not counted:
        built.handler.finished = lambda *_: None
    for target in built.upstreams["orders"].targets:
        target.pool = cast(Pool, AlwaysIdle())
    return built


async def batch(built: Runtime, fields: Fields, path: str) -> float:
    """Microseconds per request. Raises RuntimeError when one is not answered as it should be."""
    handler, peer, target = built.handler, Peer("127.0.0.1", 40000), path.encode()
    started = time.perf_counter()
    for _ in range(BATCH):
        now = time.monotonic()
        call = handler.open(Request("GET", target, fields, peer, now))
        reply = await handler.handle(call)
        if reply.status != 200:
            raise RuntimeError(f"answered {reply.status}")
        handler.finished(call, reply.status, len(REPLY), 0, time.monotonic() - now)
    return (time.perf_counter() - started) / BATCH * 1e6


if __name__ == "__main__":
    sys.exit(main())
