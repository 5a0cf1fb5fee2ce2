"""From configuration to a running gateway: the one place where the order of stages is written.

`road` is the order of the layers, outermost first, each with the reason for its place; `route` puts the
door's statements of `handler.py` in front of it. Everything is thought out here, once: a feature that is
off is not in that route's pipe, and nothing per request asks the configuration anything.
"""

import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

import orjson

from gateway.auth.identity import Identity
from gateway.auth.keyset import KeySet
from gateway.auth.records import Records
from gateway.auth.throttle import FailureLimit
from gateway.config.model import Config
from gateway.config.model import Fallback as FallbackConfig
from gateway.config.model import Route as RouteConfig
from gateway.config.model import Target as TargetConfig
from gateway.config.model import Upstream as UpstreamConfig
from gateway.exchange import Call, Reply
from gateway.handler import Handler, Route
from gateway.http.forward import Forwarder
from gateway.http.pool import Pool
from gateway.http.redirect import HTTPS
from gateway.http.tls import client_context
from gateway.limits import configured as counting
from gateway.limits.adaptive import Gradient, adaptive
from gateway.limits.concurrency import Gate, Gates, limited, share
from gateway.limits.door import take_quota, unlimited
from gateway.limits.gcra import rate
from gateway.limits.headers import LINES
from gateway.limits.keys import key_of
from gateway.limits.shedding import Shedding, admit_all
from gateway.limits.store import RateStore
from gateway.parts import Parts, content
from gateway.pipe import Layer, Send, pipe
from gateway.resilience.breaker import ALWAYS, Breaker, Circuit, State, judged
from gateway.resilience.budget import RetryBudget
from gateway.resilience.deadline import deadline
from gateway.resilience.fallback import Static, fallback
from gateway.resilience.retry import RetryPolicy, retry
from gateway.routing.router import Router, Rule
from gateway.runtime import Runtime, Upstream
from gateway.telemetry.access_log import AccessLog, Sink
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observer import Observer
from gateway.telemetry.usage import UsageCounter
from gateway.upstream.balance import RoundRobin, balance
from gateway.upstream.target import HttpTarget

log = logging.getLogger("gateway.assemble")

T = TypeVar("T")

Room = tuple[str, Gate | None, Layer | None]
"""Of an upstream: its name, the gate for its tries, and what finds the gate's limit."""


@dataclass(frozen=True, slots=True)
class World:
    """What a runtime is built into, and does not change with the configuration."""

    metrics: Metrics
    access_log: Sink | None = None
    """Takes the lines of the access log; None for no log."""
    instance: str = ""
    """Tells this gateway apart from others in Via: the same for all its workers."""
    embedded_store: str = ""
    """Where the embedded store listens, as a URL, when there is one."""
    usage: UsageCounter = field(default_factory=UsageCounter)
    """Counts who calls what, where the configuration asks for it."""
    records: Records = field(default_factory=Records)
    """What operators have decided about credentials, up to now."""
    clock: Callable[[], float] = time.monotonic


def assemble(config: Config, world: World | None = None, previous: Runtime | None = None) -> Runtime:
    """Build what `config` describes, out of the parts of `previous` wherever their settings are the same.

    Changes nothing in `previous`, which may go on serving. Raises OSError for a file that cannot be read.
    """
    world = world if world is not None else World(Metrics(), instance=os.urandom(4).hex())
    parts = Parts(previous.parts if previous is not None else None)
    store, shared = counting.store(
        config,
        world.embedded_store,
        parts,
        observe=world.metrics.store_duration.child("redis").observe,
        on_error=world.metrics.store_errors.child("redis").inc,
    )
    shedding = _shedding(config, parts)
    failures = _failure_limit(config, store, world, parts)
    identity = Identity(config, parts, world.records, failures, clock=world.clock)
    upstreams = {
        name: _upstream(name, settings, config.workers, identity, world, parts)
        for name, settings in config.upstreams.items()
    }
    rules = [
        rule(settings, _route(config, settings, identity, store, shedding, upstreams[settings.upstream], world, parts))
        for settings in config.routes
    ]
    log_to = world.access_log if config.logging.access != "off" else None
    usage = world.usage if config.usage is not None else None
    observer = Observer(world.metrics, AccessLog(log_to) if log_to is not None else None, usage)
    https = config.listen.https
    handler = Handler(
        Router(rules),
        observer.finished,
        instance=world.instance,
        trusted=config.trusted_proxies,
        hsts=math.ceil(https.hsts or 0) if https is not None else 0,
        to_https=_https_port(config),
        quota_lines=LINES[config.rate_limit_headers],
    )
    rooms = {route.name: room for route in config.routes if (room := _room(config, route, parts)) is not None}
    parts.settle()
    return Runtime(handler, world.metrics, store, shared, upstreams, parts, shedding, parts.of(KeySet), rooms)


def _https_port(config: Config) -> int | None:
    """Where plain requests are redirected to; None for nowhere."""
    https, port = config.listen.https, config.listen.redirect_to_https
    if https is None or port is None:
        return None
    return port or https.address[0].port or HTTPS


def road(settings: UpstreamConfig, targets: list[HttpTarget], room: Room, clock: Callable[[], float]) -> Send:
    """The layers round a try, outermost first. A route's fallback stands outside of all of them."""
    timeouts, policy, breaker = settings.timeouts, settings.retry, settings.breaker
    name, gate, adapt = room
    weights = [target.weight for target in settings.targets]
    return pipe(
        # One clock for everything below, waits between tries included.
        deadline(timeouts.total, clock),
        # Outside the breaker: each try is judged on its own, and an open circuit ends the tries.
        _retry(settings, clock) if policy.attempts > 1 else None,
        # Each try needs a place of its own, and none while it waits to be tried again; a refusal is nobody's failure.
        limited(name, lambda call: gate, clock) if gate is not None else None,
        # Sees how long each try takes that has been let in, and nothing else.
        adapt,
        # Inside retry, so that another try goes to another target; outside the breaker, because a
        # circuit belongs to a target and must be asked before one is chosen (docs/decisions/0003).
        balance(RoundRobin(targets, weights)),
        # Admits and judges every single try.
        judged() if breaker is not None else None,
        to=_try,
    )


def _try(call: Call) -> Awaitable[Reply]:
    """The end of the road: one try at the target that balancing chose."""
    assert call.target is not None
    return call.target.send(call)


def _route(
    config: Config,
    settings: RouteConfig,
    identity: Identity,
    store: RateStore,
    shedding: Shedding | None,
    upstream: Upstream,
    world: World,
    parts: Parts,
) -> Route:
    """The door's statements for one route, in front of its upstream's road."""
    limits = [
        counting.limit(*counting.named(config, settings.name, entry, number))
        for number, entry in enumerate(settings.rate_limit)
    ]
    entries = [_static(entry) for entry in settings.fallback]
    return Route(
        name=settings.name,
        identify=identity.identify(settings.auth),
        permit=identity.permit(settings.auth),
        admit=shedding.admit(settings.priority) if shedding is not None else admit_all,
        take_quota=take_quota(limits, store) if limits else unlimited,
        send=pipe(
            # Outside the fallback: who is turned away for want of room must not cost another upstream anything.
            _route_concurrency(config, settings, world.clock, parts),
            # The fallback has the last word, even over a deadline that has passed.
            fallback(entries, world.clock) if entries else None,
            to=upstream.send,
        ),
        body_limit=settings.body_limit,
    )


def _route_concurrency(config: Config, settings: RouteConfig, clock: Callable[[], float], parts: Parts) -> Layer | None:
    room = _room(config, settings, parts)
    if room is None or settings.concurrency is None:
        return None
    if isinstance(room, Gate):
        return limited(settings.name, lambda call: room, clock)
    key = key_of(settings.name, settings.concurrency.by)
    return limited(settings.name, lambda call: room.of(key(call, call.caller)), clock)


def _room(config: Config, settings: RouteConfig, parts: Parts) -> Gate | Gates | None:
    """A gate for all of a route, or for each key; it outlives a reload together with those who are inside."""
    wanted, workers = settings.concurrency, config.workers
    if wanted is None:
        return None
    kind = Gate if wanted.by == ("route",) else Gates
    limit, queue = share(wanted.limit, workers), share(wanted.queue, workers)
    return parts.get(("room", settings.name, wanted, workers), lambda: kind(limit, queue, wanted.queue_timeout))


def _shedding(config: Config, parts: Parts) -> Shedding | None:
    settings = config.shedding
    if settings is None:
        return None
    return parts.get(
        ("shedding", settings),
        lambda: Shedding(settings.loop_lag, settings.queue_age, settings.last, clock=time.monotonic),
    )


def rule(settings: RouteConfig, built: T) -> Rule[T]:
    """What the router needs to know of a route; GET brings HEAD with it (RFC 9110 9.1)."""
    match = settings.match
    methods = None if match.methods is None else frozenset(match.methods)
    return Rule(
        path=match.path,
        methods=methods | {"HEAD"} if methods and "GET" in methods else methods,
        host=match.host,
        headers=tuple((name.lower().encode(), value.encode()) for name, value in match.headers.items()),
        query=tuple(match.query.items()),
        target=built,
        name=settings.name,
    )


def _static(entry: FallbackConfig) -> Static:
    if entry.text is not None:
        body, content_type = entry.text.encode(), b"text/plain; charset=utf-8"
    elif "json_" in entry.model_fields_set:
        body, content_type = orjson.dumps(entry.json_), b"application/json"
    else:
        body, content_type = b"", b""
    headers = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in entry.headers.items())
    if any(name == b"content-type" for name, _ in headers):
        content_type = b""
    return Static(frozenset(str(kind) for kind in entry.on), entry.status, headers, body, content_type)


def _failure_limit(config: Config, store: RateStore, world: World, parts: Parts) -> FailureLimit | None:
    """Counts wrong credentials where the limits are counted, for all routes together."""
    allowed = config.auth.failure_limit
    if allowed is None:
        return None
    counted = rate("auth.failure_limit", allowed.limit, allowed.window)
    return parts.get(("failures", counted, store), lambda: FailureLimit(counted, store, world.clock))


def _upstream(
    name: str, settings: UpstreamConfig, workers: int, identity: Identity, world: World, parts: Parts
) -> Upstream:
    files = settings.tls and tuple(map(content, (settings.tls.ca, settings.tls.certificate, settings.tls.key)))
    withheld, signer = identity.withheld, identity.signer
    forwarder = parts.get(
        ("forwarder", withheld, settings.host, world.instance, (signer, name) if signer is not None else None),
        lambda: Forwarder(identity=withheld, host=settings.host, instance=world.instance, signer=signer, audience=name),
    )

    gate = _gate(name, settings, workers, parts)
    layer = _adaptive(name, settings, gate, workers, world.clock, parts)

    def make() -> Upstream:
        targets = [_target(name, target, settings, files, forwarder, world, parts) for target in settings.targets]
        return Upstream(name, targets, road(settings, targets, (name, gate, layer), world.clock), gate)

    return parts.get(("upstream", name, settings, files, forwarder, gate), make)


def _gate(name: str, settings: UpstreamConfig, workers: int, parts: Parts) -> Gate | None:
    """Apart from the upstream: who is inside stays inside when a weight or a timeout changes."""
    wanted = settings.concurrency
    if wanted is None:
        return None
    limit, queue = share(wanted.limit, workers), share(wanted.queue, workers)
    return parts.get(("gate", name, wanted, workers), lambda: Gate(limit, queue, wanted.queue_timeout))


def _adaptive(
    name: str, settings: UpstreamConfig, gate: Gate | None, workers: int, clock: Callable[[], float], parts: Parts
) -> Layer | None:
    wanted = settings.concurrency
    if wanted is None or gate is None or not wanted.adaptive:
        return None
    least, most = share(wanted.least, workers), share(wanted.limit, workers)
    gradient = parts.get(("gradient", name, wanted, workers), lambda: Gradient(min(least, most), most))
    return adaptive(gradient, gate, clock)


def _target(
    name: str,
    target: TargetConfig,
    settings: UpstreamConfig,
    files: Hashable,
    forwarder: Forwarder,
    world: World,
    parts: Parts,
) -> HttpTarget:
    times = settings.timeouts
    breaker = settings.breaker
    own = target.url if breaker is not None and breaker.per == "target" else ""
    # The upstream's name is part of a pool's key: two upstreams never share connections or their bound.
    pool = parts.get(
        ("pool", name, target.url, times.connect, times.idle, settings.tls, files), lambda: _pool(target, settings)
    )
    circuit = parts.get(("circuit", name, own, breaker), lambda: _circuit(name, own, settings, world))
    return HttpTarget(
        target.url,
        name,
        authority=target.url.partition("://")[2].encode(),
        pool=pool,
        forwarder=forwarder,
        circuit=circuit,
        try_timeout=times.try_,
    )


def _pool(target: TargetConfig, settings: UpstreamConfig) -> Pool:
    tls = settings.tls
    context = None
    if target.scheme == "https":
        context = client_context(tls.ca, tls.certificate, tls.key) if tls else client_context()
    return Pool(
        target.host,
        target.port,
        connect_timeout=settings.timeouts.connect,
        idle_timeout=settings.timeouts.idle,
        tls=context,
        server_name=tls.server_name if tls else None,
    )


def _circuit(upstream: str, target: str, settings: UpstreamConfig, world: World) -> Circuit:
    breaker = settings.breaker
    if breaker is None:
        return ALWAYS

    def changed(_: Breaker, old: State, new: State) -> None:
        world.metrics.breaker_transitions.child(upstream, target, new.value).inc()
        log.warning("circuit of %s%s: %s -> %s", upstream, f" {target}" if target else "", old.value, new.value)

    return Breaker(
        target or upstream,
        consecutive_failures=breaker.consecutive_failures,
        failure_rate=breaker.failure_rate,
        window=breaker.window,
        minimum_requests=breaker.minimum_requests,
        open_for=breaker.open_for,
        trials=breaker.trials,
        clock=world.clock,
        on_change=changed,
    )


def _retry(settings: UpstreamConfig, clock: Callable[[], float]) -> Layer:
    policy = settings.retry
    return retry(
        RetryPolicy(
            attempts=policy.attempts,
            on=frozenset(str(kind) for kind in policy.on),
            methods=frozenset(policy.methods),
            base=policy.backoff.base,
            cap=policy.backoff.max,
            replay_limit=policy.replay_limit,
        ),
        RetryBudget(policy.budget),
        clock=clock,
    )
