"""From configuration to a running gateway: the one place where the order of stages is written.

`road` is the order of the layers, outermost first, each with the reason for its place; `route` puts the
door's statements of `handler.py` in front of it. Everything is thought out here, once: a feature that is
off is not in that route's pipe, and nothing per request asks the configuration anything.
"""

import math
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from gateway.auth.configured import failure_limit, observe_issuers
from gateway.auth.identity import Identity
from gateway.auth.keyset import KeySet
from gateway.auth.records import Records
from gateway.config.model import Config
from gateway.config.model import Route as RouteConfig
from gateway.config.model import Upstream as UpstreamConfig
from gateway.config.versions import Version as VersionConfig
from gateway.exchange import Call, Reply
from gateway.handler import Enter, Handler, Route
from gateway.http.redirect import HTTPS
from gateway.idempotency import configured as keeping
from gateway.idempotency.background import Background
from gateway.limits import configured as counting
from gateway.limits.concurrency import Gate, limited
from gateway.limits.door import take_quota, unlimited
from gateway.limits.headers import LINES
from gateway.limits.keys import key_of
from gateway.limits.names import named
from gateway.limits.shedding import Shedding, admit_all
from gateway.limits.store import RateStore
from gateway.logs.access_log import Sink
from gateway.parts import Parts
from gateway.pipe import Layer, Send, pipe
from gateway.resilience.breaker import judged
from gateway.resilience.budget import RetryBudget
from gateway.resilience.configured import answer, ejection, hedging, planned, quota_pause, retrying
from gateway.resilience.deadline import deadline
from gateway.resilience.ejection import Ejection
from gateway.resilience.fallback import fallback
from gateway.resilience.fault import Fault, fault
from gateway.resilience.idempotency import idempotency
from gateway.resilience.mirror import Copies, mirror
from gateway.resilience.quota import QuotaPause
from gateway.routing.configured import rules_of
from gateway.routing.router import Router
from gateway.routing.versions import Versions, by_version, unspoken
from gateway.runtime import Runtime, Upstream
from gateway.telemetry.configured import objectives, observer, shares
from gateway.telemetry.gathered import Gathered, Later
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.reports import Reports
from gateway.telemetry.usage import UsageCounter
from gateway.tracing import configured as tracing
from gateway.tracing.tracer import Tracer
from gateway.transform.addresses import addresses
from gateway.transform.configured import compressed, redirect_end, request_layer, respond_end, response_layer
from gateway.transform.cors import cors, preflights, without_cors
from gateway.transform.security import OWN, security_headers
from gateway.upstream.balance import Picker, balance
from gateway.upstream.configured import Maker, adapting, files_of, gate_of, group, heads_for
from gateway.upstream.split import split


@dataclass(frozen=True, slots=True)
class Stages:
    """What the road of an upstream is made of, besides its settings."""

    name: str
    picker: Picker
    ejection: Ejection | None
    gate: Gate | None
    """Lets its tries in."""
    adapt: Layer | None
    """Finds the gate's limit."""
    pause: QuotaPause | None


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
    reports: Reports | None = None
    """Tells the operator process what went wrong; None where there is no such process."""
    later: Later | None = None
    """Does something in the loop some seconds from now; None where finished calls are to be read at once."""
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class House:
    """What routes share."""

    world: World
    parts: Parts
    identity: Identity
    store: RateStore
    shedding: Shedding | None
    roads: Mapping[str, Send]
    """Of all upstreams."""
    mirrors: list[Copies] = field(default_factory=list)
    tracer: Tracer | None = None


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
    shedding = counting.shedding(config, parts)
    failures = failure_limit(config, store, world.clock, parts)
    identity = Identity(config, parts, world.records, failures, clock=world.clock)
    observe_issuers(parts, world.metrics.asked)
    upstreams = {
        name: _upstream(name, settings, config, identity, world, parts) for name, settings in config.upstreams.items()
    }
    tracer = tracing.tracer(config, world.instance, world.metrics.spans, parts)
    roads = {name: each.send for name, each in upstreams.items()}
    house = House(world, parts, identity, store, shedding, roads, tracer=tracer)
    versions = {
        settings.name: Versions(settings.versions, time.time)
        for settings in config.routes
        if settings.versions is not None
    }
    routes = {settings.name: _route(config, settings, versions.get(settings.name), house) for settings in config.routes}
    rules = [
        each
        for settings in config.routes
        for each in rules_of(settings, routes[settings.name], versions.get(settings.name))
    ]
    retiring = {(name, version) for name, each in versions.items() for version in each.retiring}
    promised = objectives(config)
    seen = observer(
        config,
        world.metrics,
        log=world.access_log,
        tracer=tracer,
        reports=world.reports,
        usage=world.usage,
        retiring=retiring,
        promised=promised,
    )
    gathered = Gathered(seen.finished, world.later) if world.later is not None else None
    https = config.listen.https
    handler = Handler(
        Router(rules),
        gathered.finished if gathered is not None else seen.finished,
        instance=world.instance,
        trusted=config.trusted_proxies,
        hsts=math.ceil(https.hsts or 0) if https is not None else 0,
        to_https=_https_port(config),
        quota_lines=LINES[config.rate_limit_headers],
        preflights=preflights(rules, lambda route: route.answers_preflights),
        own=OWN if config.security_headers else b"",
        tell_reason=config.reason_header,
        trace=tracer.begin if tracer is not None else None,
    )
    rooms = {route.name: room for route in config.routes if (room := counting.room(config, route, parts)) is not None}
    parts.settle()
    return Runtime(
        handler,
        world.metrics,
        store,
        shared,
        upstreams,
        parts,
        shedding,
        parts.of(KeySet),
        rooms,
        routes,
        house.mirrors,
        {(name, version): end for name, each in versions.items() for version, end in each.sunsets.items()},
        shares(promised),
        gathered,
    )


def _https_port(config: Config) -> int | None:
    """Where plain requests are redirected to; None for nowhere."""
    https, port = config.listen.https, config.listen.redirect_to_https
    if https is None or port is None:
        return None
    return port or https.address[0].port or HTTPS


def road(settings: UpstreamConfig, stages: Stages, clock: Callable[[], float]) -> Send:
    """The layers round a try, outermost first. A route's fallback stands outside of all of them."""
    timeouts, name = settings.timeouts, stages.name
    heard = timeouts.header.lower().encode() if timeouts.header is not None else None
    budget = RetryBudget(settings.retry.budget)
    pause, gate = stages.pause, stages.gate
    return pipe(
        # One clock for everything below, waits between tries included.
        deadline(timeouts.total, clock, heard),
        # Outside the retry: who was told to come back later is not turned away when he does.
        pause.gate if pause is not None else None,
        # Outside the breaker: each try is judged on its own, and an open circuit ends the tries.
        retrying(settings, budget, stages.picker.elsewhere, clock),
        # Inside the retry: it is one try to it, however many race.
        hedging(name, settings, budget, clock),
        # Each try needs a place of its own, and none while it waits to be tried again; a refusal is nobody's failure.
        limited(name, lambda call: gate, clock, stage="upstream_concurrency") if gate is not None else None,
        # Sees how long each try takes that has been let in, and nothing else.
        stages.adapt,
        # Hears each reply, also the one that is tried again.
        pause.ear if pause is not None else None,
        # Inside retry, so that another try goes to another target; outside the breaker, because a
        # circuit belongs to a target and must be asked before one is chosen (docs/decisions/0003).
        balance(stages.picker),
        # Admits and judges every single try.
        judged(stages.ejection) if settings.breaker is not None or stages.ejection is not None else None,
        to=_try,
    )


def _try(call: Call) -> Awaitable[Reply]:
    """The end of the road: one try at the target that balancing chose."""
    assert call.target is not None
    return call.target.send(call)


def _route(config: Config, settings: RouteConfig, versions: Versions | None, house: House) -> Route:
    """The door's statements for one route, in front of its way to an upstream."""
    limits = [
        counting.limit(*named(config, settings.name, entry, number)) for number, entry in enumerate(settings.rate_limit)
    ]
    way = _way(config, settings, versions, house)
    return Route(
        name=settings.name,
        enter=_enter(settings, versions),
        identify=house.identity.identify(settings.auth),
        permit=house.identity.permit(settings.auth),
        admit=house.shedding.admit(settings.priority) if house.shedding is not None else admit_all,
        take_quota=take_quota(limits, house.store) if limits else unlimited,
        send=way(planned(settings.fault)),
        rehearse=lambda rehearsal: way(rehearsal or planned(settings.fault)),
        body_limit=settings.body_limit,
        answers_preflights=settings.cors is not None,
    )


def _enter(settings: RouteConfig, versions: Versions | None) -> Enter:
    """What is decided before anybody asks who is calling."""
    steps: list[Enter] = []
    if settings.cors is not None:
        steps.append(cors(settings.cors, settings.match.methods))
    if settings.allow_ip or settings.deny_ip:
        steps.append(addresses(settings.allow_ip, settings.deny_ip))
    if versions is not None:
        steps.append(versions.enter)
    if not steps:
        return lambda call: None
    if len(steps) == 1:
        return steps[0]

    def enter(call: Call) -> Reply | None:
        for step in steps:
            reply = step(call)
            if reply is not None:
                return reply
        return None

    return enter


def _way(
    config: Config, settings: RouteConfig, versions: Versions | None, house: House
) -> Callable[[Fault | None], Send]:
    """The layers of a route in front of its upstreams' roads, outermost first; with a rehearsal or without."""
    clock, roads = house.world.clock, house.roads
    keyed = _keyed(config, settings, house)
    room = counting.route_concurrency(config, settings, clock, house.parts)
    copies = _mirror(settings, house)
    spares = roads if versions is None else {name: unspoken(each, versions.retiring) for name, each in roads.items()}
    entries = [answer(entry, spares) for entry in settings.fallback]
    upstreams = [config.upstreams[name] for name in settings.upstreams]
    replay_limit = max((each.retry.replay_limit for each in upstreams), default=0)
    last_word = fallback(entries, clock, replay_limit) if entries else None
    path, end = settings.match.path, _end(settings, versions, roads, clock)

    def way(rehearsal: Fault | None) -> Send:
        return pipe(
            # Outermost: the last to touch the body, whoever made it.
            compressed(settings.compress) if settings.compress is not None else None,
            # These three see what all the others have made of the reply's headers.
            security_headers() if config.security_headers else None,
            without_cors() if settings.cors is not None else None,
            response_layer(path, settings.transform),
            # A reply that was given before needs nothing of what follows.
            keyed,
            # Outside the fallback: who is turned away for want of room must not cost another upstream anything.
            room,
            # Whoever is asked below, a copy's and a fallback's upstream too, is asked the same.
            request_layer(path, settings.transform, upstreams),
            # A copy of what is really sent, whatever becomes of it.
            copies,
            # The fallback has the last word, even over a deadline that has passed.
            last_word,
            # In the place of the upstream, so that a rehearsal shows what its failure would do.
            fault(rehearsal, clock=clock) if rehearsal is not None else None,
            to=end,
        )

    return way


def _keyed(config: Config, settings: RouteConfig, house: House) -> Layer | None:
    terms = keeping.terms(config, settings)
    if terms is None:
        return None
    world, parts = house.world, house.parts
    on_error = world.metrics.store_errors.child("redis").inc
    records = keeping.records(config, world.embedded_store, parts, on_error)
    return idempotency(terms, records, parts.get(("background",), Background), clock=world.clock)


def _mirror(settings: RouteConfig, house: House) -> Layer | None:
    wanted, world = settings.mirror, house.world
    if wanted is None:
        return None
    name, counters = wanted.upstream, world.metrics.mirrored

    def done(outcome: str) -> None:
        counters.child(settings.name, name, outcome).inc()

    seen = house.tracer.copied if house.tracer is not None else None
    copies = Copies(name, house.roads[name], done, world.clock, seen=seen)
    house.mirrors.append(copies)
    return mirror(copies, wanted.share)


def _end(
    settings: RouteConfig, versions: Versions | None, roads: Mapping[str, Send], clock: Callable[[], float]
) -> Send:
    """What answers in the end."""
    if settings.redirect is not None:
        return redirect_end(settings.match.path, settings.redirect)
    if settings.respond is not None:
        return respond_end(settings.match.path, settings.respond)
    if settings.versions is not None and versions is not None:
        available = zip(settings.versions.names, settings.versions.available.values(), strict=True)
        ways = {name: _one_of(f"{settings.name} {name}", each, roads, clock) for name, each in available}
        return by_version(ways, versions.retiring)
    return _one_of(settings.name, settings, roads, clock)


def _one_of(
    name: str, ways: RouteConfig | VersionConfig, roads: Mapping[str, Send], clock: Callable[[], float]
) -> Send:
    """To the upstream of a route or a version, or to one of those that share it; `name` keeps callers' ways apart."""
    if ways.split is None:
        assert ways.upstream is not None
        return roads[ways.upstream]
    choices = [(upstream, weight, roads[upstream]) for upstream, weight in ways.split.items()]
    if ways.split_by is None:
        return split(choices, None, random.random, clock)
    by = key_of(name, ways.split_by)
    return split(choices, lambda call: by(call, call.caller), random.random, clock)


def _upstream(
    name: str, settings: UpstreamConfig, config: Config, identity: Identity, world: World, parts: Parts
) -> Upstream:
    files = files_of(settings)
    traced = config.tracing is not None
    heads = heads_for(name, settings, identity, world.instance, world.clock, parts, traced=traced)
    gate = gate_of(name, settings, config.workers, parts)
    adapt = adapting(name, settings, gate, config.workers, world.clock, parts)
    # Whether it is one target alone decides what its replies mean.
    pause = parts.get(("quota", name, settings.quota, len(settings.targets) == 1), lambda: quota_pause(name, settings))

    def make() -> Upstream:
        set_aside = ejection(name, settings, world.metrics.ejected, world.clock)
        maker = Maker(name, settings, files, heads, world.metrics.circuit_changed, world.clock)
        targets, picker = group(maker, set_aside, parts)
        stages = Stages(name, picker, set_aside, gate, adapt, pause)
        return Upstream(name, targets, road(settings, stages, world.clock), gate, pause)

    return parts.get(("upstream", name, settings, files, heads, gate), make)
