"""Keeps a reply whose body is still on its way, while the client reads it.

Once the head of a reply is there, the upstream has done its work: whatever becomes of the body, the request must not
be done again. A body that ends in time and is small enough is kept; for any other there is only the mark that it was
answered. A client that leaves in the middle does not end it: the rest is read for its next attempt.
"""

import asyncio
from collections.abc import Awaitable, Callable

from gateway.errors import GatewayError
from gateway.exchange import Reply, Stream
from gateway.idempotency.background import Background
from gateway.idempotency.records import Answer
from gateway.wrapped import Wrapped

COLLECT = 10.0
"""Seconds from the head of a reply to the end of its body, if it is to be kept."""

Finish = Callable[[Answer | None], Awaitable[None]]
"""Writes down the reply, or that it is not kept."""


class KeptStream(Wrapped):
    """The body of a reply; all of it is kept if it has no more than `limit` bytes. A Stream."""

    __slots__ = (
        "_background",
        "_draining",
        "_finish",
        "_kept_limit",
        "_pieces",
        "_reply",
        "_settled",
        "_size",
        "_timer",
        "_until",
    )

    def __init__(self, reply: Reply, body: Stream, limit: int, finish: Finish, background: Background) -> None:
        """`reply` is the one whose `body` this is."""
        loop = asyncio.get_running_loop()
        super().__init__(body)
        self._reply = Answer(reply.status, tuple(reply.headers), b"")  # stages above may still change its headers
        self._kept_limit = limit
        self._finish = finish
        self._background = background
        self._pieces: list[bytes] = []
        self._size = 0
        self._settled = False
        self._draining = False
        self._until = loop.time() + COLLECT
        self._timer = loop.call_at(self._until, self._late)

    async def read(self) -> bytes:
        """The next piece; b"" at the end, when the reply has been kept."""
        try:
            data = await self._inner.read()
        except GatewayError:
            await self._settle(None)
            raise
        self.received = self._inner.received
        if self._settled:
            return data
        if not data:
            kept = self._reply
            await self._settle(Answer(kept.status, kept.headers, b"".join(self._pieces)))
        elif self._size + len(data) > self._kept_limit:
            await self._settle(None)
        else:
            self._size += len(data)
            self._pieces.append(data)
        return data

    def close(self) -> None:
        """The client will not read the rest."""
        if self._settled:
            self._inner.close()
        elif not self._draining:
            self._draining = True
            self._background.start(self._drain())

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout_at(self._until):
                while not self._settled:
                    await self.read()
        except (GatewayError, TimeoutError):
            await self._settle(None)
        finally:
            self._inner.close()

    def _late(self) -> None:
        if not self._settled:
            self._background.start(self._settle(None))

    async def _settle(self, answer: Answer | None) -> None:
        if not self._settled:
            self._settled = True
            self._timer.cancel()
            self._pieces = []
            await self._finish(answer)
