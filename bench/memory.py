"""What the gateway holds: during large bodies, per idle connection, and with ten thousand routes.

Every figure has a bound that it must keep; the exit status is 1 when one does not.
"""

import asyncio
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.machine import describe, keep
from bench.processes import free_port, resident_bytes
from bench.systems import gateway, upstream
from bench.transfer import growth, peer
from gateway.assemble import rule
from gateway.config import load
from gateway.routing.path import normalise
from gateway.routing.router import Router

SIZE = 2**30
GROWTH_LIMIT = 10 * 2**20
IDLE = 5000
IDLE_LIMIT = 20 * 1024
ROUTES = 10_000
CHECK_LIMIT = 5.0
MATCH_LIMIT = 2.0
"""Times the cost of a match among ten routes."""
PASSES = 101

SETTINGS = """
upstreams:
  u: {{targets: [http://127.0.0.1:{port}]}}
routes:
  - {{name: all, match: {{path: /**}}, body_limit: none, upstream: u}}
logging: {{access: off}}
"""


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    value: float
    limit: float
    unit: str

    @property
    def kept(self) -> bool:
        return self.value < self.limit


def main() -> int:
    console = Console()
    # A thousand descriptors are the default; children inherit the new limit.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = IDLE + 1000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        console.print(f"bench.memory needs {wanted} file descriptors, and the hard limit is {hard}")
        return 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        for finding in (*bodies(folder), idle_connections(folder), *many_routes(folder)):
            findings.append(finding)
            console.print(f"{finding.what}: {finding.value:,.2f} {finding.unit}", markup=False)
    machine = describe()
    table = Table(caption=f"{machine['cpu']}, {machine['system']}, Python {sys.version.split()[0]}")
    table.add_column("what")
    for heading in ("figure", "must be under", ""):
        table.add_column(heading, justify="right")
    for finding in findings:
        verdict = "kept" if finding.kept else "[red]NOT KEPT[/red]"
        table.add_row(
            finding.what, f"{finding.value:,.2f} {finding.unit}", f"{finding.limit:,.0f} {finding.unit}", verdict
        )
    console.print(table)
    file = keep("memory", [{**asdict(finding), "kept": finding.kept} for finding in findings])
    console.print(f"written to {file.relative_to(Path(__file__).parent.parent)}")
    return 0 if all(finding.kept for finding in findings) else 1


def bodies(folder: Path) -> Iterator[Finding]:
    """Memory that a gateway gains while 1 GiB passes through it, each way in a fresh process."""
    for method, direction in (("POST", "upload"), ("GET", "download")):
        port = free_port()
        public, running = gateway(folder, direction, SETTINGS.format(port=port), None)
        with running as pid:
            grown = asyncio.run(_transfer(public, port, method, pid))
        yield Finding(f"{direction} of 1 GiB, growth", grown / 2**20, GROWTH_LIMIT / 2**20, "MiB")


async def _transfer(public: int, port: int, method: str, pid: int) -> int:
    async with peer(port):
        return await growth(public, method, SIZE, lambda: resident_bytes(pid))


def idle_connections(folder: Path) -> Finding:
    """Memory per connection that has had one request and waits for the next."""
    port, behind = upstream(folder, None)
    public, running = gateway(folder, "idle", SETTINGS.format(port=port), None)
    with behind, running as pid, ExitStack() as clients:
        for _ in range(20):
            _request(clients, public)
        before = resident_bytes(pid)
        for _ in range(IDLE):
            _request(clients, public)
        grown = resident_bytes(pid) - before
    return Finding(f"{IDLE:,} idle connections, each", grown / IDLE / 1024, IDLE_LIMIT / 1024, "KiB")


def _request(clients: ExitStack, port: int) -> None:
    client = clients.enter_context(socket.create_connection(("127.0.0.1", port), 10))
    client.sendall(b"GET /orders/7 HTTP/1.1\r\nhost: bench.example\r\nuser-agent: bench\r\naccept: */*\r\n\r\n")
    reply = client.recv(4096)
    if not reply.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"the gateway answered {reply[:80]!r}")


def many_routes(folder: Path) -> Iterator[Finding]:
    """What ten thousand routes cost: `gateway check` once, and a match each time."""
    few, many = _routes(folder, 10), _routes(folder, ROUTES)
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "gateway", "check", "-c", str(many)], check=True, timeout=120, stdout=subprocess.DEVNULL
    )
    yield Finding(f"gateway check of {ROUTES:,} routes", time.perf_counter() - started, CHECK_LIMIT, "s")
    base, cost = _match_seconds((few, 10), (many, ROUTES))
    yield Finding(
        f"match among {ROUTES:,} routes ({cost * 1e6:.2f} µs) to one among 10 ({base * 1e6:.2f} µs)",
        cost / base,
        MATCH_LIMIT,
        "times",
    )


def _routes(folder: Path, count: int) -> Path:
    """Services with an exact path, a parameter, and a rest, in turns."""
    shapes = ("/api/service-{}/items", "/api/service-{}/items/{{id}}", "/api/service-{}/files/**")
    lines = ["upstreams:", "  u: {targets: [http://127.0.0.1:9001]}", "routes:"]
    for number in range(count):
        path = shapes[number % 3].format(number)
        lines += [
            f"  - name: route-{number}",
            f"    match: {{path: '{path}', methods: [GET, POST]}}",
            "    upstream: u",
        ]
    file = folder / f"{count}-routes.yaml"
    file.write_text("\n".join(lines) + "\n")
    return file


def _match_seconds(*files: tuple[Path, int]) -> list[float]:
    """Median seconds per match for each file and its number of routes.

    A thousand requests go evenly to all routes of each, every one an object of its own, as from the wire.
    The files take turns: what disturbs the machine disturbs all.
    """
    endings = ("items", "items/42", "files/a/b")
    cases = []
    for file, count in files:
        router = Router([rule(settings, settings.name) for settings in load(file, {}).routes])
        numbers = [number * max(1, count // 1000) % count for number in range(1000)]
        paths = [f"/api/service-{n}/{endings[n % 3]}".encode() for n in numbers]
        cases.append((router, [normalise(path, b"api.example") for path in paths]))
    passes: list[list[float]] = [[] for _ in cases]
    for _ in range(PASSES):
        for (router, asked), times in zip(cases, passes, strict=True):
            started = time.perf_counter()
            for normal in asked:
                router.match("GET", b"api.example", normal, [])
            times.append((time.perf_counter() - started) / len(asked))
    return [median(times) for times in passes]


if __name__ == "__main__":
    sys.exit(main())
