"""Targets in processes of their own, told at their start what to do when.

All share one zero hour, which comes when the load begins; until then a target is as its first spell says, or well. It
counts the requests that reach it, in memory that outlives its process: a killed target has counted, too.
"""

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ctypes import c_double, c_longlong
from multiprocessing import get_context
from multiprocessing.sharedctypes import RawArray, RawValue
from typing import Any

from bench.scenarios.plans import Plan
from bench.scenarios.serving import BUCKETS, serve

START_WITHIN = 10.0
MINUTE = 60


class Target:
    """One of them, as its parent sees it."""

    def __init__(self, number: int, port: int, plan: Plan, zero: Any, seed: int) -> None:
        self.number = number
        self.port = port
        self._counts = RawArray(c_longlong, BUCKETS * MINUTE)
        self.process = get_context("spawn").Process(
            target=serve, args=(number, port, plan, zero, self._counts, seed), daemon=True
        )
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def asked(self, begin: float, end: float) -> int:
        """Requests that arrived between these seconds."""
        return sum(self._counts[round(begin * BUCKETS) : round(end * BUCKETS)])

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()


class Zero:
    """The hour from which spells are counted."""

    def __init__(self) -> None:
        self.shared = RawValue(c_double, 0.0)

    def strike(self) -> float:
        """It is now."""
        self.shared.value = time.monotonic()
        return float(self.shared.value)


@contextmanager
def targets(places: Sequence[tuple[int, int, Plan]], zero: Zero, seed: int) -> Iterator[list[Target]]:
    """Run one target for each (number, port, plan) until the block ends."""
    with ExitStack() as stack:
        running = []
        for number, port, plan in places:
            target = Target(number, port, plan, zero.shared, seed + number)
            stack.callback(target.end)
            running.append(target)
        for port in {target.port for target in running}:
            _wait_for(port)
        yield running


def _wait_for(port: int) -> None:
    until = time.monotonic() + START_WITHIN
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.02)
    raise RuntimeError("a target did not start")
