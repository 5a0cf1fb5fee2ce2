"""A running gateway as built from one configuration: what it is made of, how it begins, ends and hands over."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.auth.asking import Issuer
from gateway.auth.keyset import KeySet
from gateway.handler import Handler, Route
from gateway.http.pool import Pool
from gateway.idempotency.background import Background
from gateway.idempotency.failover import SharedRecords
from gateway.limits.concurrency import Gate, Gates
from gateway.limits.failover import SharedStore
from gateway.limits.shedding import Shedding
from gateway.limits.store import RateStore
from gateway.parts import Parts
from gateway.pipe import Send
from gateway.resilience.breaker import State
from gateway.resilience.fault import Fault
from gateway.resilience.mirror import Copies
from gateway.resilience.quota import QuotaPause
from gateway.telemetry.gathered import Gathered
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tally import Readings
from gateway.tracing.exporter import Exporter
from gateway.upstream.group import Group
from gateway.upstream.notices import Notices, Rehearsal
from gateway.upstream.target import HttpTarget

STATES = {State.CLOSED: 0.0, State.HALF_OPEN: 1.0, State.OPEN: 2.0}
"""The values of gateway_breaker_state."""

LAND_WITHIN = 5.0
"""Seconds in which what goes on for clients that have left may end, when the gateway does."""

PATIENCE = 5.0
"""Seconds for which what a reload has left behind stays usable by requests that began before it."""


@dataclass(slots=True)
class Upstream:
    """An upstream as built: its targets, and the part of the road that all its routes share."""

    name: str
    group: Group
    """Its targets."""
    send: Send
    gate: Gate | None
    """Lets its tries in, when their number is limited."""
    pause: QuotaPause | None
    """It is left alone while its own quota is used up."""

    @property
    def targets(self) -> list[HttpTarget]:
        """At present."""
        return self.group.targets


@dataclass(slots=True)
class Runtime:
    """Everything that serves requests under one configuration."""

    handler: Handler
    metrics: Metrics
    store: RateStore
    shared: SharedStore | None
    """The store behind it, when it is one in the network."""
    upstreams: dict[str, Upstream]
    parts: Parts
    shedding: Shedding | None
    """Turns requests away when there is too much to do."""
    key_sets: list[KeySet]
    """Those that issuers publish."""
    rooms: dict[str, Gate | Gates]
    """By route, where the number of its requests is limited."""
    routes: dict[str, Route]
    mirrors: list[Copies]
    """Copies of requests that are under way."""
    sunsets: Readings
    """By route and version: when it ends, Unix time."""
    objectives: Readings
    """By route and kind: the share of good requests that was promised."""
    gathered: Gathered | None
    """Finished calls that nobody has read yet."""
    rehearsals: tuple[Rehearsal, ...] = ()
    """Failures that operators have ordered, up to now."""

    def start(self) -> None:
        """Begin with what goes on beside requests; those that have begun already go on. In the loop.

        What the configuration promises is written down here, once: it does not change while the runtime serves.
        """
        for keys in self.key_sets:
            keys.start()
        for exporter in self.parts.of(Exporter):
            exporter.start()
        self.metrics.version_sunset.replace(self.sunsets)
        self.metrics.slo_objective.replace(self.objectives)

    def catch_up(self) -> None:
        """Count what has just finished."""
        if self.gathered is not None:
            self.gathered.flush()

    async def close(self) -> None:
        """Let go of pooled connections, of the store and of what `start` began."""
        for copies in self.mirrors:
            await copies.close()
        for background in self.parts.of(Background):
            await background.land(LAND_WITHIN)
        for records in self.parts.of(SharedRecords):
            await records.close()
        for keys in self.key_sets:
            await keys.close()
        for issuer in self.parts.of(Issuer):
            await issuer.close()
        for upstream in self.upstreams.values():
            for target in upstream.targets:
                target.pool.close()
        for exporter in self.parts.of(Exporter):
            await exporter.close()
        await self.store.close()

    def heed(self, notices: Notices) -> None:
        """Bring upstreams and routes up to what the operator process says."""
        for upstream in self.upstreams.values():
            upstream.group.heed(notices)
        before, self.rehearsals = self.rehearsals, notices.faults
        if before != notices.faults:
            now = {each.route: Fault(each.share, each.status, each.delay, until=each.until) for each in notices.faults}
            for name in {*now, *(each.route for each in before)} & self.routes.keys():
                route = self.routes[name]
                route.send = route.rehearse(now.get(name))

    async def retire(self, successor: "Runtime") -> None:
        """Let go of what `successor` has not taken over; requests under way keep what they hold."""
        left = self.parts.left_behind_by(successor.parts)
        for part in left:
            if isinstance(part, Pool):
                part.close()
            elif isinstance(part, Upstream):
                part.group.close()
        late = [part for part in left if isinstance(part, KeySet | Issuer | SharedStore | SharedRecords | Exporter)]
        if late:
            await asyncio.sleep(PATIENCE)
        for part in late:
            await part.close()

    def gauges(self) -> None:
        """Write down what is looked at now and then instead of being counted as it happens."""
        circuits: dict[tuple[str, ...], float] = {}
        connections: dict[tuple[str, ...], float] = {}
        healthy: dict[tuple[str, ...], float] = {}
        paused: dict[tuple[str, ...], float] = {}
        now = time.monotonic()
        for name, upstream in self.upstreams.items():
            targets = upstream.targets
            for target in targets:
                circuits[name, target.name] = STATES[target.circuit.state]
            for target, standing in upstream.group.standings:
                healthy[name, target.name] = float(standing.usable(now))
            connections[name, "busy"] = float(sum(target.pool.busy for target in targets))
            connections[name, "idle"] = float(sum(target.pool.idle for target in targets))
            if upstream.pause is not None:
                paused[name,] = upstream.pause.left
        self.metrics.breaker_state.replace(circuits)
        self.metrics.upstream_connections.replace(connections)
        self.metrics.target_healthy.replace(healthy)
        self.metrics.upstream_paused.replace(paused)
        ages = {keys.name: keys.age for keys in self.key_sets}
        self.metrics.keyset_age.replace({(name,): age for name, age in ages.items() if age is not None})
        up: dict[tuple[str, ...], float] = {} if self.shared is None else {("redis",): float(self.shared.health.up)}
        self.metrics.store_up.replace(up)
        self.metrics.concurrency.replace(dict(self._concurrency()))

    def _concurrency(self) -> Iterator[tuple[tuple[str, ...], float]]:
        gates: list[tuple[str, str, Gate | Gates]] = [("route", name, gate) for name, gate in self.rooms.items()]
        gates += [("upstream", each.name, each.gate) for each in self.upstreams.values() if each.gate is not None]
        for kind, name, gate in gates:
            yield (kind, name, "busy"), float(gate.busy)
            yield (kind, name, "queued"), float(gate.queued)
            yield (kind, name, "limit"), float(gate.limit)
