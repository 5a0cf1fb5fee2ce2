"""A running gateway as built from one configuration: what it is made of, how it begins, ends and hands over."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.auth.asking import Issuer
from gateway.auth.keyset import KeySet
from gateway.handler import Handler
from gateway.http.pool import Pool
from gateway.limits.concurrency import Gate, Gates
from gateway.limits.failover import SharedStore
from gateway.limits.shedding import Shedding
from gateway.limits.store import RateStore
from gateway.parts import Parts
from gateway.pipe import Send
from gateway.resilience.breaker import State
from gateway.telemetry.metrics import Metrics
from gateway.upstream.target import HttpTarget

STATES = {State.CLOSED: 0.0, State.HALF_OPEN: 1.0, State.OPEN: 2.0}
"""The values of gateway_breaker_state."""

PATIENCE = 5.0
"""Seconds for which what a reload has left behind stays usable by requests that began before it."""


@dataclass(slots=True)
class Upstream:
    """An upstream as built: its targets, and the part of the road that all its routes share."""

    name: str
    targets: list[HttpTarget]
    send: Send
    gate: Gate | None
    """Lets its tries in, when their number is limited."""


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

    def start(self) -> None:
        """Begin with what goes on beside requests; those that have begun already go on. In the loop."""
        for keys in self.key_sets:
            keys.start()

    async def close(self) -> None:
        """Let go of pooled connections, of the store and of what `start` began."""
        for keys in self.key_sets:
            await keys.close()
        for issuer in self.parts.of(Issuer):
            await issuer.close()
        for upstream in self.upstreams.values():
            for target in upstream.targets:
                target.pool.close()
        await self.store.close()

    async def retire(self, successor: "Runtime") -> None:
        """Let go of what `successor` has not taken over; requests under way keep what they hold."""
        left = self.parts.left_behind_by(successor.parts)
        for part in left:
            if isinstance(part, Pool):
                part.close()
        late = [part for part in left if isinstance(part, KeySet | Issuer | SharedStore)]
        if late:
            await asyncio.sleep(PATIENCE)
        for part in late:
            await part.close()

    def gauges(self) -> None:
        """Write down what is looked at now and then instead of being counted as it happens."""
        circuits: dict[tuple[str, ...], float] = {}
        connections: dict[tuple[str, ...], float] = {}
        for upstream in self.upstreams.values():
            for target in upstream.targets:
                circuits[target.upstream, target.name] = STATES[target.circuit.state]
            connections[upstream.name, "busy"] = float(sum(target.pool.busy for target in upstream.targets))
            connections[upstream.name, "idle"] = float(sum(target.pool.idle for target in upstream.targets))
        self.metrics.breaker_state.replace(circuits)
        self.metrics.upstream_connections.replace(connections)
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
