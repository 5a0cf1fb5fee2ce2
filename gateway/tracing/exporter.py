"""Takes finished calls, makes spans of them beside the requests, and sends these in batches.

Never in a request's way: the queue is bounded and what finds no room is dropped, making spans gives way to the loop
twice in a millisecond, and a collector that is away costs nothing but what it has not received. One task per worker.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.tracing.otlp import Answer, encode, request
from gateway.tracing.spans import Finished, spans_of

log = logging.getLogger("gateway.tracing")

QUEUE = 2048
"""Finished calls that wait, some 6 MB at most."""

BATCH = 512
"""Spans of a request, about 250 KB; so many do not wait for their second."""

EVERY = 1.0
"""Seconds in which spans gather."""

SLICE = 0.0005
"""Seconds of making spans at a stretch."""

TRIES = 5
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between tries, doubled each time; a collector may ask for as many as the longest."""

GOODBYE = 2.0
"""Seconds for what is left when the gateway stops."""

COMPLAIN_EVERY = 10.0
"""Seconds between two messages about a collector that does not take spans."""


class Sink(Protocol):
    """Where batches go: gateway.tracing.collector.Collector."""

    async def send(self, body: bytes) -> Answer:
        """Deliver one request."""

    async def close(self) -> None:
        """Nothing more will come."""


async def until(event: asyncio.Event, seconds: float) -> None:
    """Wait for `event`, but not longer."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


class Exporter:
    """The queue of one worker, and the task that empties it."""

    def __init__(
        self,
        sink: Sink,
        frame: tuple[bytes, bytes],
        *,
        exported: Callable[[float], None],
        dropped: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rest: Callable[[asyncio.Event, float], Awaitable[None]] = until,
        dice: Callable[[], float] = random.random,
    ) -> None:
        """`frame` stands around the spans of each request. `exported` and `dropped` count spans."""
        self._sink = sink
        self._frame = frame
        self._exported = exported
        self._count_dropped = dropped
        self._clock = clock
        self._wall = wall
        self._rest = rest
        self._dice = dice
        self._queue: deque[Finished] = deque()
        self._waiting = 0  # spans that those in the queue will make
        self._held = 0  # spans that are on their way
        self._full = asyncio.Event()
        self._leaving = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._complained = -COMPLAIN_EVERY
        self._unsaid = 0  # spans dropped since the last message about it

    def put(self, call: Finished) -> None:
        """Take a finished call. Never blocks."""
        if self._leaving.is_set():
            self._drop(call.size, "they are sent to another collector now, or the gateway stops")
            return
        if len(self._queue) >= QUEUE:
            self._drop(call.size, "the queue is full")
            return
        self._queue.append(call)
        self._waiting += call.size
        if self._waiting >= BATCH:
            self._full.set()

    def start(self) -> None:
        """Begin to send, unless it has begun already. In the loop."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="export-spans")

    async def close(self) -> None:
        """Send what is left, for GOODBYE seconds at most; what comes later is dropped."""
        self._leaving.set()
        self._full.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=GOODBYE)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if left := self._held + self._waiting:
            self._drop(left, f"they could not be sent within {GOODBYE:g} s")
        self._queue.clear()
        self._waiting = self._held = 0
        await self._sink.close()

    async def _run(self) -> None:
        while True:
            await self._rest(self._full, EVERY)
            self._full.clear()
            while self._queue:
                try:
                    await self._deliver(await self._batch())
                except Exception:  # a defect of ours: these spans are lost, the next ones need not be
                    log.exception("spans could not be exported")
                    self._count_dropped(self._held)
                self._held = 0
            if self._leaving.is_set():
                return

    async def _batch(self) -> bytes:
        """The next request; gives way to the loop while it is made."""
        offset = int((self._wall() - self._clock()) * 1e9)
        encoded: list[bytes] = []
        pause = self._clock() + SLICE
        while self._queue and self._held < BATCH:
            call = self._queue.popleft()
            self._waiting -= call.size
            self._held += call.size
            encoded.append(encode(spans_of(call, offset)))
            if self._clock() >= pause:
                await asyncio.sleep(0)
                pause = self._clock() + SLICE
        return request(self._frame, encoded)

    async def _deliver(self, body: bytes) -> None:
        for number in range(TRIES):
            answer = await self._sink.send(body)
            if answer.accepted:
                self._taken(answer)
                return
            if not answer.again or self._leaving.is_set():
                break
            if number < TRIES - 1:
                # Between half of the pause and all of it, so that workers do not come back together.
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**number) * (0.5 + 0.5 * self._dice())
                await self._rest(self._leaving, max(pause, min(answer.retry_after, LONGEST_PAUSE)))
        self._drop(self._held, f"the collector does not take them: {answer.reason}")

    def _taken(self, answer: Answer) -> None:
        rejected = min(answer.rejected, self._held)
        self._exported(self._held - rejected)
        if rejected:
            self._drop(rejected, f"the collector has rejected them: {answer.reason}")

    def _drop(self, count: int, why: str) -> None:
        self._count_dropped(count)
        self._unsaid += count
        now = self._clock()
        if now - self._complained >= COMPLAIN_EVERY:
            log.warning("%d spans dropped: %s", self._unsaid, why)
            self._complained, self._unsaid = now, 0
