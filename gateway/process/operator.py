"""The operator process: the one admin listener that speaks for all workers, and chores that need no worker.

It holds no state of its own worth keeping: the supervisor starts it anew when it fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.admin.transitions import Transitions
from gateway.auth.ledger import Ledger
from gateway.config.effective import effective
from gateway.config.model import Config, JwtProvider
from gateway.logs import own_log
from gateway.process.admin_listener import AdminListener
from gateway.process.chores import Chores
from gateway.process.instance import beside, reports_beside
from gateway.process.link import Link, LinkLostError, Message
from gateway.process.loops import run
from gateway.process.mailbox import Mailbox
from gateway.process.monitoring import Monitoring
from gateway.process.notices import NoticeBoard
from gateway.process.parcel import unpack
from gateway.process.record_keeper import RecordKeeper
from gateway.process.watching import Watching
from gateway.telemetry.cells import SharedCells, Summary, Totals
from gateway.telemetry.collector import MetricsCollector, Snapshot
from gateway.telemetry.exposition import Scrape
from gateway.telemetry.metrics import KEYSET_AGE, STORE_UP, Metrics
from gateway.telemetry.tally import Readings
from gateway.telemetry.usage import UsageKeeper
from gateway.uncollected import uncollected

if TYPE_CHECKING:
    from aiohttp import web

    from gateway.admin.newcomers import Newcomers
    from gateway.telemetry.usage_store import UsageStore

log = logging.getLogger("gateway.operator")

RELOAD_WITHIN = 60.0
"""Seconds; 10,000 routes take two."""

LOOK = 1.0
"""Seconds between two looks at what circuits did, and at what is over."""

ERRORS_TOLD = 50
"""Once a second, to every dashboard."""

HEARD_WITHIN = 5.0
"""Seconds in which the supervisor hears why this process cannot begin."""

TRANSITIONS = "gateway_breaker_transitions_total"

OWN = "operator"
"""Its own set of metrics."""


@dataclass(frozen=True, slots=True)
class Post:
    """What the operator is given at birth."""

    config: Config
    admin: socket.socket | None
    """Listening, for the admin application; None for no admin listener."""
    cells: Path
    """The folder of all sets of metrics."""
    records: Path
    """The copy of what operators have decided about credentials, which the workers read."""
    snapshot: Snapshot
    embedded_store: str
    """URL of the embedded store; "" without one."""


def operate(link: socket.socket, post: Post) -> int:
    """The life of the operator, to its exit status."""
    own_log.begin("operator")
    return run(Operator(link, post).live())


class Operator:
    """Implements gateway.admin.app.Instance."""

    def __init__(self, sock: socket.socket, post: Post) -> None:
        self._link = Link(sock, self._hear, self._leave)
        self._config = post.config
        self._admin = post.admin
        self._snapshot = post.snapshot
        self._summary = Summary(post.cells)
        self._leaving = asyncio.Event()
        self._checking: asyncio.Task[None] | None = None
        self._chores = Chores()
        self._records = RecordKeeper(post.records)
        self._embedded_store = post.embedded_store
        self._usage = UsageKeeper()
        self.metrics = Metrics(SharedCells(post.cells / OWN))
        self._families = {family.name: family for family in self.metrics.families}
        self._monitoring = Monitoring(self.metrics, self.readings, self.reasons, lambda: self._snapshot)
        self.board = NoticeBoard(beside(post.records))
        self._watching = Watching(self.board.post, self.board.current)
        self.mailbox = Mailbox(reports_beside(post.records), self.board.post, self._working)
        self.transitions = Transitions()
        self.jwks: bytes | None = None
        self.scrape = Scrape(MetricsCollector(self._summary, self._live_sets, lambda: self._snapshot).read)

    async def live(self) -> int:
        """Answer until the supervisor says `finish`, or is gone."""
        # Here, not at the top: the others need no aiohttp, and it takes 0.2 s to import.
        with uncollected():
            from aiohttp import web

            from gateway.admin.app import admin_app
            from gateway.admin.newcomers import IDLE, Newcomers

        self._link.open(asyncio.get_running_loop())
        self.mailbox.open()
        # Scrapes are short: one that lasts longer than a second must not hold up the end of the process.
        # It has a traceback for whatever clients do wrong; what the application does wrong, that tells itself.
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
        app, newcomers = admin_app(self), Newcomers()
        app.middlewares.insert(0, newcomers.hearing())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, keepalive_timeout=IDLE)
        await runner.setup()
        self._listener = AdminListener(runner)
        await self._configure(self._config)
        try:
            await self._listener.configure(self._config)
        except OSError as error:
            with contextlib.suppress(LinkLostError, TimeoutError):
                await self._link.ask({"do": "failed", "reason": f"listen.admin_tls: {error}"}, HEARD_WITHIN)
            return 1
        await self._listener.listen(self._admin)
        self._chores.repeat(self._look_at_circuits, LOOK, "look-at-circuits")
        self._chores.repeat(partial(self._dismiss, newcomers, runner), LOOK, "dismiss-newcomers")
        self._link.tell({"do": "ready"})
        await self._leaving.wait()
        self._chores.cancel()
        await self._watching.close()
        await self._monitoring.close()
        self.mailbox.close()
        await runner.cleanup()
        await self._records.close()
        await self._usage.close()
        if self._checking is not None:
            self._checking.cancel()
        own_log.tick(last=True)
        return 0

    # -- gateway.admin.app.Instance ------------------------------------------------------------------

    @property
    def token(self) -> str:
        token = self._config.listen.admin_token
        return token.get_secret_value() if token is not None else ""

    def reasons(self) -> list[str]:
        found: list[str] = list(self._snapshot["reasons"])
        if self._config.store.on_failure == "closed" and self._store_is_away():
            found.append("the store is away, and store.on_failure is closed")
        if self._config.shares_records and not self._records.loaded:
            found.append("the store has never told which API keys there are and what is revoked")
        found += self._watching.reasons()
        found += [f"the keys of provider {name} have never been loaded" for name in self._without_keys()]
        return found

    @property
    def ledger(self) -> Ledger:
        return self._records.ledger

    @property
    def usage(self) -> UsageStore | None:
        return self._usage.store

    def readings(self, *names: str) -> Mapping[str, Readings]:
        totals = self.totals(*names)
        return {name: {labels: cells[0] for labels, cells in totals.get(name, {}).items()} for name in names}

    def totals(self, *names: str) -> Totals:
        families = [self._families[name] for name in names if name in self._families]
        return self._summary.collect(families, self._live_sets())

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def watched(self) -> dict[str, Any]:
        recent = self.mailbox.recent
        problems = {"errors": recent.errors(limit=ERRORS_TOLD), "slowest": recent.slowest(self.mailbox.clock())}
        return {**problems, "probes": self.probes(), "alerts": self.alerts()}

    def probes(self) -> list[dict[str, Any]]:
        return self._monitoring.probes()

    def alerts(self) -> list[dict[str, Any]]:
        return self._monitoring.alerts()

    @property
    def settings(self) -> Config:
        return self._config

    def config(self) -> dict[str, Any]:
        return {"hash": self._snapshot["config"]["hash"], "config": effective(self._config)}

    async def reload(self) -> dict[str, Any]:
        return await self._link.ask({"do": "reload"}, RELOAD_WITHIN)

    async def drain(self) -> None:
        self._link.tell({"do": "stop"})

    def trusts(self, context: object) -> bool:
        return self._listener.trusts(context)

    async def set_log_level(self, level: str) -> None:
        self._link.tell({"do": "log_level", "level": level})  # first: it must not be in force here alone
        own_log.set_level(level)

    # -- what the supervisor says --------------------------------------------------------------------

    async def _hear(self, message: Message, descriptors: list[int]) -> Message | None:
        match message["do"]:
            case "snapshot":
                self._snapshot = message["snapshot"]
                self._monitoring.heard()
            case "config":
                self._embedded_store = message["embedded_store"]
                await self._configure(unpack(descriptors[0]))
                await self._secure()
                own_log.configure(self._config.logging.level, self._config.logging.format)
            case "listen":
                await self._listener.listen(socket.socket(fileno=descriptors[0]) if descriptors else None)
            case "certificates":
                await self._listener.configure(self._config)
            case "hold":
                self._records.ledger.hold(message["held"])
            case "finish":
                self._leave()
        return {}

    def _leave(self) -> None:
        self._leaving.set()

    # -- what it does --------------------------------------------------------------------------------

    async def _configure(self, config: Config) -> None:
        self._config = config
        self.jwks = published(config)
        self.board.keep_to(config)
        self._watching.configure(config)
        self._monitoring.configure(config)
        await self._records.keep(config)
        await self._usage.keep(config, self._embedded_store)
        self._check_names()

    async def _secure(self) -> None:
        """Show operators the certificates that the configuration now in force has."""
        try:
            await self._listener.configure(self._config)
        except OSError as error:  # the files have changed since they were checked
            log.error("listen.admin_tls cannot be used: %s", error)
            if not self._listener.secure:
                self._leave()  # nothing goes in the clear that should not: a successor tries again

    async def _look_at_circuits(self) -> None:
        """Note what they did since the last look, and take down what is over."""
        # In a thread: a scrape that reads all metrics holds them for longer than a health check may wait.
        counted = await asyncio.to_thread(self.readings, TRANSITIONS)
        self.transitions.note(counted[TRANSITIONS], time.time())
        self.board.tick()
        self.metrics.log_suppressed.child().inc(own_log.tick())

    async def _dismiss(self, newcomers: Newcomers, runner: web.AppRunner) -> None:
        if runner.server is not None:
            newcomers.dismiss(runner.server.connections)

    def _live_sets(self) -> Collection[str]:
        """Whose gauges count."""
        return [OWN, *self._working()]

    def _working(self) -> Collection[str]:
        """The workers' sets."""
        live: list[str] = self._snapshot["live"]
        return live

    def _store_is_away(self) -> bool:
        """Some worker cannot reach it."""
        up = self._summary.collect([STORE_UP], self._live_sets())[STORE_UP.name]
        return any(value == 0.0 for (value,) in up.values())

    def _without_keys(self) -> list[str]:
        """The providers whose keys no worker has ever got."""
        providers = self._config.auth.providers.items()
        published = [name for name, each in providers if isinstance(each, JwtProvider) and each.published]
        if not published:
            return []
        ages = self._summary.collect([KEYSET_AGE], self._live_sets())[KEYSET_AGE.name]
        return [name for name in published if (name,) not in ages]

    def _check_names(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
        self._checking = asyncio.get_running_loop().create_task(check_names(self._config), name="check-names")


def published(config: Config) -> bytes | None:
    """The public key of the gateway's own tokens, as it was when the workers loaded the private one."""
    if config.auth.signing is None:
        return None
    # Here, not at the top: who signs nothing needs no cryptography.
    from gateway.auth.signer import jwks

    try:
        return jwks(config)
    except (OSError, ValueError) as error:  # the file has changed since it was checked
        log.error("auth.signing.key cannot be published: %s", error)
        return None


async def check_names(config: Config) -> None:
    """Say which targets have names that lead nowhere; they may do so later, so it is no reason not to start."""
    loop = asyncio.get_running_loop()
    for name, upstream in config.upstreams.items():
        for target in upstream.targets:
            try:
                await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            except OSError as error:
                reason = error.strerror or str(error)
                log.warning("upstream %s: the target %s cannot be resolved: %s", name, target.url, reason)
