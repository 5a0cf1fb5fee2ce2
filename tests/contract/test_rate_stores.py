"""What every store of rate limits must do, run over memory, a real Redis and the embedded store."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from gateway.limits.failover import SharedStore
from gateway.limits.gcra import TICKS, rate
from gateway.limits.health import StoreHealth
from gateway.limits.memory import MemoryStore
from gateway.limits.redis import RedisStore, connect
from gateway.limits.store import RateStore
from tests.fakes import Clock
from tests.servers import StoreServer

MakeStore = Callable[..., RedisStore]

TEN = rate("ten", 10, 3600.0)
THREE = rate("three", 3, 3600.0)


@dataclass
class Subject:
    store: RateStore
    clock: Clock


@pytest.fixture(params=["memory", "redis", "embedded"])
async def subject(
    request: pytest.FixtureRequest, server_of_kind: Callable[[str], StoreServer]
) -> AsyncIterator[Subject]:
    clock = Clock()
    if request.param == "memory":
        yield Subject(MemoryStore(clock=clock), clock)
        return
    client = connect(server_of_kind(request.param).url, 5.0)
    await client.flushall()
    shared = RedisStore(client, timeout=5.0, now_ticks=lambda: int(clock() * TICKS))
    yield Subject(SharedStore(shared, on_failure="closed"), clock)
    await shared.close()


async def take(subject: Subject, *keys: bytes, rate: object = TEN) -> list[bool]:
    quotas, how, _ = await subject.store.take([(key, rate, 1) for key in keys])
    assert how == ""
    return [quota.allowed for quota in quotas]


async def test_e3_of_500_concurrent_takes_exactly_the_limit_passes(subject: Subject) -> None:
    answers = await asyncio.gather(*(subject.store.take([(b"k", rate("r", 123, 3600.0), 1)]) for _ in range(500)))
    quotas = [quotas[0] for quotas, _, _ in answers]
    assert sum(quota.allowed for quota in quotas) == 123
    # Every one of the 123 was told another remainder: no two callers were given the same place.
    assert sorted(quota.remaining for quota in quotas if quota.allowed) == list(range(123))


async def test_e3_on_the_last_token_exactly_one_passes(subject: Subject) -> None:
    for _ in range(9):
        await take(subject, b"k")
    passed = await asyncio.gather(*(take(subject, b"k") for _ in range(50)))
    assert sum(allowed for (allowed,) in passed) == 1


async def test_e6_refusals_do_not_consume(subject: Subject) -> None:
    for _ in range(10):
        assert await take(subject, b"k") == [True]
    for _ in range(30):
        assert await take(subject, b"k") == [False]
    subject.clock.advance(360)  # 3600 s / 10
    assert await take(subject, b"k") == [True]
    assert await take(subject, b"k") == [False]


async def test_the_quota_is_told_alike_by_every_store(subject: Subject) -> None:
    quotas, _, _ = await subject.store.take([(b"k", TEN, 4)])
    assert quotas == [(True, "ten", 10, 3600.0, 6, 1440.0, 0.0)]
    quotas, _, _ = await subject.store.take([(b"k", TEN, 7)])
    assert quotas == [(False, "ten", 10, 3600.0, 6, 1440.0, 360.0)]
    subject.clock.advance(100)
    quotas, _, _ = await subject.store.take([(b"k", TEN, 6)])
    assert quotas == [(True, "ten", 10, 3600.0, 0, 3500.0, 0.0)]


async def test_keys_do_not_touch_each_other(subject: Subject) -> None:
    for _ in range(3):
        assert await take(subject, b"a", rate=THREE) == [True]
    assert await take(subject, b"a", rate=THREE) == [False]
    assert await take(subject, b"b", rate=THREE) == [True]


async def test_several_limits_are_taken_all_or_none(subject: Subject) -> None:
    for _ in range(3):
        await take(subject, b"b", rate=THREE)
    quotas, _, _ = await subject.store.take([(b"a", TEN, 1), (b"b", THREE, 1), (b"c", TEN, 1)])
    assert [(quota.allowed, quota.remaining) for quota in quotas] == [(True, 10), (False, 0), (True, 10)]
    assert (await subject.store.take([(b"a", TEN, 10), (b"c", TEN, 10)]))[0][0].allowed


async def test_several_limits_are_taken_atomically(subject: Subject) -> None:
    takes = [(b"a", TEN, 1), (b"b", rate("r", 7, 3600.0), 1), (b"c", rate("s", 100, 3600.0), 1)]
    answers = await asyncio.gather(*(subject.store.take(takes) for _ in range(100)))
    passed = [quotas for quotas, _, _ in answers if all(quota.allowed for quota in quotas)]
    assert len(passed) == 7
    quotas, _, _ = await subject.store.take([(b"a", TEN, 3), (b"c", rate("s", 100, 3600.0), 93)])
    assert [(quota.allowed, quota.remaining) for quota in quotas] == [(True, 0), (True, 0)]


async def test_e13_each_key_of_redis_ends_when_its_debt_does(client: Redis, make_store: MakeStore) -> None:
    store = make_store(prefix=b"test:")
    takes = [(b"%032d" % n, TEN, 1 + n % 10) for n in range(200)]
    await asyncio.gather(*(store.take([take]) for take in takes))
    assert await client.dbsize() == 200
    for key, _, cost in takes:
        left = await client.pttl(b"test:limit:" + key)
        assert cost * 360_000 - 30_000 < left <= cost * 360_000


async def test_e12_the_clock_is_the_servers(client: Redis, make_store: MakeStore) -> None:
    # Two gateways with whatever clocks: neither sends a time, and what is stored is the server's.
    stores = [make_store() for _ in range(2)]
    second = rate("r", 1, 3600.0, burst=2)
    for store in stores:
        assert (await store.take([(b"k", second, 1)]))[0].allowed
    for store in stores:
        assert not (await store.take([(b"k", second, 1)]))[0].allowed
    seconds, _ = await client.time()
    stored = int(await client.get(b"gw:limit:k") or 0)
    assert stored / TICKS + 1_735_689_600 == pytest.approx(seconds + 7200, abs=30)


async def test_e4_two_instances_share_one_limit(client: Redis, make_store: MakeStore) -> None:
    stores = [make_store() for _ in range(2)]
    answers = await asyncio.gather(*(stores[n % 2].take([(b"k", TEN, 1)]) for n in range(60)))
    assert sum(quota.allowed for (quota,) in answers) == 10


async def test_e8_a_server_whose_scripts_were_flushed_is_taught_again(client: Redis, make_store: MakeStore) -> None:
    errors: list[str] = []
    store = make_store(health=StoreHealth(on_error=lambda: errors.append("one")))
    for _ in range(3):
        await client.script_flush()
        answers = await asyncio.gather(*(store.take([(b"k", rate("r", 90, 3600.0), 1)]) for _ in range(20)))
        assert all(quota.allowed for (quota,) in answers)
    (quota,) = await store.take([(b"k", rate("r", 90, 3600.0), 1)])
    assert quota.remaining == 90 - 61  # nothing was counted twice
    assert errors == []


async def test_e8_a_flushed_server_counts_on_from_nothing(client: Redis, make_store: MakeStore) -> None:
    store = make_store()
    for _ in range(2):
        answers = [await store.take([(b"k", THREE, 1)]) for _ in range(4)]
        assert [quota.allowed for (quota,) in answers] == [True, True, True, False]
        await client.flushall()


async def test_what_is_asked_in_one_turn_travels_together(client: Redis, make_store: MakeStore) -> None:
    trips: list[float] = []
    store = make_store(observe=trips.append)
    await asyncio.gather(*(store.take([(b"%d" % n, TEN, 1)]) for n in range(200)))
    assert len(trips) == 1
    assert 0 < trips[0] < 5


async def test_a_caller_who_leaves_does_not_disturb_the_others(client: Redis, make_store: MakeStore) -> None:
    errors: list[str] = []
    store = make_store(health=StoreHealth(on_error=lambda: errors.append("one")))
    tasks = [asyncio.create_task(store.take([(b"k", TEN, 1)])) for _ in range(6)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    tasks[4].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [
        False,
        True,
        False,
        False,
        True,
        False,
    ]
    (quota,) = await store.take([(b"k", TEN, 1)])
    assert quota.remaining == 10 - 7  # the question of one who left was on its way and counts
    assert errors == []
