"""Follows what the DNS says about upstreams, and tells which targets they have whenever that changes.

What was found last stays in force until another answer has come: an answer that fails or is empty changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping

from gateway.process.chores import Chores
from gateway.upstream.discovery import Answer, Discovery, LookupFailed, pause, pause_after, targets
from gateway.upstream.notices import Found

log = logging.getLogger("gateway.discovery")

Tell = Callable[[Mapping[str, tuple[Found, ...]]], None]
LookUp = Callable[[Discovery], Awaitable[Answer]]


async def ask_dns(asked: Discovery) -> Answer:
    """What the DNS says now. Raises LookupFailed."""
    # Here, not at the top: it takes 0.1 s to import, and few ask for it.
    from gateway.process.lookup import look_up

    return await look_up(asked)


class Resolver:
    """Tells the targets of all upstreams that are discovered; `known` were found before it began."""

    def __init__(
        self,
        tell: Tell,
        known: Mapping[str, tuple[Found, ...]],
        *,
        look_up: LookUp = ask_dns,
        dice: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.found = dict(known)
        self._tell = tell
        self._look_up = look_up
        self._dice = dice
        self._sleep = sleep
        self._followed: dict[str, tuple[Discovery, asyncio.Task[None]]] = {}
        self._chores = Chores()

    def follow(self, wanted: Mapping[str, Discovery]) -> None:
        """Ask for these, by upstream, and for no others from now on; what is asked for already does not notice."""
        for name in self._followed.keys() - wanted.keys():
            self._followed.pop(name)[1].cancel()
        for name, asked in wanted.items():
            if name in self._followed:
                same, task = self._followed[name]
                if same == asked:
                    continue
                task.cancel()
            self._followed[name] = asked, self._chores.start(self._follow(name, asked), f"discover {name}")
        gone = self.found.keys() - wanted.keys()
        if gone:
            self.found = {name: found for name, found in self.found.items() if name not in gone}
            self._tell(self.found)

    def missing(self) -> list[str]:
        """The upstreams for which nothing was ever found."""
        return [name for name in self._followed if name not in self.found]

    async def close(self) -> None:
        """Ask no more. What was told last stays in force."""
        tasks = [task for _, task in self._followed.values()]
        self._followed.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, name: str, asked: Discovery) -> None:
        failures = 0
        while True:
            try:
                answer = await self._look_up(asked)
                found = targets(answer.records, asked.scheme)
                if not found:
                    raise LookupFailed("it has no addresses")
            except LookupFailed as error:
                failures += 1
                if failures == 1:
                    kept = len(self.found.get(name, ()))
                    stay = f"the {kept} targets it has stay" if kept else "it has no targets"
                    log.warning("upstream %s: %s leads nowhere: %s; %s", name, asked.dns, error, stay)
                wait = pause_after(failures, self._dice())
            else:
                if failures:
                    log.warning("upstream %s: %s leads somewhere again", name, asked.dns)
                failures = 0
                self._now(name, found)
                wait = pause(asked.refresh, answer.ttl, self._dice())
            await self._sleep(wait)

    def _now(self, name: str, found: tuple[Found, ...]) -> None:
        """These are the targets from now on."""
        before = self.found.get(name, ())
        if found == before:
            return
        old, new = {each.url for each in before}, {each.url for each in found}
        log.info("upstream %s: %d targets found, %d new, %d gone", name, len(new), len(new - old), len(old - new))
        self.found = {**self.found, name: found}
        self._tell(self.found)
