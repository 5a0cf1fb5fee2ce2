"""The published keys of an issuer: held, renewed in the background, and asked for again when a token names another.

- One fetch at a time, however many requests wait for it; between the beginnings of two there is a pause, whatever
  came of the first. So tokens with invented key ids cause no flood.
- What is no set, or an empty one, changes nothing. While the issuer is away its last keys count, for a day.
- Without any key nobody can be told that a token is bad: the answer is 503, not 401.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.auth.asking import Observe, unobserved
from gateway.auth.jwk import JwkSet
from gateway.auth.keys import NamedKey
from gateway.auth.providers import Unavailable

log = logging.getLogger("gateway.auth")

NOTHING = JwkSet(())


class FetchError(Exception):
    """The keys could not be fetched; the text is for the operator's log."""


@dataclass(frozen=True, slots=True)
class Times:
    """In seconds."""

    refresh: float = 600.0
    """From one fetch to the next, if nothing asks for one before."""
    pause: float = 30.0
    """Between two fetches at least, once there are keys."""
    first: float = 5.0
    """The same as long as there are none: nobody is served meanwhile."""
    keep: float = 86400.0
    """How long keys count that the issuer has not confirmed."""
    patience: float = 2.0
    """How long a request waits for a fetch."""


class KeySet:
    """The keys of one issuer. It begins to fetch with `start`, or with the first token, in the loop that runs then."""

    def __init__(
        self,
        name: str,
        fetch: Callable[[], Awaitable[JwkSet]],
        algorithms: frozenset[str],
        *,
        times: Times | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`name` is the provider's. `fetch` raises FetchError."""
        self.name = name
        self.algorithms = algorithms
        self.names: frozenset[bytes] = frozenset()
        self._fetch = fetch
        self._times = times or Times()
        self._clock = clock
        self._sleep = sleep
        self._keys = NOTHING
        self._confirmed: float | None = None
        self._began = -math.inf  # the last fetch
        self._trouble = ""
        self._fetching: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._closed = False
        self.observe: Observe = unobserved

    @property
    def age(self) -> float | None:
        """Seconds since the issuer has last confirmed its keys; None when it never has."""
        return None if self._confirmed is None else self._clock() - self._confirmed

    def start(self) -> None:
        """Fetch now, and then now and again. In the loop; once is enough."""
        if self._refreshing is None and not self._closed:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh(), name=f"keys-of-{self.name}")

    async def close(self) -> None:
        """Fetch no more."""
        self._closed = True
        tasks = [task for task in (self._refreshing, self._fetching) if task is not None]
        self._refreshing = self._fetching = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def find(self, kid: object, algorithm: str) -> NamedKey | None:
        """The key for tokens with this `kid`, after a fetch if that may help. Raises Unavailable without any keys."""
        self._expire()
        found = self._keys.find(kid, algorithm)
        if found is not None:
            return found
        if kid is None or isinstance(kid, str):
            await self._news()
        if not self._keys:
            raise Unavailable(self.name, max(1.0, self._next() - self._clock()))
        return self._keys.find(kid, algorithm)

    async def _news(self) -> None:
        """Wait, not for ever, for the fetch that is under way, or for another one if it is time for that."""
        self.start()
        fetching = self._begin()
        if fetching is not None:
            await asyncio.wait({fetching}, timeout=self._times.patience)

    def _begin(self) -> asyncio.Task[None] | None:
        """The fetch that is under way; a new one if it is time for that, else None."""
        now = self._clock()
        if self._fetching is None and now >= self._next() and not self._closed:
            self._began = now
            self._fetching = asyncio.get_running_loop().create_task(self._load(), name=f"fetch-keys-of-{self.name}")
        return self._fetching

    async def _load(self) -> None:
        started = self._clock()
        outcome = "ok"
        try:
            keys = await self._fetch()
            if not keys:
                raise FetchError("there is no usable key" + (f": {keys.skipped}" if keys.skipped else ""))
        except FetchError as error:
            outcome = "failed"
            self._failed(str(error))
        else:
            self._replace(keys)
        finally:
            self._fetching = None
            self.observe(outcome, self._clock() - started)

    def _failed(self, trouble: str) -> None:
        if trouble != self._trouble:  # the same every half a minute is no news
            log.warning("provider %s: its keys could not be fetched: %s", self.name, trouble)
            self._trouble = trouble

    def _replace(self, keys: JwkSet) -> None:
        if self._trouble or self._confirmed is None or keys.skipped != self._keys.skipped:
            skipped = f"; left out: {keys.skipped}" if keys.skipped else ""
            log.info("provider %s: keys fetched: %d%s", self.name, len(keys.names), skipped)
        self._trouble = ""
        self._keys = keys
        self._confirmed = self._clock()
        if keys.names != self.names:
            self.names = keys.names

    def _expire(self) -> None:
        age = self.age
        if self._keys and age is not None and age >= self._times.keep:
            log.error("provider %s: its keys are too old to be believed, and there are no new ones", self.name)
            self._keys = NOTHING
            self.names = NOTHING.names

    async def _refresh(self) -> None:
        while True:
            fetching = self._begin()
            if fetching is not None:
                await asyncio.wait({fetching})
            self._expire()
            await self._sleep(max(0.0, self._due() - self._clock()))

    def _next(self) -> float:
        """No fetch begins before. It depends on time alone, not on what came of the last one."""
        return self._began + (self._times.pause if self._keys else self._times.first)

    def _due(self) -> float:
        """When to fetch without being asked: soon after a failure, else when it is time again."""
        if self._trouble or self._confirmed is None:
            return self._next()
        return max(self._next(), self._confirmed + self._times.refresh)
