"""Decides whether a shared store is worth asking: after some failures it is left alone, then tried by one.

The circuits of upstreams are richer; here a failure only has to stop costing every request its timeout.
"""

from collections.abc import Callable


class StoreHealth:
    """Down after `failures` in a row; then one question every `pause` seconds until one is answered.

    `on_error` is called for every failure, also while it is down.
    """

    def __init__(self, failures: int = 3, pause: float = 1.0, *, on_error: Callable[[], None] = lambda: None) -> None:
        self.up = True
        self._on_error = on_error
        self._failures = failures
        self._pause = pause
        self._in_a_row = 0
        self._next_try = 0.0

    def another(self) -> "StoreHealth":
        """That of a part of the same store: it goes up and down by itself, its failures are counted with all others."""
        return StoreHealth(self._failures, self._pause, on_error=self._on_error)

    def admits(self, now: float) -> bool:
        """Whether to ask now. While down, a yes is for one: the next has to wait for the pause."""
        if self.up:
            return True
        if now < self._next_try:
            return False
        self._next_try = now + self._pause
        return True

    def failed(self, now: float, *, at_once: bool = False) -> bool:
        """Count a failure; True when it is the one that takes the store down, which `at_once` makes of any."""
        self._on_error()
        self._in_a_row += 1
        self._next_try = now + self._pause
        if not self.up or (self._in_a_row < self._failures and not at_once):
            return False
        self.up = False
        return True

    def answered(self) -> bool:
        """Count an answer; True when it brings the store back."""
        self._in_a_row = 0
        if self.up:
            return False
        self.up = True
        return True
