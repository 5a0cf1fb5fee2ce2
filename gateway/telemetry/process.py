"""What the operating system says about this worker; over all workers it makes the `process_…` metrics.

What cannot be known is left out: memory and descriptors need /proc.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tally import Readings

PROC = Path("/proc/self")

EVERY = 20
"""Ticks (of 0.25 s) between looks at /proc: before Linux 6.2, counting 10,000 descriptors takes milliseconds."""


class ProcessUsage:
    """Ticked by the worker, also a last time when it ends."""

    def __init__(self, metrics: Metrics, cpu_seconds: Callable[[], float] | None = None, proc: Path = PROC) -> None:
        self._metrics = metrics
        self._cpu_seconds = cpu_seconds if cpu_seconds is not None else _cpu_seconds
        self._proc = proc
        self._counted = 0.0
        self._ticks = 0

    def tick(self) -> None:
        """Write down what was used."""
        spent = self._cpu_seconds()
        self._metrics.cpu_seconds.child().inc(spent - self._counted)
        self._counted = spent
        if self._ticks % EVERY == 0:
            self._metrics.resident_memory.replace(_reading(self._resident_memory))
            self._metrics.open_fds.replace(_reading(self._open_fds))
        self._ticks += 1

    def _resident_memory(self) -> float:
        pages = (self._proc / "statm").read_bytes().split()[1]  # proc(5): size, resident, shared, …
        return float(int(pages) * resource.getpagesize())

    def _open_fds(self) -> float:
        folder = self._proc / "fd"
        # Since Linux 6.2 the folder's size is their number; else count them, but not the one that lists them.
        return float(os.stat(folder).st_size or len(os.listdir(folder)) - 1)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _reading(read: Callable[[], float]) -> Readings:
    try:
        return {(): read()}
    except OSError:
        return {}
