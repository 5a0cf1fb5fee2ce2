"""From configuration to a running gateway: the one place where the order of stages is written.

`road` is the order of the layers, outermost first, each with the reason for its place; `route` puts the
door's statements of `handler.py` in front of it. Everything is thought out here, once: a feature that is
off is not in that route's pipe, and nothing per request asks the configuration anything.
"""

import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import orjson

from gateway.auth.door import everyone, identify_by
from gateway.auth.keys import PublicKey, load_public_key
from gateway.auth.permissions import anyone, permit_by
from gateway.auth.providers import Provider
from gateway.auth.tokens import JwtProvider
from gateway.config.model import Config, RateLimit
from gateway.config.model import Fallback as FallbackConfig
from gateway.config.model import Route as RouteConfig
from gateway.config.model import Target as TargetConfig
from gateway.config.model import Upstream as UpstreamConfig
from gateway.exchange import Call, Reply
from gateway.handler import Handler, Route
from gateway.http.forward import Forwarder
from gateway.http.pool import Pool
from gateway.http.tls import client_context
from gateway.limits.door import Limit, take_quota, unlimited
from gateway.limits.failover import SharedStore
from gateway.limits.gcra import rate
from gateway.limits.memory import MemoryStore
from gateway.limits.redis import RedisStore, connect
from gateway.limits.store import RateStore
from gateway.pipe import Layer, Send, pipe
from gateway.resilience.breaker import ALWAYS, Breaker, Circuit, State, judged
from gateway.resilience.budget import RetryBudget
from gateway.resilience.deadline import deadline
from gateway.resilience.fallback import Static, fallback
from gateway.resilience.retry import RetryPolicy, retry
from gateway.routing.router import Router, Rule
from gateway.telemetry.access_log import AccessLog, Sink
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observer import Observer
from gateway.upstream.balance import RoundRobin, balance
from gateway.upstream.target import HttpTarget

log = logging.getLogger("gateway.assemble")

T = TypeVar("T")

STATES = {State.CLOSED: 0.0, State.HALF_OPEN: 1.0, State.OPEN: 2.0}
"""The values of gateway_breaker_state."""


@dataclass(slots=True)
class Upstream:
    """An upstream as built: its targets, and the part of the road that all its routes share."""

    name: str
    targets: list[HttpTarget]
    send: Send


@dataclass(slots=True)
class Runtime:
    """Everything that serves requests under one configuration."""

    handler: Handler
    metrics: Metrics
    store: RateStore
    upstreams: dict[str, Upstream] = field(default_factory=dict)

    async def close(self) -> None:
        """Let go of pooled connections and of the store."""
        for upstream in self.upstreams.values():
            for target in upstream.targets:
                target.pool.close()
        await self.store.close()


def assemble(config: Config, *, access_log: Sink | None = None, clock: Callable[[], float] = time.monotonic) -> Runtime:
    """Build what `config` describes; `access_log` takes the lines of the access log, None for no log."""
    metrics = Metrics()
    store = _rate_store(config, metrics)
    providers = {name: provider(config, name) for name in config.auth.providers}
    identity = {name.lower().encode() for p in config.auth.providers.values() for name in p.forward}
    instance = os.urandom(4).hex()
    upstreams = {
        name: _upstream(
            name, settings, Forwarder(identity=identity, host=settings.host, instance=instance), metrics, clock
        )
        for name, settings in config.upstreams.items()
    }
    rules = [
        rule(settings, _route(config, settings, providers, store, upstreams[settings.upstream], clock))
        for settings in config.routes
    ]
    observer = Observer(metrics, AccessLog(access_log) if access_log is not None else None)
    handler = Handler(Router(rules), observer.finished, instance=instance, trusted=config.trusted_proxies)
    _gauges(metrics, upstreams)
    return Runtime(handler, metrics, store, upstreams)


def road(settings: UpstreamConfig, targets: list[HttpTarget], clock: Callable[[], float]) -> Send:
    """The layers round a try, outermost first. A route's fallback stands outside of all of them."""
    timeouts, policy, breaker = settings.timeouts, settings.retry, settings.breaker
    weights = [target.weight for target in settings.targets]
    return pipe(
        # One clock for everything below, waits between tries included.
        deadline(timeouts.total, clock),
        # Outside the breaker: each try is judged on its own, and an open circuit ends the tries.
        _retry(settings, clock) if policy.attempts > 1 else None,
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
    providers: Mapping[str, Provider],
    store: RateStore,
    upstream: Upstream,
    clock: Callable[[], float],
) -> Route:
    """The door's statements for one route, in front of its upstream's road."""
    auth = settings.auth
    limits = [_limit(config, settings.name, number, limit) for number, limit in enumerate(settings.rate_limit)]
    entries = [_static(entry) for entry in settings.fallback]
    return Route(
        name=settings.name,
        identify=everyone
        if auth is None
        else identify_by([providers[n] for n in auth.providers], optional=auth.optional),
        permit=anyone if auth is None or not auth.scopes else permit_by(auth.scopes),
        take_quota=take_quota(limits, store) if limits else unlimited,
        # The fallback has the last word, even over a deadline that has passed.
        send=pipe(fallback(entries, clock) if entries else None, to=upstream.send),
        body_limit=settings.body_limit,
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


def provider(config: Config, name: str) -> JwtProvider:
    """The identity provider called `name`, ready to verify."""
    settings = config.auth.providers[name]
    if settings.secret is not None:
        key: bytes | PublicKey = settings.secret.get_secret_value().encode()
    else:
        assert settings.key is not None  # the configuration has made sure of one of the two
        key = load_public_key(settings.key.read_bytes())
    return JwtProvider(
        name,
        key=key,
        algorithms=settings.algorithms,
        issuer=settings.issuer,
        audience=settings.audience,
        leeway=settings.leeway,
        claims=settings.claims.model_dump(),
        forward=[(header.lower().encode(), claim) for header, claim in settings.forward.items()],
    )


def _limit(config: Config, route: str, number: int, limit: str | RateLimit) -> Limit:
    name, settings = (limit, config.rate_limits[limit]) if isinstance(limit, str) else (f"{route}-{number + 1}", limit)
    return Limit(rate(name, settings.limit.limit, settings.limit.window, settings.burst), settings.by)


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


def _rate_store(config: Config, metrics: Metrics) -> RateStore:
    """Where limits are counted: in this process, or in Redis with a plan for its absence."""
    settings = config.store
    if settings.url == "memory":
        return MemoryStore()
    shared = RedisStore(
        connect(settings.url, settings.timeout),
        prefix=settings.prefix.encode(),
        timeout=settings.timeout,
        observe=metrics.store_duration.child("redis").observe,
    )
    metrics.store_up.read_from(lambda: {("redis",): float(shared.health.up)})
    metrics.store_errors.read_from(lambda: {("redis",): float(shared.health.errors)})
    return SharedStore(shared, on_failure=settings.on_failure)


def _upstream(
    name: str, settings: UpstreamConfig, forwarder: Forwarder, metrics: Metrics, clock: Callable[[], float]
) -> Upstream:
    per_target = settings.breaker is not None and settings.breaker.per == "target"
    shared = ALWAYS if per_target else _circuit(name, "", settings, metrics, clock)
    targets = [
        HttpTarget(
            target.url,
            name,
            authority=target.url.partition("://")[2].encode(),
            pool=_pool(target, settings),
            forwarder=forwarder,
            circuit=_circuit(name, target.url, settings, metrics, clock) if per_target else shared,
            try_timeout=settings.timeouts.try_,
        )
        for target in settings.targets
    ]
    return Upstream(name, targets, road(settings, targets, clock))


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


def _circuit(
    upstream: str, target: str, settings: UpstreamConfig, metrics: Metrics, clock: Callable[[], float]
) -> Circuit:
    breaker = settings.breaker
    if breaker is None:
        return ALWAYS

    def changed(_: Breaker, old: State, new: State) -> None:
        metrics.breaker_transitions.child(upstream, target, new.value).inc()
        log.warning("circuit of %s%s: %s -> %s", upstream, f" {target}" if target else "", old.value, new.value)

    return Breaker(
        target or upstream,
        consecutive_failures=breaker.consecutive_failures,
        failure_rate=breaker.failure_rate,
        window=breaker.window,
        minimum_requests=breaker.minimum_requests,
        open_for=breaker.open_for,
        trials=breaker.trials,
        clock=clock,
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


def _gauges(metrics: Metrics, upstreams: Mapping[str, Upstream]) -> None:
    """What is read when somebody scrapes, instead of being counted as it happens."""

    def circuits() -> dict[tuple[str, ...], float]:
        return {
            (target.upstream, target.name): STATES[target.circuit.state]
            for upstream in upstreams.values()
            for target in upstream.targets
        }

    def connections() -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for upstream in upstreams.values():
            found[upstream.name, "busy"] = float(sum(target.pool.busy for target in upstream.targets))
            found[upstream.name, "idle"] = float(sum(target.pool.idle for target in upstream.targets))
        return found

    metrics.breaker_state.read_from(circuits)
    metrics.upstream_connections.read_from(connections)
