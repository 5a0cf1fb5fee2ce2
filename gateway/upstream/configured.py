"""From the configuration to an upstream's targets: pools, circuits, gates, and who chooses among them."""

import random
import ssl
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from gateway.auth.identity import Identity
from gateway.config.health import Hash
from gateway.config.model import Target as TargetConfig
from gateway.config.model import Upstream as UpstreamConfig
from gateway.exchange import Call
from gateway.http.forward import Forwarder, Heads, TimedForwarder, TracedForwarder
from gateway.http.pool import Pool
from gateway.http.tls import client_context
from gateway.limits.adaptive import Gradient, adaptive
from gateway.limits.concurrency import Gate, share
from gateway.limits.keys import key_of
from gateway.parts import Parts, content
from gateway.pipe import Layer
from gateway.resilience.breaker import Circuit
from gateway.resilience.configured import Changed, circuit
from gateway.resilience.ejection import Ejection
from gateway.tracing.context import NAMES
from gateway.upstream.balance import HOLD, Picker, picker
from gateway.upstream.discovery import certified_name
from gateway.upstream.group import Group, Seat
from gateway.upstream.notices import Found
from gateway.upstream.standing import Standing
from gateway.upstream.target import HttpTarget


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the targets of one upstream."""

    name: str
    settings: UpstreamConfig
    files: Hashable
    """Stand for what is in the files of `tls`."""
    heads: Heads
    on_change: Changed
    """Hears of its circuits."""
    clock: Callable[[], float]

    @property
    def watched(self) -> bool:
        """Something is known of targets besides their circuits."""
        settings = self.settings
        return settings.health is not None or settings.eject is not None or settings.slow_start is not None

    def configured(self, target: TargetConfig, parts: Parts) -> Seat:
        """Its pool, its circuit and its standing outlive a reload that does not concern them."""
        times, tls = self.settings.timeouts, self.settings.tls
        # The upstream's name is part of a pool's key: two upstreams never share connections or their bound.
        key = ("pool", self.name, target.url, times.connect, times.idle, tls, self.files)
        pool = parts.get(key, lambda: self._pool(target, self._context() if target.scheme == "https" else None))
        standing = parts.get(("standing", self.name, target.url), Standing) if self.watched else None
        own, breaker = self._own(target), self.settings.breaker
        known = parts.get(("circuit", self.name, own, breaker), lambda: self._circuit(own))
        return self._seat(target, target.url.partition("://")[2], pool, standing, known)

    def finds(self, parts: Parts) -> "Finds":
        """Makes targets of what is found later. Raises OSError."""
        discover, breaker = self.settings.discover, self.settings.breaker
        secure = self._context() if discover is not None and discover.scheme == "https" else None
        return Finds(self, secure, parts.get(("circuits", self.name, breaker), dict))

    def found(self, found: Found, secure: ssl.SSLContext | None, circuits: dict[str, Circuit]) -> Seat:
        """It lives as long as the DNS tells of it, or until the upstream's settings change."""
        target = TargetConfig.model_construct(url=found.url, weight=found.weight, priority=found.priority)
        standing = Standing(since=self.clock()) if self.watched else None
        assert self.settings.discover is not None
        # Its Host is the name that was asked for: nobody serves an address out of the DNS by that address.
        name, usual = certified_name(self.settings.discover.dns), 80 if secure is None else 443
        authority = name if target.port == usual else f"{name}:{target.port}"
        own = self._own(target)
        known = circuits.get(own)
        if known is None:
            known = circuits[own] = self._circuit(own)
        return self._seat(target, authority, self._pool(target, secure), standing, known)

    def _own(self, target: TargetConfig) -> str:
        """Whose circuit it has: its own, or with "" that of all."""
        breaker = self.settings.breaker
        return target.url if breaker is not None and breaker.per == "target" else ""

    def _circuit(self, own: str) -> Circuit:
        return circuit(self.name, own, self.settings.breaker, self.on_change, self.clock)

    def _seat(
        self, target: TargetConfig, authority: str, pool: Pool, standing: Standing | None, known: Circuit
    ) -> Seat:
        made = HttpTarget(
            target.url,
            self.name,
            authority=authority.encode(),
            pool=pool,
            forwarder=self.heads,
            circuit=known,
            try_timeout=self.settings.timeouts.try_,
        )
        return Seat(made, target.weight, target.priority, standing)

    def _context(self) -> ssl.SSLContext:
        """Raises OSError."""
        tls = self.settings.tls
        return client_context(tls.ca, tls.certificate, tls.key) if tls else client_context()

    def _pool(self, target: TargetConfig, secure: ssl.SSLContext | None) -> Pool:
        tls, times = self.settings.tls, self.settings.timeouts
        server_name = tls.server_name if tls else None
        if secure is not None and self.settings.discover is not None and server_name is None:
            server_name = certified_name(self.settings.discover.dns)
        return Pool(
            target.host,
            target.port,
            connect_timeout=times.connect,
            idle_timeout=times.idle,
            tls=secure,
            server_name=server_name,
        )


@dataclass(frozen=True, slots=True)
class Finds:
    """Seats for what the DNS tells of an upstream.

    Holds no `Parts`: they hold the upstream, and a circle is freed by nobody (a worker freezes what it has built).
    Nor does it read files: seats are made in the loop of a worker that serves.
    """

    maker: Maker
    secure: ssl.SSLContext | None
    circuits: dict[str, Circuit]
    """By URL, "" for one that all share. They outlive a reload that does not concern them."""

    def seat(self, found: Found) -> Seat:
        return self.maker.found(found, self.secure, self.circuits)

    def forget(self, url: str) -> None:
        """The DNS tells of it no more."""
        self.circuits.pop(url, None)


def group(maker: Maker, ejection: Ejection | None, parts: Parts) -> tuple[Group, Picker]:
    """All targets, and who chooses among them."""
    settings = maker.settings
    seats = [maker.configured(target, parts) for target in settings.targets]
    choose = _picker(maker, seats)
    finds = maker.finds(parts) if settings.discover is not None else None
    return Group(maker.name, seats, choose, clock=maker.clock, finds=finds, ejection=ejection), choose


def _picker(maker: Maker, seats: list[Seat]) -> Picker:
    settings, wanted = maker.settings, maker.settings.balance
    key = _key(maker.name, wanted) if isinstance(wanted, Hash) else None
    return picker(
        "hash" if isinstance(wanted, Hash) else wanted,
        [seat.member() for seat in seats],
        clock=maker.clock,
        dice=random.random,
        key_of=key,
        hold=settings.breaker.open_for if settings.breaker is not None else HOLD,
        panic=settings.panic,
        slow_start=settings.slow_start or 0.0,
    )


def _key(name: str, wanted: Hash) -> Callable[[Call], bytes]:
    by = key_of(name, wanted.hash)
    return lambda call: by(call, call.caller)


def heads_for(
    name: str,
    settings: UpstreamConfig,
    identity: Identity,
    instance: str,
    clock: Callable[[], float],
    parts: Parts,
    *,
    traced: bool = False,
) -> Heads:
    """Who writes the heads of requests; `traced`: each try tells its span."""
    signer, told = identity.signer, settings.timeouts.header
    header = told.lower().encode() if told is not None else b""
    withheld = identity.withheld | {header} if header else identity.withheld
    if traced:
        withheld |= NAMES
    plain = parts.get(
        ("forwarder", withheld, settings.host, instance, (signer, name) if signer is not None else None),
        lambda: Forwarder(identity=withheld, host=settings.host, instance=instance, signer=signer, audience=name),
    )
    forwarder: Heads = plain
    if traced:
        forwarder = parts.get(("traced", plain), lambda: TracedForwarder(plain))
    if told is None:
        return forwarder
    try_timeout = settings.timeouts.try_
    return parts.get(
        ("timed", forwarder, header, try_timeout), lambda: TimedForwarder(forwarder, header, try_timeout, clock)
    )


def files_of(settings: UpstreamConfig) -> Hashable:
    """Stand for what is in the files of `tls`, so that renewed ones make another upstream. Raises OSError."""
    return settings.tls and tuple(map(content, (settings.tls.ca, settings.tls.certificate, settings.tls.key)))


def gate_of(name: str, settings: UpstreamConfig, workers: int, parts: Parts) -> Gate | None:
    """Apart from the upstream: who is inside stays inside when a weight or a timeout changes."""
    wanted = settings.concurrency
    if wanted is None:
        return None
    limit, queue = share(wanted.limit, workers), share(wanted.queue, workers)
    return parts.get(("gate", name, wanted, workers), lambda: Gate(limit, queue, wanted.queue_timeout))


def adapting(
    name: str, settings: UpstreamConfig, gate: Gate | None, workers: int, clock: Callable[[], float], parts: Parts
) -> Layer | None:
    """Finds the gate's limit."""
    wanted = settings.concurrency
    if wanted is None or gate is None or not wanted.adaptive:
        return None
    least, most = share(wanted.least, workers), share(wanted.limit, workers)
    gradient = parts.get(("gradient", name, wanted, workers), lambda: Gradient(min(least, most), most))
    return adaptive(gradient, gate, clock)
