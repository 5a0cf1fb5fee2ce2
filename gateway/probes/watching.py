"""Runs all probes, each at its own time and never twice at once, and keeps what they have found."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from gateway.admin.times import written
from gateway.probes.asking import Outcome, Way, ask
from gateway.probes.expectation import OK
from gateway.process.chores import Chores

if TYPE_CHECKING:
    from gateway.config.probes import Probe
    from gateway.telemetry.metrics import Metrics
    from gateway.telemetry.tally import Labels

log = logging.getLogger("gateway.probes")

SETTLE = 2.0
"""Seconds before the first run: workers that have just begun are given time to connect and to fetch keys."""

SPREAD = 10.0
"""Seconds over which the first runs are spread, if they come less often than that."""

AT_ONCE = 32
"""Runs under way at the same time: the gateway's clients come first."""


class Record:
    """What the runs of one probe have found. Mutable."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.runs = 0
        self.failed = 0
        """Runs in a row that failed."""
        self.at = 0.0
        """Unix seconds of the last run's end."""
        self.last: Outcome | None = None

    @property
    def up(self) -> bool | None:
        """None before the first run."""
        return None if self.last is None else self.last.result == OK

    def told(self) -> dict[str, Any]:
        """For the admin API."""
        last = self.last and {
            "at": written(self.at),
            "result": self.last.result,
            "status": self.last.status,
            "took_ms": round(self.last.took * 1000, 1),
            "detail": self.last.detail,
        }
        said = {"name": self.probe.name, "path": self.probe.path.partition("?")[0], "method": self.probe.method}
        return {**said, "up": self.up, "last": last, "runs": self.runs, "every": self.probe.every}


class Probes:
    """Those of one gateway; counts in `metrics`."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        asking: Callable[[Probe, Way], Awaitable[Outcome]] = ask,
        dice: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self._asking = asking
        self._dice = dice
        self._sleep = sleep
        self._clock = clock
        self._wall = wall
        self._way: Way | None = None
        self._going = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._watched: dict[str, tuple[Record, asyncio.Task[None]]] = {}
        self._chores = Chores()

    @property
    def records(self) -> list[Record]:
        """In the order of the configuration."""
        return [record for record, _ in self._watched.values()]

    def watch(self, probes: Sequence[Probe]) -> None:
        """These and no others from now on; one that has not changed goes on as if nothing had happened."""
        before, self._watched = self._watched, {}
        for probe in probes:
            known = before.get(probe.name)
            if known is not None and known[0].probe == probe:
                self._watched[probe.name] = before.pop(probe.name)
                continue
            record = Record(probe)
            self._watched[probe.name] = record, self._chores.start(self._attend(record), f"probe {probe.name}")
        for _, task in before.values():
            task.cancel()
        self._show()

    def through(self, way: Way | None) -> None:
        """Run over this listener; None pauses, and what is under way then counts for nothing."""
        self._way = way
        if way is None:
            self._going.clear()
        else:
            self._going.set()

    async def close(self) -> None:
        """Run no more."""
        tasks = [task for _, task in self._watched.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _attend(self, record: Record) -> None:
        """Run one probe for ever."""
        every = record.probe.every
        await self._sleep(SETTLE + self._dice() * min(every, SPREAD))
        while True:
            await self._going.wait()
            async with self._places:
                began, way = self._clock(), self._way
                outcome = await self._asking(record.probe, way) if way is not None else None
            if outcome is not None and self._way == way:
                self._found(record, outcome)
            pause = every * (0.9 + 0.2 * self._dice())  # so that they do not stay together by chance
            await self._sleep(max(0.0, began + pause - self._clock()))

    def _found(self, record: Record, outcome: Outcome) -> None:
        name, before = record.probe.name, record.up
        record.runs += 1
        record.failed = 0 if outcome.result == OK else record.failed + 1
        record.last, record.at = outcome, self._wall()
        if record.up and before is False:
            log.warning("probe %s is ok again", name)
        elif not record.up and before is not False:
            log.warning("probe %s fails: %s", name, outcome.detail)
        self._metrics.probe_runs.child(name, outcome.result).inc()
        self._metrics.probe_duration.child(name).observe(outcome.took)
        self._show()

    def _show(self) -> None:
        ups: dict[Labels, float] = {
            (record.probe.name,): float(record.up) for record in self.records if record.up is not None
        }
        self._metrics.probe_up.replace(ups)
