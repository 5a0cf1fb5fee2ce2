"""Lease mode over a real Redis: several instances, one hot key, thousands of callers at once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from redis.asyncio import Redis

from gateway.limits.clients import connect
from gateway.limits.failover import SharedStore
from gateway.limits.gcra import Rate, rate
from gateway.limits.lease import LeasedStore
from gateway.limits.redis import RedisStore
from gateway.limits.store import Take
from tests.servers import StoreServer

INSTANCES = 4
LEASE = 50
HOT = rate("hot", 5000, 1_000_000.0)  # one permit comes back in 200 seconds: later than any test ends
EXACT = rate("exact", 700, 1_000_000.0)
QUICK = rate("hot", 1000, 0.5)


@pytest.fixture
async def client(server_of_kind: Callable[[str], StoreServer]) -> AsyncIterator[Redis]:
    """Of one kind of server, which is empty at the beginning: a lease does not know where it comes from."""
    client = Redis.from_url(server_of_kind("redis").url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def exact(client: Redis, server_of_kind: Callable[[str], StoreServer]) -> AsyncIterator[list[SharedStore]]:
    """One store for each instance, as gateways would have them."""
    stores: list[SharedStore] = []
    for _ in range(INSTANCES):
        own = connect(server_of_kind("redis").url, 5.0)
        assert isinstance(own, Redis)
        stores.append(SharedStore(RedisStore(own, timeout=5.0), on_failure="closed"))
    yield stores
    for store in stores:
        await store.close()


@pytest.fixture
def instances(exact: list[SharedStore]) -> list[LeasedStore]:
    return [LeasedStore(store, {"hot": LEASE}) for store in exact]


async def passed(store: LeasedStore, takes: Sequence[Take]) -> bool:
    quotas, how, _ = await store.take(takes)
    assert how == ""
    return all(quota.allowed for quota in quotas)


async def left(store: SharedStore, key: bytes, meter: Rate) -> int:
    """What the server has left."""
    (quota,), _, _ = await store.take([(key, meter, 0)])
    return quota.remaining


async def commands(client: Redis) -> int:
    return int((await client.info("commandstats"))["cmdstat_evalsha"]["calls"])


async def test_e3_of_10000_at_once_over_4_instances_never_more_than_the_limit_passes(
    instances: list[LeasedStore], exact: list[SharedStore]
) -> None:
    takes = [(b"k", HOT, 1)]
    results = await asyncio.gather(*(passed(instances[n % INSTANCES], takes) for n in range(10_000)))
    assert HOT.limit - INSTANCES * LEASE <= sum(results) <= HOT.limit
    assert await left(exact[0], b"k", HOT) < LEASE


async def test_e4_callers_who_come_one_after_another_are_served_by_leases(
    instances: list[LeasedStore], client: Redis
) -> None:
    takes = [(b"k", HOT, 1)]
    await client.config_resetstat()

    async def caller(store: LeasedStore) -> int:
        return sum([await passed(store, takes) for _ in range(125)])

    counts = await asyncio.gather(*(caller(instances[n % INSTANCES]) for n in range(80)))
    assert HOT.limit - INSTANCES * LEASE <= sum(counts) <= HOT.limit
    # A hundred leases make up the limit; some more questions are asked about what is left at its end.
    assert await commands(client) < 1.5 * HOT.limit / LEASE


async def test_dear_and_cheap_callers_together_keep_the_limit(
    instances: list[LeasedStore], exact: list[SharedStore]
) -> None:
    costs = [1 + n % 7 for n in range(4000)]
    results = await asyncio.gather(
        *(passed(instances[n * 5 % INSTANCES], [(b"k", HOT, cost)]) for n, cost in enumerate(costs))
    )
    spent = sum(cost for cost, allowed in zip(costs, results, strict=True) if allowed)
    assert HOT.limit - INSTANCES * LEASE <= spent <= HOT.limit
    assert await left(exact[0], b"k", HOT) < LEASE


async def test_with_an_exact_limit_beside_it_all_or_none_are_taken(
    instances: list[LeasedStore], exact: list[SharedStore]
) -> None:
    takes: list[Take] = [(b"k", HOT, 1), (b"e", EXACT, 1)]
    results = await asyncio.gather(*(passed(instances[n % INSTANCES], takes) for n in range(2000)))
    assert sum(results) == EXACT.limit
    # What the refused had spent was put back, and is spent by those who ask for the leased limit alone.
    alone = await asyncio.gather(*(passed(instances[n % INSTANCES], takes[:1]) for n in range(6000)))
    assert HOT.limit - INSTANCES * LEASE <= EXACT.limit + sum(alone) <= HOT.limit
    assert await left(exact[0], b"e", EXACT) == 0


async def test_callers_who_leave_take_no_more_than_leases_with_them(
    instances: list[LeasedStore],
) -> None:
    takes = [(b"k", HOT, 1)]
    callers = [asyncio.create_task(passed(instances[n % INSTANCES], takes)) for n in range(4000)]
    await asyncio.sleep(0)
    for caller in callers[::2]:
        caller.cancel()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert results[1::2] == [True] * 2000
    rest = await asyncio.gather(*(passed(instances[n % INSTANCES], takes) for n in range(8000)))
    assert HOT.limit - INSTANCES * LEASE <= 2000 + sum(rest) <= HOT.limit


async def test_permits_that_come_back_are_shared_out_and_never_more_of_them_pass(
    instances: list[LeasedStore],
) -> None:
    takes = [(b"k", QUICK, 1)]
    loop = asyncio.get_running_loop()
    started = loop.time()

    async def caller(store: LeasedStore) -> int:
        count = 0
        while loop.time() < started + 0.6:
            count += await passed(store, takes)
            await asyncio.sleep(0.001)
        return count

    counts = await asyncio.gather(*(caller(instances[n % INSTANCES]) for n in range(40)))
    took = loop.time() - started
    assert sum(counts) <= QUICK.limit + took / QUICK.window * QUICK.limit + 1
    assert sum(counts) > QUICK.limit
