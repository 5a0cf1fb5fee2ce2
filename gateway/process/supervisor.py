"""The parent of all processes of a gateway: starts them, watches them, reloads them, ends them in order.

It serves nobody and has no threads. What must not happen while a reload is under way, the birth of a worker,
waits for it, and the other way round (`_steady`).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config.loading import Loaded
from gateway.config.warnings import warnings
from gateway.http.sockets import ListenError
from gateway.process import operator, worker
from gateway.process.certificates import Certificates, stamps
from gateway.process.children import Child, ChildError, Nursery, describe
from gateway.process.chores import Chores
from gateway.process.instance import Instance, InstanceError, parent_folder
from gateway.process.link import Message
from gateway.process.listening import Listening
from gateway.process.notify import inherited_sockets, notify
from gateway.process.reload import Reload
from gateway.process.restarts import Restarts
from gateway.process.store import StoreServerError
from gateway.process.store_keeper import StoreKeeper
from gateway.process.succession import announce_ready, successor
from gateway.process.system import allow_files, terminal_is_gone
from gateway.telemetry.collector import LastReload, Snapshot

log = logging.getLogger("gateway.supervisor")

Ready = Callable[[Sequence[str], str | None], None]
"""Told once, when all is ready: the addresses for clients as URLs, and the operators' address if there is one."""

BEGIN_WITHIN = 60.0
"""Seconds for a child to begin its work; 10,000 routes take two."""

END_WITHIN = 5.0
"""Seconds for a child to go, on top of the time that its requests have."""

LOOK = 1.0
"""Seconds between two looks at the files of certificates; half of that with --watch at all files."""


class StartError(Exception):
    """The gateway cannot start; the message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Command:
    """What `gateway run` was asked to do."""

    path: Path
    environ: MutableMapping[str, str]
    watch: bool = False
    """Reload whenever a file of the configuration changes."""


def supervise(command: Command, loaded: Loaded, ready: Ready) -> int:
    """Run the gateway to its end; returns the exit status. Raises StartError."""
    environ = command.environ
    allow_files(loaded.config.wire.connections)
    for line in warnings(loaded.config):
        log.warning("%s", line)
    try:
        listening = Listening(inherited_sockets(environ))
    except OSError as error:
        raise StartError(f"was started with something that is no socket: {error.strerror}") from None
    try:
        plan = listening.plan(loaded.config)
        instance = Instance(parent_folder(loaded.config.runtime_dir, environ))
    except (ListenError, InstanceError) as error:
        listening.close()
        raise StartError(str(error)) from None
    listening.adopt(plan, loaded.config)
    nursery = Nursery()
    # What exists now is shared with the children as long as nobody writes to it, and the collector would.
    gc.collect()
    gc.freeze()
    try:
        return nursery.run(Supervisor(command, loaded, ready, nursery, listening, instance).main)
    finally:
        listening.close()
        instance.close()


class Supervisor:
    """One running gateway; `main` is all of its life."""

    def __init__(
        self,
        command: Command,
        loaded: Loaded,
        ready: Ready,
        nursery: Nursery,
        listening: Listening,
        instance: Instance,
    ) -> None:
        self.loaded = loaded
        self.listening = listening
        self.instance = instance
        self.workers: dict[int, Child] = {}
        """By slot; also those that are about to go."""
        self.operator: Child | None = None
        self.certificates = Certificates(loaded.config)
        self.store = StoreKeeper(instance.folder)
        self._command = command
        self._announce = ready
        self._nursery = nursery
        self._id = os.urandom(4).hex()
        self._started = time.time()
        self._steady = asyncio.Lock()
        self._chores = Chores()
        self._keepers: dict[int, asyncio.Task[None]] = {}
        self._restarts = 0
        self._reloads = {True: 0, False: 0}
        self._last_reload: LastReload = {"ok": True, "at": self._started}

    async def main(self) -> int:
        """From the first child to the last."""
        self._stopping: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._on_signals()
        try:
            await self._start()
            if not self._stopping.done():
                self._tell_ready()
            leisurely = await self._stopping
            await self._stop(leisurely)
        finally:
            self._chores.cancel()
            for child in list(self._nursery.children.values()):
                child.kill()
            self.store.close()
        return 0

    # -- beginning -----------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Everything runs and is ready, or StartError."""
        self.certificates.warn()
        try:
            self.store.open(self.loaded.config)
            begun = [self._begin(slot) for slot in range(self.loaded.config.workers)]
            await asyncio.gather(*begun, self._begin_operator())
        except (ChildError, StoreServerError) as error:
            raise StartError(str(error)) from None
        self._chores.start(self._look_at_files(), "look-at-files")

    def _tell_ready(self) -> None:
        plan = self.listening.current
        urls = [f"{'https' if secure else 'http'}://{name}" if not name.startswith("unix:") else name
                for name, (_, secure) in plan.clients.items()]  # fmt: skip
        self._announce(urls, plan.admin.address if plan.admin is not None else None)
        notify("READY=1", self._command.environ)
        announce_ready(self._command.environ)

    async def _begin(self, slot: int) -> None:
        """The first worker in a slot, which is filled from then on. Raises ChildError."""
        child = await self._bear_worker(slot)
        self._keepers[slot] = self._chores.start(self._keep(slot, child), f"keep-worker-{slot}")

    async def _begin_operator(self) -> None:
        child = await self._bear_operator()
        self._chores.start(self._keep_operator(child), "keep-operator")

    async def _bear_worker(self, slot: int) -> Child:
        """A worker that accepts. Raises ChildError."""
        cells = self.instance.take_set()
        config = self.loaded.config
        post = worker.Post(
            slot=slot,
            config=config,
            listeners=dict(self.listening.current.clients),
            cells=self.instance.cells / cells,
            log_lock=self.instance.log_lock,
            instance=self._id,
            embedded_store=self.store.url,
        )
        try:
            child = await self._nursery.bear(lambda link: worker.work(link, post), self._hear, self._not_for_workers)
        except ChildError:
            self.instance.leave_set(cells)
            raise
        child.exited.add_done_callback(lambda _: self.instance.leave_set(cells))
        await self._begun(child)
        self.instance.live.add(cells)  # not before: the gauges in there may be those of its predecessor
        self.workers[slot] = child
        self.assign()
        self.publish()
        return child

    async def _bear_operator(self) -> Child:
        admin = self.listening.current.admin
        post = operator.Post(
            config=self.loaded.config,
            admin=admin.sockets[0] if admin is not None else None,
            cells=self.instance.cells,
            snapshot=self.snapshot(),
        )
        child = await self._nursery.bear(
            lambda link: operator.operate(link, post), self._hear, self._not_for_the_operator
        )
        await self._begun(child)
        self.operator = child
        self.publish()
        return child

    async def _begun(self, child: Child) -> None:
        try:
            await asyncio.wait_for(asyncio.shield(child.begun), BEGIN_WITHIN)
        except TimeoutError:
            child.kill()
            raise ChildError(f"a process did not begin its work within {BEGIN_WITHIN:g} s") from None

    def _not_for_workers(self) -> None:
        admin = self.listening.current.admin
        if admin is not None:
            admin.sockets[0].close()

    def _not_for_the_operator(self) -> None:
        for group, _ in self.listening.current.clients.values():
            for sock in group.sockets:
                sock.close()

    # -- keeping -------------------------------------------------------------------------------------

    async def _keep(self, slot: int, child: Child) -> None:
        """Fill the slot until its worker is dismissed."""
        restarts = Restarts()
        while True:
            status = await asyncio.shield(child.exited)  # others wait for it, too, when this task is cancelled
            if child.dismissed:
                return
            del self.workers[slot]
            self._lament(f"worker {slot}", child, status)
            self._restarts += 1
            self.assign()
            self.publish()
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
                async with self._steady:
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
            mine = [other for other in range(self.listening.slots)
                    if other == slot or (other not in ready and ready[other % len(ready)] == slot)]  # fmt: skip
            child = self.workers[slot]
            if child.slots != mine:
                child.slots = mine
                child.tell({"do": "accept", "slots": mine})

    # -- what the outside asks for -------------------------------------------------------------------

    def _on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._nursery.bury)
        loop.add_signal_handler(signal.SIGTERM, self._told_to_stop, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGINT, self._told_to_stop, signal.SIGINT)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        loop.add_signal_handler(signal.SIGUSR2, lambda: self._chores.start(self._hand_over(), "hand-over"))

    def _told_to_stop(self, number: signal.Signals) -> None:
        """The first time: in order, and for a person at a terminal (SIGINT) without a lame-duck time."""
        if not self._stopping.done():
            self._stopping.set_result(number == signal.SIGTERM)
            return
        for child in list(self._nursery.children.values()):
            child.kill()
        self.store.close(0)
        self.instance.close()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _hung_up(self) -> None:
        """SIGHUP: reload. But when it is our terminal that has gone away, stop."""
        if terminal_is_gone():
            self._told_to_stop(signal.SIGINT)
        else:
            self._chores.start(self.reload(), "reload")

    async def _hear(self, child: Child, message: Message) -> Message | None:
        """What the operator process passes on from its callers."""
        match message["do"]:
            case "reload":
                return await self.reload()
            case "stop" if not self._stopping.done():
                self._stopping.set_result(True)
        return None

    async def reload(self) -> Message:
        """Put the file as it is now into force, or say why not and change nothing."""
        async with self._steady:
            if self._stopping.done():
                return {"reloaded": False, "detail": "the gateway is stopping"}
            notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", self._command.environ)
            try:
                outcome = await Reload(self, self._command.path, self._command.environ).run()
            except Exception:
                log.exception("the reload failed inside the gateway")
                outcome = {"reloaded": False, "detail": "the gateway failed; its log tells more"}
            notify("READY=1", self._command.environ)
        ok: bool = outcome["reloaded"]
        self._reloads[ok] += 1
        self._last_reload = {"ok": ok, "at": time.time() if ok else self._last_reload["at"]}
        self.publish()
        return outcome

    async def staff(self) -> None:
        """As many workers as the configuration says: more begin, or the last ones go when they are done."""
        wanted = self.loaded.config.workers
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

    async def _hand_over(self) -> None:
        """SIGUSR2: start the installed version beside this one, on the same sockets; then leave."""
        async with self._steady:
            pid = await successor(self.listening, self._command.environ)
        if pid is not None and not self._stopping.done():
            notify(f"MAINPID={pid}", self._command.environ)
            if self.operator is not None:
                self.operator.tell({"do": "listen"})
            self.listening.let_go()
            self._stopping.set_result(False)

    # -- telling -------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """What the operator process tells of the supervisor."""
        config = self.loaded.config
        ready = [child for child in self.workers.values() if child.ready]
        reasons = []
        if self._stopping.done():
            reasons.append("the gateway is draining")
        elif not ready:
            reasons.append("no worker is ready")
        return {
            "reasons": reasons,
            "worker_restarts": self._restarts,
            "workers": {"configured": config.workers, "ready": len(ready)},
            "reloads": {"success": self._reloads[True], "failure": self._reloads[False]},
            "last_reload": self._last_reload,
            "config": {"hash": self.loaded.digest},
            "certificates": self.certificates.ends,
            "live": sorted(self.instance.live),
            "started": self._started,
        }

    def publish(self) -> None:
        """Tell the operator process what has changed."""
        if self.operator is not None:
            self.operator.tell({"do": "snapshot", "snapshot": self.snapshot()})

    # -- ending --------------------------------------------------------------------------------------

    async def _stop(self, leisurely: bool) -> None:
        """Readiness fails first; then nobody new is accepted; then what is under way ends."""
        wire = self.loaded.config.wire
        notify("STOPPING=1", self._command.environ)
        self.publish()
        self._chores.cancel()
        log.info("draining: up to %g s for requests under way", wire.drain_timeout)
        if leisurely and wire.lame_duck:
            await asyncio.sleep(wire.lame_duck)
        self.listening.close()
        workers = [child for child in self._nursery.children.values() if child is not self.operator]
        for child in workers:
            child.dismissed = True
            child.tell({"do": "drain"})
        await self._ended(workers, wire.drain_timeout + END_WITHIN)
        if self.operator is not None:
            self.operator.tell({"do": "finish"})
            await self._ended([self.operator], END_WITHIN)

    async def _ended(self, children: Sequence[Child], patience: float) -> None:
        if children:
            _, late = await asyncio.wait([child.exited for child in children], timeout=patience)
            for child in children:
                if child.exited in late:
                    log.error("the process %d does not end: killed", child.pid)
                    child.kill()

    # -- chores --------------------------------------------------------------------------------------

    async def _look_at_files(self) -> None:
        """Renewed certificates, and with --watch a changed configuration."""
        seen = stamps(self.loaded.files)
        while True:
            await asyncio.sleep(LOOK / 2 if self._command.watch else LOOK)
            self.certificates.warn()
            if self._command.watch and (now := stamps(self.loaded.files)) != seen:
                await self.reload()
                # What was read is as old as `now`; only of files that are named for the first time we know no better.
                seen = stamps(self.loaded.files) | {file: now[file] for file in now if file in self.loaded.files}
            elif self.certificates.renewed():
                await self._renew()

    async def _renew(self) -> None:
        async with self._steady:
            asked = [child.ask({"do": "certificates"}, BEGIN_WITHIN) for child in self.workers.values() if child.ready]
            answers = await asyncio.gather(*asked)
        failed = {answer["failed"] for answer in answers if "failed" in answer}
        for reason in failed:
            log.error("a renewed certificate cannot be used: %s", reason)
        if not failed:
            log.info("renewed certificates are in use")
        self.publish()
