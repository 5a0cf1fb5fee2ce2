"""Servers as processes of their own, each on one core, waited for, measured and stopped by pid."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gateway.process.store import server_command

START_WITHIN = 20.0
STOP_WITHIN = 5.0
TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def cores() -> tuple[int | None, int | None]:
    """One core for the system under test and one for everything else; None where they cannot be had."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(core: int | None) -> Callable[[], None] | None:
    """What a child does before it becomes the server."""
    if core is None:
        return None
    return lambda: os.sched_setaffinity(0, {core})


@contextmanager
def server(
    command: Sequence[str],
    port: int,
    *,
    core: int | None = None,
    log: Path,
    output: Path | None = None,
    environment: Mapping[str, str] | None = None,
    says: str = "",
) -> Iterator[int]:
    """Run `command` until the block ends; yields its pid once `port` accepts and its log has what it `says` then.

    `output` takes its standard output, `log` the rest of what it says. Raises RuntimeError with the end of
    the log when it does not start.
    """
    with ExitStack() as stack:
        said = stack.enter_context(log.open("wb"))
        out = stack.enter_context(output.open("wb")) if output else said
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=said,
            preexec_fn=pinned(core),
            env={**os.environ, **(environment or {})},
        )
        try:
            end = time.monotonic() + START_WITHIN
            while not (_accepts(port) and says in log.read_text(errors="replace")):
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.02)
            yield process.pid
        finally:
            _stop(process)


@contextmanager
def redis_server(folder: Path, port: int = 0) -> Iterator[tuple[str, int]]:
    """URL and pid of a running server without persistence, on this port or a free one."""
    port = port or free_port()
    command = [*server_command(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
    with server(command, port, log=folder / "redis.log") as pid:
        yield f"redis://127.0.0.1:{port}/0", pid


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
        return True
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    # At once and without draining: what is measured is over. A master that is told so ends its workers.
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def family(pid: int) -> list[int]:
    """`pid` and its descendants."""
    found = [pid]
    for member in found:
        for children in (PROC / str(member)).glob("task/*/children"):
            with suppress(OSError):
                found.extend(int(child) for child in children.read_text().split())
    return found


def cpu_seconds(pid: int) -> float | None:
    """Processor time used so far by a process and its descendants; None where the kernel does not tell."""
    if not PROC.joinpath("self/stat").exists():
        return None
    ticks = 0
    for member in family(pid):
        with suppress(OSError):
            fields = (PROC / str(member) / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants."""
    status = PROC / str(pid) / "status"
    if not status.exists():
        return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)])) * 1024
    return sum(_resident(member) for member in family(pid))


def _resident(pid: int) -> int:
    with suppress(OSError):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0
