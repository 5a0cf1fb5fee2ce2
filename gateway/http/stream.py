"""A body between the connection that reads it and the one that writes it on.

Its reader's pace holds back its source: above HIGH_WATER buffered bytes the source's socket is no longer
read, so memory per connection is bounded whatever the body's size.
"""

import asyncio
from collections.abc import Callable

from gateway.errors import GatewayError, Refused

HIGH_WATER = 64 * 1024
"""Bytes buffered before the source is paused; one socket read (256 KiB in uvloop) may come on top."""


class BodyStream:
    """Bytes fed by a connection, read by whoever forwards them. Implements gateway.exchange.Stream."""

    __slots__ = (
        "_chunks",
        "_ended",
        "_error",
        "_on_close",
        "_on_first_read",
        "_pause",
        "_paused",
        "_resume",
        "_size",
        "_waiter",
        "length",
        "limit",
        "received",
    )

    def __init__(
        self,
        length: int | None,
        *,
        pause: Callable[[], None],
        resume: Callable[[], None],
        on_close: Callable[[], None] | None = None,
        on_first_read: Callable[[], None] | None = None,
    ) -> None:
        self.length = length
        self.limit: int | None = None  # more than this many bytes is a 413
        self.received = 0
        self._chunks: list[bytes] = []
        self._size = 0
        self._ended = False
        self._paused = False
        self._error: GatewayError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._pause = pause
        self._resume = resume
        self._on_close = on_close
        self._on_first_read = on_first_read

    @property
    def done(self) -> bool:
        """Nothing more will be fed."""
        return self._ended or self._error is not None

    @property
    def started(self) -> bool:
        """The sender may be on its way: it has not been told to wait for `100 Continue`."""
        return self._on_first_read is None or self.received > 0

    @property
    def paused(self) -> bool:
        """The source is held back because the reader is slower."""
        return self._paused

    def feed(self, data: bytes) -> None:
        """More has come in."""
        self.received += len(data)
        if self._ended or self._error is not None:
            return
        if self.limit is not None and self.received > self.limit:
            self.fail(Refused("body_too_large", 413, f"the limit is {self.limit} bytes"))
            return
        self._chunks.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._paused:
            self._paused = True
            self._pause()
        self._wake()

    def finish(self) -> None:
        """The body is complete."""
        self._ended = True
        self._wake()

    def fail(self, error: GatewayError) -> None:
        """The body broke off; the reader gets what had come, then `error`."""
        if not self._ended and self._error is None:
            self._error = error
            self._wake()

    def close(self) -> None:
        """Nobody will read the rest."""
        self._chunks.clear()
        self._size = 0
        if not self.done:
            self._ended = True
            if self._on_close is not None:
                self._on_close()
        self._release()

    async def read(self) -> bytes:
        """The next piece; b"" at the end. Raises what it was failed with."""
        if self._on_first_read is not None:
            wanted, self._on_first_read = self._on_first_read, None
            wanted()
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._size = 0
        self._release()
        return data

    def _release(self) -> None:
        if self._paused:
            self._paused = False
            self._resume()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
