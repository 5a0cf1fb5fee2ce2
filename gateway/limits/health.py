"""Decides whether a shared store is worth asking: after some failures it is left alone, then tried by one.

The circuits of upstreams are richer; here a failure only has to stop costing every request its timeout.
"""


class StoreHealth:
    """Down after `failures` in a row; then one question every `pause` seconds until one is answered."""

    def __init__(self, failures: int = 3, pause: float = 1.0) -> None:
        self.up = True
        self.errors = 0
        self._failures = failures
        self._pause = pause
        self._in_a_row = 0
        self._next_try = 0.0

    def admits(self, now: float) -> bool:
        """Whether to ask now. While down, a yes is for one: the next has to wait for the pause."""
        if self.up:
            return True
        if now < self._next_try:
            return False
        self._next_try = now + self._pause
        return True

    def failed(self, now: float) -> bool:
        """Count a failure; True when it is the one that takes the store down."""
        self.errors += 1
        self._in_a_row += 1
        self._next_try = now + self._pause
        if not self.up or self._in_a_row < self._failures:
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
