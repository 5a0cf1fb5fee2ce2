"""The parent of all processes of a gateway: starts them, watches them, reloads them, ends them in order.

It serves nobody and has no threads. What must not happen while a reload is under way, the birth of a worker,
waits for it, and the other way round (`Crew.steady`).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.config.loading import Loaded
from gateway.config.warnings import warnings
from gateway.http.sockets import ListenError
from gateway.logs import own_log
from gateway.process.certificates import Certificates, stamps
from gateway.process.children import Child, ChildError, Nursery
from gateway.process.chores import Chores
from gateway.process.crew import Crew
from gateway.process.instance import Instance, InstanceError, parent_folder
from gateway.process.link import Message
from gateway.process.listening import Listening
from gateway.process.notify import inherited_sockets, notify
from gateway.process.reload import Reload
from gateway.process.store import StoreServerError
from gateway.process.store_keeper import StoreKeeper
from gateway.process.succession import RECORDS, announce_ready, successor
from gateway.process.system import allow_files, terminal_is_gone
from gateway.telemetry.audit import audit
from gateway.telemetry.collector import LastReload, Snapshot

log = logging.getLogger("gateway.supervisor")

Ready = Callable[[Sequence[str], str | None], None]
"""Told once, when all is ready: the addresses for clients as URLs, and the operators' address if there is one."""

END_WITHIN = 5.0
"""Seconds for a child to go, on top of the time that its requests have."""

RENEW_WITHIN = 5.0
"""Seconds for a worker to read its certificates again."""

HOLD_WITHIN = 5.0
"""Seconds for the operator process to hold what it keeps, which is no work."""

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
        if predecessor := environ.pop(RECORDS, ""):
            instance.inherit(Path(predecessor))
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
        # Now, not when it begins to watch: what changes while it starts is a change, too.
        self._stamps = stamps(loaded.files)
        self.listening = listening
        self.instance = instance
        self.crew = Crew(self, nursery)
        self.certificates = Certificates(loaded.config)
        self.store = StoreKeeper(instance.folder)
        self._command = command
        self._announce = ready
        self._nursery = nursery
        self._started = time.time()
        self._chores = Chores()
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
            self.crew.kill()
            self.store.close()
        return 0

    # -- beginning -----------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Everything runs and is ready, or StartError."""
        self.certificates.warn()
        try:
            self.store.open(self.loaded.config)
            await self.crew.begin()
        except (ChildError, StoreServerError) as error:
            raise StartError(str(error)) from None
        self._chores.start(self._look_at_files(), "look-at-files")

    def _tell_ready(self) -> None:
        plan = self.listening.current
        urls = [f"{'https' if secure else 'http'}://{name}" if not name.startswith("unix:") else name
                for name, (_, secure) in plan.clients.items()]  # fmt: skip
        self._announce(urls, self._admin_url())
        notify("READY=1", self._command.environ)
        announce_ready(self._command.environ)

    def _admin_url(self) -> str | None:
        admin, tls = self.listening.current.admin, self.loaded.config.listen.admin_tls
        if admin is None:
            return None
        if admin.address.startswith("unix:"):
            return admin.address
        return f"{'https' if tls is not None else 'http'}://{admin.address}"

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
        self.crew.kill()
        self.store.close(0)
        self.instance.close()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _hung_up(self) -> None:
        """SIGHUP: reload. But when it is our terminal that has gone away, stop."""
        if terminal_is_gone():
            self._told_to_stop(signal.SIGINT)
        else:
            self._chores.start(self._reload_by_signal(), "reload")

    async def hear(self, child: Child, message: Message) -> Message | None:
        """What the operator process passes on from its callers."""
        match message["do"]:
            case "reload":
                return await self.reload()
            case "log_level":
                self._set_log_level(message["level"])
            case "stop" if not self._stopping.done():
                self._stopping.set_result(True)
        return None

    async def reload(self) -> Message:
        """Put the file as it is now into force, or say why not and change nothing."""
        async with self.crew.steady:
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

    async def _reload_by_signal(self) -> None:
        outcome = await self.reload()
        audit(event="reload", by="signal", reloaded=outcome["reloaded"])

    def _set_log_level(self, level: str) -> None:
        """Here, so that whoever is born later has it, too; and in those who live."""
        own_log.set_level(level)
        for child in self.crew.workers.values():  # also those born a moment ago, who are not ready yet
            child.tell({"do": "log_level", "level": level})

    async def _hand_over(self) -> None:
        """SIGUSR2: start the installed version beside this one, on the same sockets; then leave."""
        async with self.crew.steady:
            # Before the successor takes them over: what is decided after that would be gone with us.
            await self._hold_records(True)
            pid = await successor(self.listening, self.instance.records, self._command.environ)
            if pid is None:
                await self._hold_records(False)
        if pid is not None and not self._stopping.done():
            notify(f"MAINPID={pid}", self._command.environ)
            if self.crew.operator is not None:
                self.crew.operator.tell({"do": "listen"})
            self.listening.let_go()
            self._stopping.set_result(False)

    async def _hold_records(self, held: bool) -> None:
        """Whether operators have to wait with keys and revocations."""
        if self.crew.operator is not None:
            await self.crew.operator.ask({"do": "hold", "held": held}, HOLD_WITHIN)

    # -- telling -------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """What the operator process tells of the supervisor."""
        config = self.loaded.config
        ready = self.crew.ready
        reasons = []
        if self._stopping.done():
            reasons.append("the gateway is draining")
        elif not ready:
            reasons.append("no worker is ready")
        return {
            "reasons": reasons,
            "worker_restarts": self.crew.restarts,
            "workers": {"configured": config.workers, "ready": len(ready)},
            "reloads": {"success": self._reloads[True], "failure": self._reloads[False]},
            "last_reload": self._last_reload,
            "config": {"hash": self.loaded.digest},
            "certificates": self.certificates.ends,
            "live": sorted(self.instance.live),
            "started": self._started,
            "draining": self._stopping.done(),
            "clients": [(address, secure) for address, (_, secure) in self.listening.current.clients.items()],
        }

    def publish(self) -> None:
        """Tell the operator process what has changed."""
        if self.crew.operator is not None:
            self.crew.operator.tell({"do": "snapshot", "snapshot": self.snapshot()})

    # -- ending --------------------------------------------------------------------------------------

    async def _stop(self, leisurely: bool) -> None:
        """Readiness fails first; then nobody new is accepted; then what is under way ends."""
        wire = self.loaded.config.wire
        notify("STOPPING=1", self._command.environ)
        self.publish()
        self._chores.cancel()
        workers = self.crew.disband()
        log.info("draining: up to %g s for requests under way", wire.drain_timeout)
        if leisurely and wire.lame_duck:
            await asyncio.sleep(wire.lame_duck)
        self.listening.close()
        for child in workers:
            child.dismissed = True
            child.tell({"do": "drain"})
        await self._ended(workers, wire.drain_timeout + END_WITHIN)
        if self.crew.operator is not None:
            self.crew.operator.tell({"do": "finish"})
            await self._ended([self.crew.operator], END_WITHIN)

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
        seen = self._stamps
        while True:
            await asyncio.sleep(LOOK / 2 if self._command.watch else LOOK)
            self.certificates.warn()
            own_log.tick()
            if self._command.watch and (now := stamps(self.loaded.files)) != seen:
                await self.reload()
                # What was read is as old as `now`; only of files that are named for the first time we know no better.
                seen = stamps(self.loaded.files) | {file: now[file] for file in now if file in self.loaded.files}
            elif self.certificates.renewed():
                await self._renew()

    async def _renew(self) -> None:
        async with self.crew.steady:
            shown_by = [*self.crew.ready, *([self.crew.operator] if self.crew.operator is not None else [])]
            asked = [child.ask({"do": "certificates"}, RENEW_WITHIN) for child in shown_by]
            answers = await asyncio.gather(*asked)
        failed = {answer["failed"] for answer in answers if "failed" in answer}
        for reason in failed:
            log.error("a renewed certificate cannot be used: %s", reason)
        if not failed:
            log.info("renewed certificates are in use")
        self.publish()
