"""How late the event loop runs its timers: the first sign that something blocks it, or that a core is full."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

PERIOD = 0.25
MEMORY = 15.0
"""Seconds remembered: the usual scrape interval, so that no spike falls between two scrapes."""


class LoopLag:
    """Samples the lag for ever; `worst` is the longest of the last 15 seconds.

    `on_tick` is called after each sample: for whatever else is to be written down every quarter of a second.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._on_tick = on_tick
        self._samples: deque[float] = deque(maxlen=int(MEMORY / PERIOD))

    async def run(self) -> None:
        """Ends only when it is cancelled."""
        while True:
            before = self._clock()
            await self._sleep(PERIOD)
            self._samples.append(max(0.0, self._clock() - before - PERIOD))
            self._on_tick()

    @property
    def worst(self) -> float:
        """Seconds."""
        return max(self._samples.copy(), default=0.0)

    @property
    def latest(self) -> float:
        """Seconds, of the last sample alone."""
        return self._samples[-1] if self._samples else 0.0
