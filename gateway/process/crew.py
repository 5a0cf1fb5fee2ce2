"""The processes that do the work: a worker for each slot, and the operator. Who ends by itself is replaced.

Every listening socket has a worker that accepts on it, whoever has died: that of its slot, or one that stands
in for it (`assign`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from gateway.process import operator, worker
from gateway.process.children import Child, ChildError, Nursery, describe
from gateway.process.chores import Chores
from gateway.process.restarts import Restarts

if TYPE_CHECKING:
    from gateway.process.supervisor import Supervisor

log = logging.getLogger("gateway.supervisor")

BEGIN_WITHIN = 60.0
"""Seconds for a child to begin its work; 10,000 routes take two."""


class Crew:
    """The children of one supervisor. `steady` is held while nobody may be born: a reload is under way."""

    def __init__(self, supervisor: Supervisor, nursery: Nursery) -> None:
        self.workers: dict[int, Child] = {}
        """By slot; also those that are about to go."""
        self.operator: Child | None = None
        self.restarts = 0
        self.steady = asyncio.Lock()
        self._supervisor = supervisor
        self._nursery = nursery
        self._id = os.urandom(4).hex()
        self._chores = Chores()
        self._keepers: dict[int, asyncio.Task[None]] = {}

    @property
    def ready(self) -> list[Child]:
        """The workers that serve."""
        return [child for child in self.workers.values() if child.ready]

    async def begin(self) -> None:
        """All of them work. Raises ChildError."""
        begun = [self._begin(slot) for slot in range(self._supervisor.loaded.config.workers)]
        await asyncio.gather(*begun, self._begin_operator())

    async def resize(self) -> None:
        """As many workers as the configuration says: more begin, or the last ones go when they are done."""
        wanted = self._supervisor.loaded.config.workers
        for slot in range(wanted):
            if slot not in self._keepers:
                await self._begin(slot)
        for slot in [slot for slot in self._keepers if slot >= wanted]:
            self._keepers.pop(slot).cancel()
            child = self.workers.pop(slot, None)
            if child is not None:
                child.dismissed = True
                child.tell({"do": "drain"})
        self.assign()

    def disband(self) -> list[Child]:
        """Replace nobody any more; returns the workers, which have to be told to go."""
        self._chores.cancel()
        return [child for child in self._nursery.children.values() if child is not self.operator]

    def kill(self) -> None:
        """End all of them at once."""
        self._chores.cancel()
        for child in list(self._nursery.children.values()):
            child.kill()

    async def _begin(self, slot: int) -> None:
        """The first worker in a slot, which is filled from then on. Raises ChildError."""
        child = await self._bear_worker(slot)
        self._keepers[slot] = self._chores.start(self._keep(slot, child), f"keep-worker-{slot}")

    async def _begin_operator(self) -> None:
        child = await self._bear_operator()
        self._chores.start(self._keep_operator(child), "keep-operator")

    async def _bear_worker(self, slot: int) -> Child:
        """A worker that accepts. Raises ChildError."""
        cells = self._supervisor.instance.take_set()
        config = self._supervisor.loaded.config
        post = worker.Post(
            config=config,
            listeners=dict(self._supervisor.listening.current.clients),
            cells=self._supervisor.instance.cells / cells,
            log_lock=self._supervisor.instance.log_lock,
            records=self._supervisor.instance.records,
            instance=self._id,
            embedded_store=self._supervisor.store.url,
        )
        try:
            child = await self._nursery.bear(
                lambda link: worker.work(link, post), self._supervisor.hear, self._not_for_workers
            )
        except ChildError:
            self._supervisor.instance.leave_set(cells)
            raise
        child.exited.add_done_callback(lambda _: self._supervisor.instance.leave_set(cells))
        await self._begun(child)
        self._supervisor.instance.live.add(cells)  # not before: the gauges in there may be those of its predecessor
        self.workers[slot] = child
        self.assign()
        self._supervisor.publish()
        return child

    async def _bear_operator(self) -> Child:
        admin = self._supervisor.listening.current.admin
        post = operator.Post(
            config=self._supervisor.loaded.config,
            admin=admin.sockets[0] if admin is not None else None,
            cells=self._supervisor.instance.cells,
            records=self._supervisor.instance.records,
            snapshot=self._supervisor.snapshot(),
            embedded_store=self._supervisor.store.url,
        )
        child = await self._nursery.bear(
            lambda link: operator.operate(link, post), self._supervisor.hear, self._not_for_the_operator
        )
        await self._begun(child)
        self.operator = child
        self._supervisor.publish()
        return child

    async def _begun(self, child: Child) -> None:
        try:
            await asyncio.wait_for(asyncio.shield(child.begun), BEGIN_WITHIN)
        except TimeoutError:
            child.kill()
            raise ChildError(f"a process did not begin its work within {BEGIN_WITHIN:g} s") from None

    def _not_for_workers(self) -> None:
        admin = self._supervisor.listening.current.admin
        if admin is not None:
            admin.sockets[0].close()

    def _not_for_the_operator(self) -> None:
        for group, _ in self._supervisor.listening.current.clients.values():
            for sock in group.sockets:
                sock.close()

    async def _keep(self, slot: int, child: Child) -> None:
        """Fill the slot until its worker is dismissed."""
        restarts = Restarts()
        while True:
            status = await asyncio.shield(child.exited)  # others wait for it, too, when this task is cancelled
            if child.dismissed:
                return
            del self.workers[slot]
            self._lament(f"worker {slot}", child, status)
            self.restarts += 1
            self.assign()
            self._supervisor.publish()
            child = await self._again(restarts, child, lambda: self._bear_worker(slot))

    async def _keep_operator(self, child: Child) -> None:
        restarts = Restarts()
        while True:
            status = await asyncio.shield(child.exited)
            self.operator = None
            self._lament("the operator process", child, status)
            child = await self._again(restarts, child, self._bear_operator)

    async def _again(self, restarts: Restarts, dead: Child, bear: Callable[[], Coroutine[Any, Any, Child]]) -> Child:
        """A successor, however many attempts it takes."""
        lived = time.monotonic() - dead.born
        while True:
            await asyncio.sleep(restarts.wait(lived))
            try:
                async with self.steady:
                    return await bear()
            except ChildError as error:
                log.error("cannot be replaced yet: %s", error)
                lived = 0.0

    def _lament(self, who: str, child: Child, status: int) -> None:
        lived = time.monotonic() - child.born
        log.error("%s (pid %d) ended by itself after %.1f s: %s", who, child.pid, lived, describe(status))

    def assign(self) -> None:
        """Every socket has a worker that accepts on it: that of its slot, or one that stands in for it."""
        ready = sorted(slot for slot, child in self.workers.items() if child.ready and not child.dismissed)
        if not ready:
            return
        for slot in ready:
            mine = [other for other in range(self._supervisor.listening.slots)
                    if other == slot or (other not in ready and ready[other % len(ready)] == slot)]  # fmt: skip
            child = self.workers[slot]
            if child.slots != mine:
                child.slots = mine
                child.tell({"do": "accept", "slots": mine})
