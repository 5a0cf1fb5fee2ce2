"""A steady stream of takes, to see what callers notice while servers change their roles."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from gateway.limits.gcra import rate
from gateway.limits.store import StoreError

MANY = rate("many", 100_000, 31_536_000.0)  # a permit comes back in five minutes: later than any of these tests ends
THREE = rate("three", 3, 3600.0)

EVERY = 0.004
"""Seconds between two takes of the stream."""


class Stream:
    """What became of each take: when it was answered, its key, whether it was counted, how long that took."""

    def __init__(self, store: object, keys: list[bytes]) -> None:
        self.answers: list[tuple[float, bytes, bool, float]] = []
        self._store = store
        self._keys = keys
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        number = 0
        while True:
            task = asyncio.create_task(self._take(self._keys[number % len(self._keys)]))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            number += 1
            await asyncio.sleep(EVERY)

    async def end(self) -> None:
        """Whatever a take raised but StoreError is raised here."""
        await asyncio.gather(*self._under_way)

    def counted(self, since: float = 0.0, keys: list[bytes] | None = None) -> list[bool]:
        return [counted for at, key, counted, _ in self.answers if at >= since and (keys is None or key in keys)]

    @property
    def slowest(self) -> float:
        return max(took for *_, took in self.answers)

    async def until(self, there: Callable[[], bool], within: float) -> float:
        """The seconds that it took."""
        started = time.monotonic()
        while not there():
            assert time.monotonic() - started < within
            await asyncio.sleep(0.005)
        return time.monotonic() - started

    async def back(self, since: float, within: float, run: int = 50) -> float:
        """Seconds from `since` to the last failure, once there were `run` counted takes in a row."""
        await self.until(lambda: len(self.counted(since)) >= run and all(self.counted(since)[-run:]), within)
        failures = [at for at, _, counted, _ in self.answers if at >= since and not counted]
        return failures[-1] - since if failures else 0.0

    async def _take(self, key: bytes) -> None:
        started = time.monotonic()
        try:
            (quota,) = await self._store.take([(key, MANY, 1)])  # type: ignore[attr-defined]
        except StoreError:
            counted = False
        else:
            assert quota.allowed
            counted = True
        now = time.monotonic()
        self.answers.append((now, key, counted, now - started))


@contextlib.asynccontextmanager
async def steady(store: object, keys: list[bytes]) -> AsyncIterator[Stream]:
    """A stream that has begun, and is heard to its end."""
    stream = Stream(store, keys)
    running = asyncio.create_task(stream.run())
    try:
        await stream.until(lambda: len(stream.counted()) > 10 and all(stream.counted()[-10:]), 5.0)
        yield stream
    finally:
        running.cancel()
        await asyncio.wait([running])
        await stream.end()
