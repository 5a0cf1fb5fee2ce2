"""From the configuration to where requests with an idempotency key are remembered."""

from collections.abc import Callable

from gateway.config.model import Config
from gateway.config.model import Route as RouteConfig
from gateway.idempotency.memory import MemoryRecords
from gateway.idempotency.records import Records
from gateway.parts import Parts
from gateway.resilience.idempotency import Terms


def records(config: Config, embedded: str, parts: Parts, on_error: Callable[[], None]) -> Records:
    """Where limits are counted, too; `embedded` is the URL of the embedded store, if it runs."""
    store = config.store
    url = embedded if config.store_url == "embedded" else config.store_url
    if url in ("memory", ""):
        return parts.get(("idempotency", "memory"), MemoryRecords)

    def connected() -> Records:
        # Here, not at the top: who remembers in this process needs no client of a Redis.
        from gateway.idempotency.failover import SharedRecords
        from gateway.idempotency.redis import RedisRecords
        from gateway.limits.clients import connect
        from gateway.limits.health import StoreHealth

        shared = RedisRecords(
            connect(url, store.timeout),
            prefix=store.prefix.encode(),
            timeout=store.timeout,
            health=StoreHealth(on_error=on_error),
        )
        return SharedRecords(shared, on_failure=store.on_failure)

    return parts.get(("idempotency", url, store.timeout, store.prefix, store.on_failure), connected)


def terms(config: Config, route: RouteConfig) -> Terms | None:
    """How the keys of a route are treated; None where they are not."""
    settings = route.idempotency
    if settings is None:
        return None
    asked = [*route.upstreams, *(entry.upstream for entry in route.fallback if entry.upstream is not None)]
    # The first may have taken all of its time before a fallback begins, and before it there may be a queue.
    patience = sum(config.upstreams[name].timeouts.total for name in asked)
    if route.concurrency is not None:
        patience += route.concurrency.queue_timeout
    body_limit = max(config.upstreams[name].retry.replay_limit for name in route.upstreams)
    return Terms(settings.header, settings.keep, patience, body_limit)
