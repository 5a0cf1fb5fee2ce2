"""From the configuration to meters, limits and rooms, and to the store that counts."""

import time
from collections.abc import Callable

from gateway.config.limits import CALENDAR, RateLimit, Tier
from gateway.config.model import Config
from gateway.config.model import Route as RouteConfig
from gateway.limits.calendar_window import CalendarWindow
from gateway.limits.concurrency import Gate, Gates, limited, share
from gateway.limits.door import Limit
from gateway.limits.failover import Remote, SharedStore
from gateway.limits.gcra import rate
from gateway.limits.health import StoreHealth
from gateway.limits.keys import key_of
from gateway.limits.lease import LeasedStore
from gateway.limits.memory import MemoryStore
from gateway.limits.meter import Meter
from gateway.limits.names import limits
from gateway.limits.shedding import Shedding
from gateway.limits.sliding_window import SlidingWindow
from gateway.limits.store import RateStore
from gateway.parts import Parts
from gateway.pipe import Layer


def limit(name: str, settings: RateLimit) -> Limit:
    """As the door asks for it."""
    return Limit(
        _meter(name, settings, settings),
        settings.by,
        {tier: _meter(name, settings, each) for tier, each in settings.tiers.items()},
        settings.cost,
        observe=settings.mode == "observe",
    )


def _meter(policy: str, settings: RateLimit, allowed: RateLimit | Tier) -> Meter:
    count, window = allowed.limit
    match settings.algorithm:
        case "sliding_window":
            return SlidingWindow(policy, count, window)
        case "calendar":
            return CalendarWindow(policy, count, CALENDAR[window], settings.zone)
        case "gcra":
            return rate(policy, count, window, allowed.burst)


def store(
    config: Config,
    embedded: str,
    parts: Parts,
    observe: Callable[[float], None],
    on_error: Callable[[], None],
) -> tuple[RateStore, SharedStore | None]:
    """Where limits are counted: in this process, or in a store with a plan for its absence, which is told apart.

    `embedded` is the URL of the embedded store, if it runs. `observe` hears the seconds of each round trip.
    """
    settings = config.store
    url = embedded if config.store_url == "embedded" and config.limits else config.store_url
    leases = {name: each.lease for name, each in limits(config) if each.lease is not None}
    if url in ("memory", "embedded"):  # without limits nothing is counted, and the embedded store does not run
        return parts.get(("store", "memory"), MemoryStore), None  # to lease from a dictionary would gain nothing
    plans = {name: each.on_failure for name, each in limits(config) if each.on_failure is not None}

    def connected() -> Remote:
        # Here, not at the top: who counts in this process needs no client of a Redis, which takes 0.1 s to import.
        from gateway.limits.remote import remote

        return remote(url, settings.timeout, settings.prefix.encode(), observe, StoreHealth(on_error=on_error))

    where = (url, settings.timeout, settings.prefix)
    shared = parts.get(
        ("store", *where, settings.on_failure, tuple(sorted(plans.items()))),
        lambda: SharedStore(parts.get(("remote", *where), connected), on_failure=settings.on_failure, exceptions=plans),
    )
    if not leases:
        return shared, shared
    return parts.get(("leased", shared, tuple(sorted(leases.items()))), lambda: LeasedStore(shared, leases)), shared


def route_concurrency(config: Config, settings: RouteConfig, clock: Callable[[], float], parts: Parts) -> Layer | None:
    inside = room(config, settings, parts)
    if inside is None or settings.concurrency is None:
        return None
    if isinstance(inside, Gate):
        return limited(settings.name, lambda call: inside, clock)
    key = key_of(settings.name, settings.concurrency.by)
    return limited(settings.name, lambda call: inside.of(key(call, call.caller)), clock)


def room(config: Config, settings: RouteConfig, parts: Parts) -> Gate | Gates | None:
    """A gate for all of a route, or for each key; it outlives a reload together with those who are inside."""
    wanted, workers = settings.concurrency, config.workers
    if wanted is None:
        return None
    kind = Gate if wanted.by == ("route",) else Gates
    limit, queue = share(wanted.limit, workers), share(wanted.queue, workers)
    return parts.get(("room", settings.name, wanted, workers), lambda: kind(limit, queue, wanted.queue_timeout))


def shedding(config: Config, parts: Parts) -> Shedding | None:
    settings = config.shedding
    if settings is None:
        return None
    return parts.get(
        ("shedding", settings),
        lambda: Shedding(settings.loop_lag, settings.queue_age, settings.last, clock=time.monotonic),
    )
