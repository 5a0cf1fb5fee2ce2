"""The stages of a route in words, in the order in which a request meets them: as `assemble.py` builds them."""

from collections.abc import Iterator
from typing import NotRequired, TypedDict

from gateway.auth.claim_rules import value_text
from gateway.config import Config
from gateway.config.effective import duration_text, share_text, size_text
from gateway.config.health import Hash, Health, Hedge, Percentile
from gateway.config.limits import Concurrency, RouteConcurrency, Shedding, UpstreamConcurrency
from gateway.config.model import Breaker, Fallback, Route, Timeouts, Upstream
from gateway.config.route_auth import ANY_METHOD, AllOf, AnyOf, RouteAuth
from gateway.config.traffic import FaultInjection, Idempotency
from gateway.config.transform import Transform
from gateway.describe.routes import limit_text, targets_of
from gateway.describe.shaping import (
    addresses_text,
    compress_text,
    cors_text,
    edit_text,
    redirect_text,
    respond_text,
    security_text,
    transform_texts,
    versions_text,
)
from gateway.resilience.retry_policy import IDEMPOTENT


class Stage(TypedDict):
    stage: str
    settings: str
    upstream: NotRequired[str]
    """On whose way it stands, behind a split."""


def stages(config: Config, route: Route, method: str, version: str = "") -> list[Stage]:
    """All of them; of several upstreams those of one after those of another, though a request meets one's only.

    A request for `version` meets those of its upstream; "" while it is not known.
    """
    door = [*_door(config, route, method), *_way(config, route, method)]
    found: list[Stage] = [{"stage": name, "settings": settings} for name, settings in door]
    upstreams = upstreams_of(route, version)
    for upstream in upstreams:
        for name, settings in _road(config.upstreams[upstream], route, method):
            stage: Stage = {"stage": name, "settings": settings}
            alone = route.split is None and len(upstreams) == 1
            found.append(stage if alone else {**stage, "upstream": upstream})
    return found


def upstreams_of(route: Route, version: str) -> tuple[str, ...]:
    """Who may answer a request for `version`; all of the route's while it is not known."""
    if route.versions is None or not version:
        return route.upstreams
    return dict(zip(route.versions.names, route.versions.available.values(), strict=True))[version].upstreams


def needed(auth: RouteAuth, method: str) -> tuple[str | AnyOf, ...]:
    """The scopes that this method needs: its own list, HEAD that of GET, else the list for any method."""
    if method == "HEAD" and "HEAD" not in auth.scopes:
        method = "GET"
    return auth.scopes.get(method, auth.scopes.get(ANY_METHOD, ()))


def _door(config: Config, route: Route, method: str) -> Iterator[tuple[str, str]]:
    auth = route.auth
    if route.cors is not None:
        yield "cors", cors_text(route.cors)
    if route.allow_ip or route.deny_ip:
        yield "addresses", addresses_text(route)
    if route.versions is not None:
        yield "version", versions_text(route.versions)
    if route.body_limit is not None:
        yield "body", f"at most {size_text(route.body_limit)}"
    if auth is None:
        yield "identify", "nobody is asked: open to everybody"
    else:
        yield "identify", f"by {' or '.join(auth.providers)}{', or anonymous' if auth.optional else ''}"
        yield "permit", _permit_text(auth, method)
    if config.shedding is not None:
        yield "shed", _shed_text(config.shedding, route.priority)
    for limit in route.rate_limit:
        yield "limit", limit_text(config, limit)


def _way(config: Config, route: Route, method: str) -> Iterator[tuple[str, str]]:
    """What stands in front of the ways to all upstreams: `assemble._way`."""
    yield from _of_replies(config, route)
    if route.idempotency is not None:
        yield "idempotency", _idempotency_text(route.idempotency, method)
    if route.concurrency is not None:
        yield "concurrency", _route_concurrency_text(route.concurrency)
    yield from (("transform", text) for text in transform_texts(route.transform or Transform()))
    if (mirror := route.mirror) is not None:
        yield "mirror", f"copies of {share_text(mirror.share)} to {mirror.upstream}, whose replies nobody gets"
    for entry in route.fallback:
        yield "fallback", f"on {' '.join(map(str, entry.on))}: {_answer_text(entry)}"
    if route.fault is not None:
        yield "fault", _fault_text(route.fault)
    yield from _end(route)


def _of_replies(config: Config, route: Route) -> Iterator[tuple[str, str]]:
    """What sees them last."""
    edit = route.transform.response_headers if route.transform is not None else None
    if route.compress is not None:
        yield "compress", compress_text(route.compress)
    if config.security_headers:
        yield "security", security_text()
    if edit is not None and (changed := edit_text(edit)):
        yield "reply", f"headers: {changed}"


def _end(route: Route) -> Iterator[tuple[str, str]]:
    if route.redirect is not None:
        yield "redirect", redirect_text(route.redirect)
    if route.respond is not None:
        yield "respond", respond_text(route.respond)
    if route.split is not None:
        total = sum(route.split.values())
        shares = " or ".join(f"{name} ({route.split[name]} of {total})" for name in route.upstreams)
        yield "split", f"{shares}, by {route.split_by or 'chance'}"


def _road(upstream: Upstream, route: Route, method: str) -> Iterator[tuple[str, str]]:
    """What stands on the way to one upstream: `assemble.road`."""
    timeouts, retry, eject = upstream.timeouts, upstream.retry, upstream.eject
    yield "deadline", _deadline_text(timeouts)
    if upstream.quota is not None and upstream.quota.respect:
        yield "quota", "nothing is sent while it says that its own limit is used up, until its reset"
    if retry.attempts > 1 or retry.attempts_header:
        yield "retry", _retry_text(upstream, route, method)
    if upstream.hedge is not None:
        yield "hedge", _hedge_text(upstream.hedge, upstream, route, method)
    if upstream.concurrency is not None:
        yield "concurrency", _upstream_concurrency_text(upstream.concurrency)
    yield "balance", _balance_text(upstream)
    if upstream.breaker is not None:
        yield "breaker", _breaker_text(upstream.breaker)
    if eject is not None:
        most = "" if eject.max_share == 1 else f", at most {share_text(eject.max_share)} of them, or one"
        lasts = f"set aside for {eject.for_:g} s, longer each time"
        yield "ejection", f"targets with {eject.consecutive_failures} failures in a row are {lasts}{most}"
    yield "try", f"{timeouts.try_:g} s, of which at most {timeouts.connect:g} s to connect"


def _permit_text(auth: RouteAuth, method: str) -> str:
    scopes = [each if isinstance(each, str) else f"({' or '.join(each.any)})" for each in needed(auth, method)]
    wanted = [f"scopes {' '.join(scopes)}"] if scopes else []
    if isinstance(auth.roles, AllOf):
        wanted.append(f"roles {' and '.join(auth.roles.all)}")
    elif auth.roles:
        wanted.append(f"role {' or '.join(auth.roles)}")
    wanted += [f"claim {name} {' or '.join(map(value_text, values))}" for name, values in auth.claims.items()]
    if auth.max_age is not None:
        wanted.append(f"authenticated within {auth.max_age:g} s")
    return ", and ".join(wanted) or "anybody"


def _shed_text(shedding: Shedding, priority: str) -> str:
    if priority == "critical":
        return "priority critical: never turned away"
    last = f"; callers of tier {' or '.join(shedding.last)} count as one higher" if shedding.last else ""
    late = f"while the event loop is {shedding.loop_lag:g} s late, lower priorities first"
    return f"priority {priority}: turned away {late}, or after a wait of {shedding.queue_age:g} s{last}"


def _idempotency_text(settings: Idempotency, method: str) -> str:
    if method in IDEMPOTENT:
        return f"by {settings.header}, not for {method}"
    return f"by {settings.header}: sent once, repetitions get the first reply for {duration_text(settings.keep)}"


def _route_concurrency_text(settings: RouteConcurrency) -> str:
    each = "" if settings.by == ("route",) else f" for each {'+'.join(settings.by)}"
    return f"{settings.limit} requests at a time{each}{_queue_text(settings)}"


def _upstream_concurrency_text(settings: UpstreamConcurrency) -> str:
    if settings.adaptive:
        return f"{settings.least} to {settings.limit} tries at a time, by how long replies take{_queue_text(settings)}"
    return f"{settings.limit} tries at a time{_queue_text(settings)}"


def _queue_text(settings: Concurrency) -> str:
    return f", {settings.queue} more wait up to {settings.queue_timeout:g} s" if settings.queue else ""


def _answer_text(entry: Fallback) -> str:
    if entry.upstream is not None:
        return f"upstream {entry.upstream}"
    if entry.file is not None:
        return f"status {entry.status}, file {entry.file.name}"
    kind = "json" if entry.text is None else "text"
    return f"status {entry.status}{'' if entry.text == '' else f', {kind}'}"


def _fault_text(settings: FaultInjection) -> str:
    carrying = f" with {settings.header}" if settings.header is not None else ""
    happens = [f"wait {settings.delay:g} s"] if settings.delay else []
    if settings.status is not None:
        happens.append(f"get a {settings.status}")
    return f"a rehearsal: {share_text(settings.share)} of requests{carrying} {' and '.join(happens)}"


def _deadline_text(timeouts: Timeouts) -> str:
    said = f"{timeouts.total:g} s for everything below"
    if timeouts.header is None:
        return said
    return f"{said}, or less if a trusted caller says so in {timeouts.header}; the upstream is told what is left"


def _retry_text(upstream: Upstream, route: Route, method: str) -> str:
    retry = upstream.retry
    told = "; X-Gateway-Attempts says how many tries there were" if retry.attempts_header else ""
    if retry.attempts == 1:
        return f"never{told}"
    only = ""
    if method not in IDEMPOTENT or method not in retry.methods:
        answered = " or a reply came" if method in retry.methods else ""
        only = f", {method} only if nothing was sent{answered}{_keyed(route, method)}"
    kinds = " ".join(map(str, retry.on))
    return f"{retry.attempts} tries in all on {kinds}{only}, budget {share_text(retry.budget)}{told}"


def _hedge_text(hedge: Hedge, upstream: Upstream, route: Route, method: str) -> str:
    late = f"the {hedge.after} of recent times" if isinstance(hedge.after, Percentile) else f"{hedge.after:g} s"
    more = "another try" if hedge.max == 1 else f"up to {hedge.max} more tries, each"
    keyed = _keyed(route, method).removeprefix(" or")
    only = "" if method in IDEMPOTENT else f", {method} only{keyed}" if keyed else f", not for {method}"
    return f"{more} after {late} without a good reply{only}, budget {share_text(upstream.retry.budget)}"


def _keyed(route: Route, method: str) -> str:
    """What may be repeated because of the key that its client gives it."""
    return f" or with {route.idempotency.header}" if route.idempotency is not None and method not in IDEMPOTENT else ""


def _balance_text(upstream: Upstream) -> str:
    wanted, found = upstream.balance, upstream.discover
    kind = f"hash of {wanted.hash} to one" if isinstance(wanted, Hash) else wanted
    if found is None:
        targets = ", ".join(f"{each.url}{_rank_text(each.weight, each.priority)}" for each in upstream.targets)
    else:
        server = f" of {found.server}" if found.server is not None else ""
        records = "SRV records" if found.type == "srv" else "addresses"
        targets = f"{targets_of(upstream)[0]}, its {records} from the DNS{server} at least every {found.refresh:g} s"
    said = [f"{kind} of {targets}"]
    if upstream.health is not None:
        said.append(_health_text(upstream.health))
    if upstream.slow_start is not None:
        said.append(f"slow start over {upstream.slow_start:g} s")
    if upstream.panic and (upstream.health is not None or upstream.eject is not None):
        said.append(f"all when fewer than {share_text(upstream.panic)} are well")
    return "; ".join(said)


def _rank_text(weight: int, priority: int) -> str:
    said = [f"weight {weight}"] if weight != 1 else []
    if priority:
        said.append(f"priority {priority}")
    return f" ({', '.join(said)})" if said else ""


def _health_text(health: Health) -> str:
    statuses = " ".join(f"{first}-{last}" if first != last else str(first) for first, last in health.expect)
    path = (health.path or "").partition("?")[0]  # a query may be secret
    asked = "by connecting" if health.tcp else f"with GET {path} for {statuses}"
    counts = f"ill after {health.unhealthy_after} failures in a row, well after {health.healthy_after} successes"
    return f"probed every {health.interval:g} s {asked}, {counts}"


def _breaker_text(breaker: Breaker) -> str:
    growing = breaker.open_for_max
    longer = f", up to {growing:g} s when trials fail," if growing is not None and growing > breaker.open_for else ""
    slow = breaker.slow_calls
    slowly = f", or when {share_text(slow.rate)} of them take over {slow.over:g} s" if slow is not None else ""
    return (
        f"per {breaker.per}: opens for {breaker.open_for:g} s{longer} after {breaker.consecutive_failures} failures "
        f"in a row, or {share_text(breaker.failure_rate)} of {breaker.minimum_requests} or more in "
        f"{breaker.window:g} s{slowly}"
    )
