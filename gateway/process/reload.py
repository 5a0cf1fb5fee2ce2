"""One reload: everything is built and checked beside what serves, then put into force in one step, or not at all.

In order: the file, the sockets, the store, a runtime in every worker. Until all of that stands nothing has
changed; a failure anywhere takes back what was made, and says why.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config.complaints import Complaint, ConfigError
from gateway.config.loading import Loaded, read
from gateway.config.warnings import warnings
from gateway.http.sockets import ListenError
from gateway.logs import own_log
from gateway.process.certificates import Certificates
from gateway.process.children import Child, ChildError
from gateway.process.link import Message
from gateway.process.listening import Plan
from gateway.process.parcel import parcel
from gateway.process.store import StoreServerError

if TYPE_CHECKING:
    from gateway.process.supervisor import Supervisor

log = logging.getLogger("gateway.reload")

PREPARE_WITHIN = 60.0
"""Seconds for a worker to build a runtime; 10,000 routes take two."""

COMMIT_WITHIN = 5.0
"""Seconds for a worker to put it into service, which is no work at all."""

MOST_ERRORS = 200
"""Complaints that are passed on; nobody repairs more than that at once."""


class ReloadFailedError(Exception):
    """The old configuration stays; the message is one line for the operator."""


class Reload:
    """From the file to the new configuration in force."""

    def __init__(self, supervisor: Supervisor, path: Path, environ: Mapping[str, str]) -> None:
        self._supervisor = supervisor
        self._path = path
        self._environ = environ

    async def run(self) -> Message:
        """What became of it, as the admin API tells it. The caller sees to it that nothing else changes meanwhile."""
        began = time.monotonic()
        try:
            loaded = read(self._path, self._environ)
            self._refuse_the_unchangeable(loaded)
            await self._build_and_swap(loaded)
        except ConfigError as error:
            lines = [str(complaint) for complaint in error.complaints[:MOST_ERRORS]]
            for line in lines:
                log.error("%s", line)
            log.error("the configuration was refused: the one in force stays")
            return {"reloaded": False, "errors": lines}
        except (ReloadFailedError, ListenError, StoreServerError, OSError) as error:
            log.error("the reload failed, the configuration in force stays: %s", error)
            return {"reloaded": False, "detail": str(error)}
        for line in warnings(loaded.config):
            log.warning("%s", line)
        took = (time.monotonic() - began) * 1000
        log.info("reloaded %s in %.0f ms (sha256:%s)", self._path, took, loaded.digest[:12])
        return {
            "reloaded": True,
            "hash": loaded.digest,
            "took_ms": round(took, 1),
            "workers": loaded.config.workers,
        }

    def _refuse_the_unchangeable(self, loaded: Loaded) -> None:
        if loaded.config.runtime_dir != self._supervisor.loaded.config.runtime_dir:
            message = "cannot be changed while the gateway runs: restart it"
            raise ConfigError([Complaint(str(self._path), 1, 1, "runtime_dir", message)])

    async def _build_and_swap(self, loaded: Loaded) -> None:
        supervisor = self._supervisor
        workers = supervisor.crew.ready
        plan = supervisor.listening.plan(loaded.config)
        with parcel(loaded.config, supervisor.instance.folder) as file:
            try:
                supervisor.store.open(loaded.config)
                await self._prepare(workers, plan, file)
            except BaseException:
                for child in workers:
                    child.tell({"do": "abort", "listeners": kept(supervisor.listening.current)})
                supervisor.listening.discard(plan)
                raise
            await self._commit(workers, plan, loaded, file)

    async def _prepare(self, workers: Sequence[Child], plan: Plan, file: int) -> None:
        """A runtime stands ready in every worker that lives. Raises ReloadFailedError."""
        question = {"do": "prepare", "embedded_store": self._supervisor.store.url}
        for child in workers:
            self._pass_sockets(child, plan)
        answers = await asyncio.gather(*(child.ask(question, PREPARE_WITHIN, (file,)) for child in workers))
        for answer in answers:
            if "failed" in answer:
                raise ReloadFailedError(answer["failed"])
        # A worker that died of something else will be replaced, with the new configuration as well.
        if answers and all("gone" in answer for answer in answers):
            raise ReloadFailedError("no worker could build it")

    def _pass_sockets(self, child: Child, plan: Plan) -> None:
        """Sockets that the worker has not inherited, or been given before."""
        known = self._supervisor.listening.current.clients
        for address, (group, secure) in plan.clients.items():
            had = len(known[address][0].sockets) if address in known else 0
            if more := group.sockets[had:]:
                descriptors = tuple(sock.fileno() for sock in more)
                child.tell({"do": "sockets", "address": address, "secure": secure}, descriptors)

    async def _commit(self, workers: Sequence[Child], plan: Plan, loaded: Loaded, file: int) -> None:
        supervisor = self._supervisor
        # From here on there is no way back, and none is needed: whoever dies now is replaced with the new one.
        certificates = Certificates(loaded.config)
        supervisor.loaded, supervisor.certificates = loaded, certificates
        old_admin = supervisor.listening.current.admin
        if supervisor.crew.operator is not None:
            # Before the workers: they sign with a key that is published, and find what their new store has revoked.
            question = {"do": "config", "embedded_store": supervisor.store.url}
            await supervisor.crew.operator.ask(question, COMMIT_WITHIN, (file,))
        commit = {"do": "commit", "listeners": kept(plan)}
        answers = await asyncio.gather(*(child.ask(commit, COMMIT_WITHIN) for child in workers))
        for child, answer in zip(workers, answers, strict=True):
            if "failed" in answer:
                log.error("worker %d could not go over to the new configuration: %s", child.pid, answer["failed"])
                child.kill()  # its successor begins with it
        supervisor.listening.adopt(plan, loaded.config)
        if supervisor.crew.operator is not None and plan.admin is not old_admin:
            descriptors = (plan.admin.sockets[0].fileno(),) if plan.admin is not None else ()
            supervisor.crew.operator.tell({"do": "listen"}, descriptors)
        try:
            await supervisor.crew.resize()
        except ChildError as error:
            log.error("a further worker cannot begin: %s", error)
        own_log.configure(loaded.config.logging.level, loaded.config.logging.format)


def kept(plan: Plan) -> dict[str, tuple[int, bool]]:
    """How many sockets each address has, and whether they speak TLS."""
    return {address: (len(group.sockets), secure) for address, (group, secure) in plan.clients.items()}
