"""Bodies when a try is repeated: the request's must be readable again, the discarded reply's is let go.

A body that cannot be replayed cannot be retried; how much of one is kept for that is bounded.
"""

import asyncio

from gateway.exchange import Reply, Stream
from gateway.wrapped import Wrapped


class Replay(Wrapped):
    """A request body that can be read again from its start as long as no more than `limit` bytes were read.

    Implements `Stream`. A try that failed may still have a read under way, cancelled but not yet ended: the
    lock lets it end first, and should it bring a piece after all, the next try finds that piece kept.
    """

    __slots__ = (
        "_at",
        "_closed",
        "_ended",
        "_kept",
        "_lock",
        "_replay_limit",
        "_size",
        "_turn",
        "_untouched",
    )

    def __init__(self, stream: Stream, limit: int) -> None:
        super().__init__(stream)
        self._replay_limit = limit
        self._lock = asyncio.Lock()
        fits = self.length is None or self.length <= limit
        self._kept: list[bytes] | None = [] if fits else None
        self._size = 0
        self._at = 0  # how many of the kept pieces this try has read
        self._turn = 0  # which try is reading
        self._untouched = True
        self._ended = False
        self._closed = False

    @property
    def replayable(self) -> bool:
        """Whether the next try can be given the whole body."""
        if self._closed and not self._ended:
            return False
        return self._kept is not None or self._untouched

    def rewind(self) -> None:
        """The next read is of the first byte again. Only while replayable."""
        self._at = 0
        self._turn += 1

    async def read(self) -> bytes:
        """The next piece, kept or fresh; b"" at the end."""
        turn = self._turn
        async with self._lock:
            kept = self._kept
            if turn != self._turn:
                return b""  # of a try that is over
            if kept is not None and self._at < len(kept):
                self._at += 1
                return kept[self._at - 1]
            if self._ended:
                return b""
            self._untouched = False
            piece = await self._inner.read()
            self.received = self._inner.received
            if piece:
                self._keep(piece, current=turn == self._turn)
            else:
                self._ended = True
            return piece

    def close(self) -> None:
        """Nobody will read the rest."""
        self._closed = True
        self._inner.close()

    def _keep(self, piece: bytes, *, current: bool) -> None:
        if self._kept is None:
            return
        self._size += len(piece)
        if current and self._size > self._replay_limit:
            self._kept = None
            return
        self._kept.append(piece)
        if current:
            self._at += 1


def discard(reply: Reply) -> None:
    """Nobody will read this reply: free the connection its body comes from."""
    if not isinstance(reply.body, bytes):
        reply.body.close()
