"""What every stream round another one is: a body that goes on telling what the inner one knows. Implements Stream."""

from gateway.exchange import Stream


class Wrapped:
    """Reading and closing are for the classes derived from it."""

    __slots__ = ("_inner", "length", "received")

    def __init__(self, inner: Stream) -> None:
        self.length: int | None = inner.length
        self.received = inner.received
        self._inner = inner

    @property
    def limit(self) -> int | None:
        return self._inner.limit

    @limit.setter
    def limit(self, limit: int | None) -> None:
        self._inner.limit = limit

    @property
    def done(self) -> bool:
        return self._inner.done

    @property
    def started(self) -> bool:
        return self._inner.started
