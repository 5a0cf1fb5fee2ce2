"""One request to see that a system answers rightly, then wrk to see how fast."""

import http.client
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.processes import cpu_seconds, pinned

REPORT = Path(__file__).with_name("report.lua")
GRACE = 20.0
"""Seconds beyond its own duration after which wrk is given up."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What one run of wrk against one system said."""

    rate: float
    """Requests per second."""
    p50: float
    p99: float
    """Milliseconds."""
    busy: float | None
    """Share of its core that the system used; below about 0.9 the figure is the load generator's, not its own."""


def ask(port: int, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Status and body of one GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers=dict(headers))
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def load(
    wrk: str,
    port: int,
    path: str,
    headers: Mapping[str, str],
    *,
    seconds: int,
    connections: int,
    core: int | None,
    pid: int,
    varied: bool = False,
) -> Figure:
    """With `varied` no request is like another.

    Raises RuntimeError when any reply was not a good one: such a figure means nothing.
    """
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", "-s", str(REPORT)]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    command.append(f"http://127.0.0.1:{port}{path}")
    if varied:
        command += ["--", "varied"]
    used = cpu_seconds(pid)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + GRACE, preexec_fn=pinned(core), check=False
    )
    used_after = cpu_seconds(pid)
    if done.returncode != 0:
        raise RuntimeError(f"wrk failed: {done.stderr.strip()}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    if said["refused"] or said["broken"] or not said["requests"]:
        raise RuntimeError(f"of {said['requests']} requests {said['refused']} were refused, {said['broken']} broke off")
    took = said["duration"] / 1e6
    busy = (used_after - used) / took if used is not None and used_after is not None else None
    return Figure(said["requests"] / took, said["p50"] / 1000, said["p99"] / 1000, busy)
