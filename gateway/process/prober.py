"""Probes targets, each at its own pace, and tells which of them are ill whenever that changes."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Set

from gateway.process.chores import Chores
from gateway.process.probe import Probe, Watch
from gateway.upstream.health import Condition

log = logging.getLogger("gateway.health")

AT_ONCE = 256
"""Probes at the same time: enough for 1,000 targets that all keep silent for a second, every five seconds."""

LEAST = 0.01
"""Seconds between two probes of a target, whatever they take."""

Name = tuple[str, str]
"""An upstream and a target of it."""

Tell = Callable[[frozenset[Name]], None]


class Prober:
    """Tells all that are ill; `known` are those that were so before it began."""

    def __init__(
        self,
        tell: Tell,
        known: Set[Name] = frozenset(),
        *,
        probing: Callable[[Watch], Callable[[], Awaitable[str]]] = Probe,
        dice: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell = tell
        self._probing = probing
        self._dice = dice
        self._sleep = sleep
        self._clock = clock
        self._conditions = {name: Condition(well=False) for name in known}
        self._watched: dict[Name, tuple[Watch, asyncio.Task[None]]] = {}
        self._chores = Chores()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._told = frozenset(known)

    def watch(self, watches: Iterable[Watch]) -> None:
        """Probe these and no others from now on; who is probed in the same way as before does not notice."""
        wanted = {(watch.upstream, watch.target): watch for watch in watches}
        for name in self._watched.keys() - wanted.keys():
            self._watched.pop(name)[1].cancel()
        self._conditions = {name: self._conditions.get(name) or Condition() for name in wanted}
        for name, watch in wanted.items():
            if name in self._watched:
                same, task = self._watched[name]
                if same == watch:
                    continue
                task.cancel()
            task = self._chores.start(self._attend(watch, self._conditions[name]), f"probe {watch.target}")
            self._watched[name] = watch, task
        self._tell_if_new()

    async def close(self) -> None:
        """Probe no more. What was told last stays in force."""
        tasks = [task for _, task in self._watched.values()]
        self._watched.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _attend(self, watch: Watch, condition: Condition) -> None:
        """Probe one target for ever."""
        check, probe = watch.check, self._probing(watch)
        await self._sleep(self._dice() * check.interval)  # not all at once
        while True:
            async with self._places:
                began = self._clock()
                reason = await probe()
            if condition.saw(not reason, check):
                if reason:
                    log.warning("upstream %s: the target %s is ill: %s", watch.upstream, watch.target, reason)
                else:
                    log.warning("upstream %s: the target %s is well again", watch.upstream, watch.target)
                self._tell_if_new()
            pause = condition.pause(check, self._dice())
            await self._sleep(max(LEAST, began + pause - self._clock()))

    def _tell_if_new(self) -> None:
        ill = frozenset(name for name, condition in self._conditions.items() if not condition.well)
        if ill != self._told:
            self._told = ill
            self._tell(ill)
