"""Which requests have a line in the access log, where a route asks for a share of them.

Problems are logged in any case: 5xx, what the gateway itself gave up, and what a fallback answered. What is the
caller's own fault (401, 403, 404, 429, …) is not among them, or a flood of it would fill the disk.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.errors import ClientGone, Refused
from gateway.exchange import Call

ALL = 1.0


class Log(Protocol):
    """An access log in one of its forms."""

    def add(
        self, call: Call, status: int, sent: int, received: int, took: float, own: float, sampled: float | None = None
    ) -> None:
        """Write the line of a finished call."""


class Sampled:
    """Passes on the calls that are to have a line."""

    def __init__(self, log: Log, shares: Mapping[str, float], dice: Callable[[], float] = random.random) -> None:
        """`shares` are those of routes that do not log everything, by their names."""
        self._add = log.add
        self._shares = shares
        self._dice = dice

    def add(self, call: Call, status: int, sent: int, received: int, took: float, own: float) -> None:
        """Write the line, or none. One in ten says that it stands for ten (`sampled`)."""
        share = self._shares.get(call.route, ALL)
        if share == ALL or is_problem(call, status):
            self._add(call, status, sent, received, took, own)
        elif self._dice() < share:
            self._add(call, status, sent, received, took, own, share)


def is_problem(call: Call, status: int) -> bool:
    """Something that whoever runs the service wants to know of, each time."""
    if status >= 500 or call.reason == "fallback":
        return True
    return call.error is not None and not isinstance(call.error, (Refused, ClientGone))
