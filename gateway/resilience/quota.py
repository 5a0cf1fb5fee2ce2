"""An upstream whose own quota is used up is left alone until it has some again, instead of burning calls.

Two layers share one pause. The ear stands inside retry and hears every reply: a 429 that a retry waits out
must stop other calls at once, not when that call has ended. The gate stands outside of retry and asks a call
once, as it arrives: the call that got the 429 was told when to come back, and its retry is not turned away.
Each process hears for itself.
"""

import time
from collections.abc import Awaitable, Callable

from gateway.errors import Shed
from gateway.exchange import Call, Reply
from gateway.pipe import Send
from gateway.resilience.quota_headers import pause_asked, tells_of_quota
from gateway.resilience.retry_after import SPEAKERS

DETAIL = "the service's own limit is used up"


class QuotaPause:
    """Of one upstream. `gate` and `ear` are its layers; it survives a reload, as what was said stays true.

    `alone`: the upstream is one target, so that a 503 with a Retry-After speaks for all of it. Where there are
    others, it is one target's trouble: circuits, ejection and retries elsewhere see to that.
    """

    __slots__ = ("_alone", "_clock", "_news", "_on_pause", "_silent", "_until", "_wall")

    def __init__(
        self,
        *,
        alone: bool = False,
        on_pause: Callable[[float], None] = lambda seconds: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`on_pause` is told the seconds when a pause begins, not when one under way is extended."""
        self._alone = alone
        self._on_pause = on_pause
        self._clock = clock
        self._wall = wall
        self._until = 0.0  # monotonic; 0 while nothing was ever said
        self._news = 0  # how often something was said that changed `_until`
        self._silent: bytes | None = None  # fields that say nothing: they are often the same for a second

    @property
    def left(self) -> float:
        """Seconds until calls are let through again; 0 when they are."""
        return max(0.0, self._until - self._clock()) if self._until else 0.0

    def gate(self, send: Send) -> Send:
        """Outside of retry. Raises Shed (`upstream_quota`) during a pause."""

        # Not async itself: a coroutine that only awaits another costs 0.2 µs for nothing.
        def admitted(call: Call) -> Awaitable[Reply]:
            if self._until:
                if left := self.left:
                    raise Shed("upstream_quota", 503, DETAIL, retry_after=left)
                self._until = 0.0
            return send(call)

        return admitted

    def ear(self, send: Send) -> Send:
        """Inside of retry, round each try."""
        alone, wall = self._alone, self._wall

        async def heard(call: Call) -> Reply:
            news = self._news
            reply = await send(call)
            if reply.status not in SPEAKERS and not self._until:
                lines = reply.lines
                if lines is not None and lines == self._silent:
                    return reply
                if not tells_of_quota(reply.headers):
                    self._silent = lines
                    return reply
            asked = pause_asked(reply, wall, alone)
            if asked is not None:
                self._told(asked, latest=news == self._news)
            return reply

        return heard

    def _told(self, asked: float, latest: bool) -> None:
        """Replies overtake one another: only a try that began after the last news may shorten a pause."""
        left = self.left
        if asked == left or (asked < left and not latest):
            return
        self._until = self._clock() + asked if asked else 0.0
        self._news += 1
        if asked and not left:
            self._on_pause(asked)
