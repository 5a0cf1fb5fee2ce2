"""Who calls what, how often: counted in the worker, and added up in the store once a second, per hour and day (UTC).

While the store is away the counts wait here. A batch that may have arrived, or not, goes again under its number, and
the store adds each number once (`usage_store.py`). What waits is bounded: beyond `most` callers and routes, new ones
are counted together as `other`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gateway.errors import Refused, Shed
from gateway.exchange import Call

if TYPE_CHECKING:
    from gateway.config.model import Config
    from gateway.telemetry.usage_store import UsageStore

log = logging.getLogger("gateway.usage")

REPORT_EVERY = 1.0
"""Seconds between two reports of a worker."""

FINISH_WITHIN = 2.0
"""Seconds that the last report of a worker may take."""

TEXT_CAP = 200
"""Characters of a subject, as in the access log: long enough for the real ones."""

SLICE = 100
"""Callers and routes in one batch: the store is busy with it for half a millisecond, twice."""

OTHER = "other"
"""The consumer in whose name everything is counted that is not told apart. No real one is without a label."""

REFUSALS = frozenset({401, 403, 429, 503})
OURS = (Refused, Shed)

Key = tuple[str, str, str, str]
"""The caller's label (a configured consumer, else the provider), its name there, the route, and the version; "" is
none."""

Tally = list[float]
"""Calls, errors (5xx), refused by the gateway (these are no errors), and the seconds that they took in all."""


class Unit(NamedTuple):
    """A length of time that counts are kept for."""

    name: str
    letter: str
    seconds: int
    form: str
    """For strftime, in UTC."""


HOURS = Unit("hours", "h", 3600, "%Y%m%d%H")
DAYS = Unit("days", "d", 86400, "%Y%m%d")

HOURS_KEPT = 2 * 86400.0
"""Seconds."""


class UsageStoreError(Exception):
    """The store gave no good answer; it may have counted all the same."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one worker has counted in an hour, or a part of it."""

    worker: str
    number: int
    """Higher than of its last batch."""
    hour: int
    """Hours since 1970."""
    items: tuple[tuple[Key, Tally], ...]

    @property
    def calls(self) -> float:
        """How many there are in it."""
        return sum(tally[0] for _, tally in self.items)


def text(name: str) -> str:
    """A name as it is stored and shown: what cannot be printed is escaped, and the rest of a long one left out."""
    if len(name) <= TEXT_CAP and name.isprintable():
        return name
    return "".join(each if each.isprintable() else _escaped(each) for each in name[:TEXT_CAP])[:TEXT_CAP]


class UsageCounter:
    """Counts the calls of one worker; `clock` is the wall clock."""

    def __init__(self, most: int = 10_000, clock: Callable[[], float] = time.time) -> None:
        self.most = most
        self._clock = clock
        self._worker = os.urandom(6).hex()
        self._number = 0
        self._tallies: dict[Key, Tally] = {}
        self._hour = self._now()
        self._batches: deque[Batch] = deque()
        self._held = 0  # callers and routes in batches

    @property
    def unsent(self) -> int:
        """Calls that the store has not confirmed."""
        waiting = sum(tally[0] for tally in self._tallies.values())
        return int(waiting + sum(batch.calls for batch in self._batches))

    def count(self, call: Call, status: int, took: float) -> None:
        """A call has ended, `took` seconds after it began."""
        caller = call.caller
        key = (caller.label, caller.consumer, call.route, call.version)
        tally = self._tallies.get(key) or self._new(key)
        tally[0] += 1
        tally[3] += took
        if status >= 400:
            if status in REFUSALS and isinstance(call.error, OURS):
                tally[2] += 1
            elif status >= 500:
                tally[1] += 1

    async def flush(self, store: UsageStore) -> None:
        """Add what was counted in the store. Raises UsageStoreError; then it stays here, and is sent the next time."""
        hour = self._now()
        if hour != self._hour:
            self._freeze()
            self._hour = hour
            self._forget(hour)
        await self._send(store)  # what may have been heard already, as it was
        self._freeze()
        await self._send(store)

    def _new(self, key: Key) -> Tally:
        """The tally of a caller and route that has none in its raw form: a name to be escaped never gets one."""
        label, consumer, route, version = key
        key = (text(label), text(consumer), route, version)
        if key not in self._tallies and len(self._tallies) + self._held >= self.most:
            key = ("", OTHER, route, version)
        return self._tallies.setdefault(key, [0, 0, 0, 0.0])

    def _freeze(self) -> None:
        """Make batches of what is counted: to be sent as they are, until they have arrived."""
        items = tuple(self._tallies.items())
        self._tallies = {}
        for at in range(0, len(items), SLICE):
            self._number += 1
            self._batches.append(Batch(self._worker, self._number, self._hour, items[at : at + SLICE]))
        self._held += len(items)

    async def _send(self, store: UsageStore) -> None:
        while self._batches:
            await store.add(self._batches[0])
            self._drop()

    def _forget(self, hour: int) -> None:
        """Drop what has waited for longer than hours are kept: every hour of an outage adds to what is held."""
        lost = 0.0
        while self._batches and self._batches[0].hour < hour - HOURS_KEPT // HOURS.seconds:
            lost += self._drop().calls
        if lost:
            log.error("usage of %d calls is lost: the store has been away for too long", lost)

    def _drop(self) -> Batch:
        batch = self._batches.popleft()
        self._held -= len(batch.items)
        return batch

    def _now(self) -> int:
        return int(self._clock() // HOURS.seconds)


class UsageKeeper:
    """Holds the store that the configuration in force names; none where usage is not counted."""

    def __init__(self) -> None:
        self.store: UsageStore | None = None
        self._where: tuple[str, str, int, float] | None = None

    async def keep(self, config: Config, embedded_store: str) -> None:
        """As `config` says, from now on; `embedded_store` is the URL of that one, if there is one."""
        usage = config.usage
        where = None
        if usage is not None:
            url = embedded_store if config.store_url == "embedded" else config.store_url
            where = url, config.store.prefix, usage.callers, usage.keep
        if where == self._where:
            return
        await self.close()
        self._where = where
        if where is not None:
            # Here, not at the top: that module imports this one.
            from gateway.telemetry.usage_store import open_store

            self.store = open_store(*where)

    async def close(self) -> None:
        """Hold none any more."""
        store, self.store, self._where = self.store, None, None
        if store is not None:
            await store.close()


class UsageReporter:
    """Brings the counts of one worker to the store."""

    def __init__(self, counter: UsageCounter) -> None:
        self.counter = counter
        self._keeper = UsageKeeper()
        self._away = False

    async def report(self, config: Config, embedded_store: str) -> None:
        """Send what was counted up to now where it belongs so far, and from now on go by `config`."""
        await self._flush()
        await self._keeper.keep(config, embedded_store)
        if config.usage is not None:
            self.counter.most = config.usage.callers

    async def finish(self, config: Config, embedded_store: str) -> None:
        """The last report, when no call is under way any more."""
        try:
            async with asyncio.timeout(FINISH_WITHIN):
                await self.report(config, embedded_store)
                await self._flush()
        except TimeoutError:
            pass
        if config.usage is not None and (lost := self.counter.unsent):
            log.error("usage of %d calls is lost: the store is away at the end", lost)
        await self._keeper.close()

    async def _flush(self) -> None:
        if self._keeper.store is None:
            return
        try:
            await self.counter.flush(self._keeper.store)
        except UsageStoreError as error:
            if not self._away:
                log.warning("usage cannot be stored at the moment, it is kept here: %s", error)
            self._away = True
        else:
            if self._away:
                log.warning("usage is stored again")
            self._away = False


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
