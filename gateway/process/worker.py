"""A worker: one process with one event loop that accepts clients and serves them.

It does what the supervisor says over its link, and when the supervisor is gone it finishes and goes, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.assemble import World, assemble
from gateway.auth.records import Records
from gateway.config.model import Config
from gateway.http.server import Limits, Server
from gateway.http.sockets import Group
from gateway.logs import own_log
from gateway.logs.line_writer import LineWriter
from gateway.process.chores import Chores
from gateway.process.instance import beside, reports_beside
from gateway.process.link import Link, LinkLostError, Message
from gateway.process.listener_tls import ListenerTls, listener_tls
from gateway.process.loops import run
from gateway.process.notices import NoticesReader
from gateway.process.parcel import unpack
from gateway.runtime import Runtime
from gateway.telemetry.cells import SharedCells
from gateway.telemetry.loop_lag import LoopLag
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.process import ProcessUsage
from gateway.telemetry.reports import Reports
from gateway.telemetry.tally import Children, Counter
from gateway.telemetry.usage import REPORT_EVERY, UsageCounter, UsageReporter

log = logging.getLogger("gateway.worker")

STORE_LOOK = 1.0
"""Seconds between two looks at a store that is away."""

RECORDS_LOOK = 0.25
"""Seconds between two looks at the file with the operators' decisions: it takes 5 µs when nothing has changed."""

NOTICES_LOOK = 0.25
"""The same for what the operator process knows about upstreams."""

RECORDS_WAIT = 0.02
"""The same while there is none and callers are refused for it."""

SWITCH = 0.0005
"""Seconds after which a thread that builds a runtime lets the loop's thread go on; Python's own 5 ms are felt."""

HEARD_WITHIN = 5.0
"""Seconds in which the supervisor hears why a worker cannot begin, before it hears that it has ended."""

Listeners = dict[str, tuple[Group, bool]]
"""By address: the sockets that clients come in by, and whether they speak TLS."""


@dataclass(frozen=True, slots=True)
class Post:
    """What a worker is given at birth."""

    config: Config
    listeners: Listeners
    cells: Path
    """The folder of its set of metrics."""
    log_lock: Path
    """Held while a batch of the access log is written to a pipe that several workers share."""
    records: Path
    """What operators have decided about credentials."""
    instance: str
    embedded_store: str
    """URL of the embedded store; "" without one."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the next `commit` puts into service."""

    config: Config
    runtime: Runtime
    tls: ListenerTls


def work(link: socket.socket, post: Post) -> int:
    """The life of a worker, to its exit status."""
    own_log.begin("worker")
    return run(Worker(link, post).live())


class Worker:
    """One worker; `live` is all of its life."""

    def __init__(self, sock: socket.socket, post: Post) -> None:
        self._link = Link(sock, self._hear, self._leave)
        self._config = post.config
        self._listeners = dict(post.listeners)
        self._slots: list[int] = []
        self._metrics = Metrics(SharedCells(post.cells))
        self._writer = LineWriter(sys.stdout.fileno(), lock=post.log_lock)
        self._records = Records(post.records)
        self._notices = NoticesReader(beside(post.records))
        self._usage = UsageReporter(UsageCounter())
        self._reports = Reports(
            reports_beside(post.records), post.cells.name, self._metrics.reports_dropped.child().inc
        )
        self._world = World(
            self._metrics,
            self._writer,
            post.instance,
            post.embedded_store,
            records=self._records,
            usage=self._usage.counter,
            reports=self._reports,
            later=later,
        )
        self._prepared: Prepared | None = None
        self._leaving = asyncio.Event()
        self._chores = Chores()
        self._counted: dict[Children[Counter], int] = {}
        self._doing: dict[str, Callable[[Message, list[int]], Awaitable[Message | None]]] = {
            "accept": self._accept,
            "sockets": self._take_sockets,
            "prepare": self._prepare,
            "commit": self._commit,
            "abort": self._abort,
            "certificates": self._renew_certificates,
            "log_level": self._set_log_level,
            "drain": self._drain,
        }

    async def live(self) -> int:
        """Serve until the supervisor says `drain`, or is gone."""
        self._link.open(asyncio.get_running_loop())
        self._records.expected = self._config.shares_records
        await self._records.look()
        await self._notices.look()
        try:
            self._runtime = assemble(self._config, self._world)
            self._tls = listener_tls(self._config, ListenerTls())
        except (OSError, ValueError) as error:
            with contextlib.suppress(LinkLostError, TimeoutError):
                await self._link.ask({"do": "failed", "reason": str(error)}, HEARD_WITHIN)
            return 1
        self._heed()
        self._server = Server(
            self._runtime.handler,
            limits_of(self._config),
            self._config.trusted_proxies,
            tls=self._tls.context,
            proxy_protocol=self._config.listen.proxy_protocol,
        )
        self._runtime.start()
        self._process_usage = ProcessUsage(self._metrics)
        lag = LoopLag(on_tick=self._tick)
        self._lag = lag
        self._chores.start(lag.run(), "loop-lag")
        self._chores.start(self._check_store(), "check-store")
        self._chores.start(self._look_at_records(), "look-at-records")
        self._chores.start(self._look_at_notices(), "look-at-notices")
        self._chores.start(self._report_usage(), "report-usage")
        # What is here now lives as long as the process: the collector need not look at it again, and with
        # few cycles per request it need not look often (5 % of the rate of small requests).
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        self._link.tell({"do": "ready"})
        await self._leaving.wait()
        await self._end()
        return 0

    async def _end(self) -> None:
        self._keep_sockets({})  # and no longer held open: from here on connections are refused
        await self._server.close()
        self._runtime.catch_up()
        self._tick()
        self._chores.cancel()
        await self._usage.finish(self._config, self._world.embedded_store)
        await self._runtime.close()
        self._reports.close()
        self._link.close()
        await asyncio.to_thread(self._writer.close)
        self._count(self._metrics.access_log_dropped, self._writer.dropped)
        self._metrics.log_suppressed.child().inc(own_log.tick(last=True))

    # -- what the supervisor says --------------------------------------------------------------------

    async def _hear(self, message: Message, descriptors: list[int]) -> Message | None:
        return await self._doing[message["do"]](message, descriptors)

    async def _accept(self, message: Message, _: list[int]) -> None:
        """Accept on the sockets of these slots from now on, and on no others."""
        self._slots = message["slots"]
        self._accept_on_mine()

    async def _take_sockets(self, message: Message, descriptors: list[int]) -> None:
        """More sockets of a listener: of a new one, or for more workers."""
        address = message["address"]
        known, _ = self._listeners.get(address, (Group(address, ()), False))
        more = tuple(socket.socket(fileno=descriptor) for descriptor in descriptors)
        for sock in more:
            sock.setblocking(False)
        self._listeners[address] = Group(address, known.sockets + more), message["secure"]

    async def _prepare(self, message: Message, descriptors: list[int]) -> Message:
        """Build another runtime beside the one that serves."""
        world = self._world = replace(self._world, embedded_store=message["embedded_store"])
        try:
            with thread_yields():
                self._prepared = await asyncio.to_thread(self._build, descriptors[0], world)
        except (OSError, ValueError) as error:
            return {"failed": str(error)}
        return {}

    def _build(self, descriptor: int, world: World) -> Prepared:
        config = unpack(descriptor)
        return Prepared(config, assemble(config, world, self._runtime), listener_tls(config, self._tls))

    async def _commit(self, message: Message, _: list[int]) -> Message:
        """Put what was prepared into service, in one step."""
        await self._records.look()  # the operator process may have found a list in a store that is new to us
        await self._notices.look()
        assert self._prepared is not None, "the supervisor commits what it has prepared"
        old, new, self._prepared = self._runtime, self._prepared, None
        self._config, self._runtime = new.config, new.runtime
        self._records.expected = new.config.shares_records
        self._heed()
        self._runtime.start()
        self._serve_as_configured(new.tls)
        self._keep_sockets(message["listeners"])
        own_log.configure(new.config.logging.level, new.config.logging.format)
        self._chores.start(old.retire(new.runtime), "retire")
        return {}

    async def _abort(self, message: Message, _: list[int]) -> None:
        """Forget what was prepared, and the sockets that came with it."""
        prepared, self._prepared = self._prepared, None
        self._keep_sockets(message["listeners"])
        if prepared is not None:
            self._chores.start(prepared.runtime.retire(self._runtime), "retire")

    async def _renew_certificates(self, _: Message, __: list[int]) -> Message:
        """Read the listener's certificates again."""
        try:
            self._serve_as_configured(listener_tls(self._config, self._tls))
        except (OSError, ValueError) as error:
            return {"failed": str(error)}
        return {}

    async def _set_log_level(self, message: Message, _: list[int]) -> None:
        own_log.set_level(message["level"])

    async def _drain(self, _: Message, __: list[int]) -> None:
        self._leave()

    def _leave(self) -> None:
        self._leaving.set()

    # -- what it does --------------------------------------------------------------------------------

    def _serve_as_configured(self, tls: ListenerTls) -> None:
        config = self._config
        if tls.clients == self._tls.clients:
            self._server.tls = tls.context  # a renewed certificate is no reason for anybody to leave
        self._tls = tls
        self._server.configure(
            self._runtime.handler,
            limits_of(config),
            config.trusted_proxies,
            tls=tls.context,
            proxy_protocol=config.listen.proxy_protocol,
        )

    def _accept_on_mine(self) -> None:
        mine = []
        for group, secure in self._listeners.values():
            if len(group.sockets) == 1:  # shared by all workers
                mine += [(group.sockets[0], secure)] if self._slots else []
            else:
                mine += [(group.sockets[slot], secure) for slot in self._slots]
        self._server.accept_on(mine)

    def _keep_sockets(self, kept: dict[str, tuple[int, bool]]) -> None:
        """Of each address this number of sockets, with or without TLS, and no others.

        On a socket that is left open without being accepted on, clients would wait in vain.
        """
        before = {sock for group, _ in self._listeners.values() for sock in group.sockets}
        self._listeners = {
            address: (Group(address, self._listeners[address][0].sockets[:count]), secure)
            for address, (count, secure) in kept.items()
        }
        self._accept_on_mine()
        for sock in before - {sock for group, _ in self._listeners.values() for sock in group.sockets}:
            sock.close()

    def _tick(self) -> None:
        self._runtime.gauges()
        self._process_usage.tick()
        self._metrics.loop_lag.replace({(): self._lag.worst})
        if self._runtime.shedding is not None:
            self._runtime.shedding.tick(self._lag.latest)
        self._reports.flush()
        self._metrics.connections.replace({(name,): float(count) for name, count in self._server.open.items()})
        self._metrics.connections_limit.replace({(): float(self._server.limits.connections)})
        self._count(self._metrics.handshake_failures, self._server.handshake_failures)
        self._count(self._metrics.access_log_dropped, self._writer.dropped)
        self._metrics.log_suppressed.child().inc(own_log.tick())

    def _count(self, metric: Children[Counter], total: int) -> None:
        """Bring a metric up to what somebody else has counted in this process."""
        metric.child().inc(total - self._counted.get(metric, 0))
        self._counted[metric] = total

    async def _check_store(self) -> None:
        """Say at the start that a store is away, not at the first request; and find it back without one.

        A gateway that is not ready because of its store gets no request that could find out.
        """
        checked: object = None
        while True:
            store = self._runtime.shared
            if store is not None and (store is not checked or not store.health.up):
                checked = store
                await store.check()
            await asyncio.sleep(STORE_LOOK)

    async def _look_at_records(self) -> None:
        """Keep up with what operators decide about credentials; also while nobody asks, for a reload changes that."""
        while True:
            await asyncio.sleep(RECORDS_LOOK if self._records.loaded else RECORDS_WAIT)
            await self._records.look()

    async def _look_at_notices(self) -> None:
        """Keep up with what probes, discovery and operators say about upstreams and routes."""
        while True:
            await asyncio.sleep(NOTICES_LOOK)
            if await self._notices.look():
                self._heed()

    def _heed(self) -> None:
        """Do as the notices say."""
        self._runtime.heed(self._notices.notices)
        self._reports.tail(self._notices.notices.tail_until)

    async def _report_usage(self) -> None:
        """Bring to the store what the observers have counted."""
        while True:
            await self._usage.report(self._config, self._world.embedded_store)
            await asyncio.sleep(REPORT_EVERY)


def later(seconds: float, do: Callable[[], None]) -> object:
    """In the loop that runs."""
    return asyncio.get_running_loop().call_later(seconds, do)


def limits_of(config: Config) -> Limits:
    """The limits of one worker's listeners."""
    wire = config.wire
    return Limits(
        header_limit=wire.header_limit,
        target_limit=wire.target_limit,
        connections=-(-wire.connections // config.workers),
        header_timeout=wire.header_timeout,
        body_timeout=wire.body_timeout,
        body_rate=wire.body_rate,
        idle_timeout=wire.idle_timeout,
        drain_timeout=wire.drain_timeout,
    )


@contextlib.contextmanager
def thread_yields() -> Iterator[None]:
    """A thread builds: let it give way often, and keep the collector from ever looking through all it makes.

    A runtime has no cycles, so it goes when the next one has taken its place, frozen or not; what garbage there
    is goes before.
    """
    gc.collect(1)
    switch = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    gc.disable()
    try:
        yield
    finally:
        sys.setswitchinterval(switch)
        gc.freeze()
        gc.enable()
