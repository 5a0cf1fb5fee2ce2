"""What callers notice when the store of the limits dies, stands still, and comes back, while requests keep coming.

500 requests a second on 16 connections through one worker; after two seconds the trouble begins, two seconds later it
ends. Bounds: no reply with 5xx, nobody waits much longer than `store.timeout` more, limits are shared again within 2 s.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles

import uvloop
from rich.console import Console
from rich.table import Table

from bench.identity import beside, upstream
from bench.machine import keep
from bench.processes import cores, free_port, redis_server, server

RATE, CONNECTIONS, PHASE = 500, 16, 2.0
TIMEOUT = 0.05
"""Seconds; what `store.timeout` says."""

BACK_WITHIN = 2.0
SLACK = 0.02
"""Seconds: a request may have waited before it asked the store."""


Do = Callable[[], object]


class Seen:
    """Replies by the phase in which they were asked for."""

    def __init__(self) -> None:
        self.phase = "before"
        self.waits: dict[str, list[float]] = {}
        self.statuses: Counter[int] = Counter()

    def reply(self, phase: str, status: int, waited: float) -> None:
        self.waits.setdefault(phase, []).append(waited)
        self.statuses[status] += 1


def main() -> int:
    rows, missed = {}, False
    for trouble in ("killed", "frozen"):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            seen, back = run(Path(folder), trouble)
        p99 = {phase: quantiles(waits, n=100)[98] for phase, waits in seen.waits.items()}
        worst = max(seen.waits["trouble"])
        rows[trouble] = {"statuses": dict(seen.statuses), "p99_s": p99, "worst_s": worst, "back_s": back}
        failed = sum(count for status, count in seen.statuses.items() if status >= 500)
        missed |= bool(failed) or worst > max(seen.waits["before"]) + TIMEOUT + SLACK or back > BACK_WITHIN
    table = Table("", "statuses", "p99 before, ms", "p99 in trouble", "longest in trouble", "shared again after, s")
    for trouble, row in rows.items():
        before, during = row["p99_s"]["before"] * 1000, row["p99_s"]["trouble"] * 1000
        statuses = ", ".join(f"{count} x {status}" for status, count in row["statuses"].items())
        table.add_row(
            trouble, statuses, f"{before:.1f}", f"{during:.1f}", f"{row['worst_s'] * 1000:.1f}", f"{row['back_s']:.2f}"
        )
    Console().print(table)
    keep("outage", rows)
    return int(missed)


def run(folder: Path, trouble: str) -> tuple[Seen, float]:
    """Replies, and the seconds from the end of the trouble until limits were shared again."""
    up, port, admin = free_port(), free_port(), free_port()
    ours, other = cores()
    if other is not None:
        os.sched_setaffinity(0, {other})
    with ExitStack() as stack:
        url, pid = stack.enter_context(redis_server(folder))
        (folder / "routes.yaml").write_text(f"""
listen: {{http: 127.0.0.1:{port}, admin: 127.0.0.1:{admin}}}
logging: {{access: off}}
store: {{url: '{url}', timeout: {TIMEOUT * 1000:.0f}ms}}
rate_limits: {{all: {{by: global, limit: 1000000/second}}}}
upstreams: {{up: {{targets: [http://127.0.0.1:{up}]}}}}
routes: [{{name: r, match: {{path: /**}}, rate_limit: all, upstream: up}}]
""")
        stack.enter_context(beside(upstream, up))
        command = [sys.executable, "-m", "gateway", "run", "-c", str(folder / "routes.yaml")]
        stack.enter_context(server(command, port, core=ours, log=folder / "gateway.log", says="listening on"))
        with causing(trouble, pid, url, folder) as (begin, end):
            return uvloop.run(drive(port, folder / "gateway.log", begin, end))


@contextmanager
def causing(trouble: str, pid: int, url: str, folder: Path) -> Iterator[tuple[Do, Do]]:
    """What begins the trouble, and what ends it."""
    with ExitStack() as stack:
        if trouble == "frozen":
            yield lambda: os.kill(pid, signal.SIGSTOP), lambda: os.kill(pid, signal.SIGCONT)
        else:
            again = folder / "again"
            again.mkdir()
            number = int(url.rpartition(":")[2].partition("/")[0])
            yield (
                lambda: os.kill(pid, signal.SIGKILL),
                lambda: stack.enter_context(redis_server(again, number)),
            )


async def drive(port: int, log: Path, begin: Do, end: Do) -> tuple[Seen, float]:
    seen = Seen()
    clients = [asyncio.create_task(client(port, seen, number)) for number in range(CONNECTIONS)]
    await asyncio.sleep(PHASE)
    seen.phase = "trouble"
    begin()
    await asyncio.sleep(PHASE)
    await asyncio.to_thread(end)
    back = await asyncio.to_thread(until_shared, log)
    seen.phase = "after"
    await asyncio.sleep(PHASE / 2)
    for task in clients:
        task.cancel()
    for failure in await asyncio.gather(*clients, return_exceptions=True):
        assert isinstance(failure, asyncio.CancelledError), failure
    return seen, back


def until_shared(log: Path) -> float:
    """Seconds until the gateway says that limits are shared again."""
    began = time.monotonic()
    while "limits are shared again" not in log.read_text() and time.monotonic() < began + 5 * BACK_WITHIN:
        time.sleep(0.01)
    return time.monotonic() - began


async def client(port: int, seen: Seen, number: int) -> None:
    """Asks at an even pace, whatever the replies take, as long as one is back before the next is due."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        due = time.monotonic() + number / RATE
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += CONNECTIONS / RATE
            phase, began = seen.phase, time.monotonic()
            writer.write(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            seen.reply(phase, int(head[9:12]), time.monotonic() - began)
    finally:
        writer.close()


if __name__ == "__main__":
    sys.exit(main())
