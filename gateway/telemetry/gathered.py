"""Lets finished calls wait for a moment, to be read together.

One at a time each of them would find the code and the counters of telemetry gone from the processor's caches, and
leave the request path without its own: that doubles what it costs (docs/decisions/0014).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.exchange import Call

log = logging.getLogger("gateway.telemetry")

Finished = Callable[[Call, int, int, int, float], None]
"""Hears of a finished call: its status, bytes sent and received, seconds."""

Later = Callable[[float, Callable[[], None]], object]
"""Does something so many seconds from now."""

WITHIN = 0.002
"""Seconds that a call waits at most: what is lost of the counts when a worker is killed."""

MOST = 64
"""Calls that wait: reading these takes half a millisecond, in which the loop does nothing else."""


class Gathered:
    """In front of whoever reads finished calls."""

    __slots__ = ("_calls", "_later", "_read")

    def __init__(self, read: Finished, later: Later) -> None:
        self._read = read
        self._later = later
        self._calls: list[tuple[Call, int, int, int, float]] = []

    def finished(self, call: Call, status: int, sent: int, received: int, took: float) -> None:
        """Have it read within a moment."""
        calls = self._calls
        if not calls:
            self._later(WITHIN, self.flush)
        calls.append((call, status, sent, received, took))
        if len(calls) >= MOST:
            self.flush()

    def flush(self) -> None:
        """Have read what waits."""
        calls, self._calls = self._calls, []
        read = self._read
        for call, status, sent, received, took in calls:
            try:
                read(call, status, sent, received, took)
            except Exception:  # a defect of ours: it must not keep the others from being counted
                log.exception("request %s could not be counted", call.id)
