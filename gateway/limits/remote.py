"""A store in the network by its URL: one server, the master of a set, or a cluster."""

from collections.abc import Callable

from redis.asyncio import RedisCluster

from gateway.limits.clients import connect
from gateway.limits.cluster import ClusterStore
from gateway.limits.failover import Remote
from gateway.limits.health import StoreHealth
from gateway.limits.redis import RedisStore


def remote(url: str, timeout: float, prefix: bytes, observe: Callable[[float], None], health: StoreHealth) -> Remote:
    """`timeout` in seconds, for one check; `observe` hears the seconds of each round trip."""
    client = connect(url, timeout)
    if isinstance(client, RedisCluster):
        return ClusterStore(client, prefix=prefix, timeout=timeout, observe=observe, health=health)
    return RedisStore(client, prefix=prefix, timeout=timeout, observe=observe, health=health)
