"""How many retries an upstream may be sent: a share of its requests, so that retries cannot become a storm.

The idea is Finagle's and Envoy's: when everything fails, each request would otherwise be sent `attempts`
times and a struggling upstream gets a multiple of its load. Pure: `now` is an argument.
"""

from gateway.resilience.window import Window

WINDOW = 10.0
"""Seconds over which requests and retries are compared, as in Finagle and linkerd."""

FLOOR = 5
"""Retries always allowed in a window: with few requests a share of them would be none, and the failures that
a circuit waits for by default before it opens (five) shall not reach the client."""


class RetryBudget:
    """One per upstream, shared by the routes that lead to it."""

    __slots__ = ("_floor", "_share", "_window", "request")

    def __init__(self, share: float, floor: int = FLOOR, window: float = WINDOW) -> None:
        self._share = share
        self._floor = floor
        self._window = Window(window)
        self.request = self._window.count
        """request(now): one more request has come, whatever becomes of it."""

    def take(self, now: float) -> bool:
        """Whether one more retry is within the budget; if so it is counted."""
        requests, retries = self._window.totals(now)
        # Counted with this one: at most the share, never a retry above it.
        if retries + 1 > max(self._floor, self._share * requests):
            return False
        self._window.mark(now)
        return True
