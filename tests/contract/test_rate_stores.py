"""What every store of rate limits must do, run over memory and over every kind of shared store, all of them real."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
from redis.asyncio import RedisCluster

from gateway.limits.calendar_window import LINGER, CalendarWindow
from gateway.limits.clients import Client, connect
from gateway.limits.failover import SharedStore
from gateway.limits.gcra import rate
from gateway.limits.health import StoreHealth
from gateway.limits.memory import MemoryStore
from gateway.limits.meter import TICKS, Meter
from gateway.limits.redis import MOST, RedisStore
from gateway.limits.sliding_window import SlidingWindow
from gateway.limits.store import RateStore, StoreError
from tests.contract.conftest import KINDS, store_over
from tests.fakes import Clock
from tests.servers import StoreServer

MakeStore = Callable[..., RedisStore]

TEN = rate("ten", 10, 3600.0)
THREE = rate("three", 3, 3600.0)
NOON = 1_795_262_400.0
"""2026-11-21T12:00:00Z: where the wall clock of these tests begins."""


def meters(limit: int, policy: str = "p") -> list[Meter]:
    """One of each kind."""
    return [
        rate(policy + "-even", limit, 3600.0),
        SlidingWindow(policy + "-sliding", limit, 3600.0),
        CalendarWindow(policy + "-calendar", limit, "day", "UTC"),
    ]


every_kind = pytest.mark.parametrize("kind", [0, 1, 2], ids=["gcra", "sliding_window", "calendar_window"])


@dataclass
class Subject:
    store: RateStore
    clock: Clock
    wall: Clock

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wall.advance(seconds)


@pytest.fixture(params=["memory", *KINDS])
async def subject(
    request: pytest.FixtureRequest, server_of_kind: Callable[[str], StoreServer]
) -> AsyncIterator[Subject]:
    clock, wall = Clock(7200.0), Clock(NOON)
    if request.param == "memory":
        yield Subject(MemoryStore(clock=clock, wall=wall), clock, wall)
        return
    url = server_of_kind(request.param).url
    client = connect(url, 5.0)
    await client.flushall()
    await client.aclose()
    shared = store_over(url, wall=wall, now_ticks=lambda: int(clock() * TICKS))
    yield Subject(SharedStore(shared, on_failure="closed"), clock, wall)
    await shared.close()


async def count_keys(client: Client) -> int:
    """In all nodes, where there are several."""
    return len([key async for key in client.scan_iter()])


async def take(subject: Subject, *keys: bytes, rate: Meter = TEN) -> list[bool]:
    quotas, how, _ = await subject.store.take([(key, rate, 1) for key in keys])
    assert how == ""
    return [quota.allowed for quota in quotas]


@every_kind
async def test_e3_of_500_concurrent_takes_exactly_the_limit_passes(subject: Subject, kind: int) -> None:
    meter = meters(123)[kind]
    answers = await asyncio.gather(*(subject.store.take([(b"k", meter, 1)]) for _ in range(500)))
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


async def test_a_refusal_by_one_takes_nothing_from_the_others_of_whatever_kind(subject: Subject) -> None:
    keys = [b"a", b"b", b"c"]
    for refusing in range(3):
        wide = [(b"%b%d" % (key, refusing), meter, 2) for key, meter in zip(keys, meters(10), strict=True)]
        narrow = (b"n%d" % refusing, meters(1, "narrow")[refusing], 1)
        quotas, _, _ = await subject.store.take([*wide, narrow])
        assert [(quota.allowed, quota.remaining) for quota in quotas] == [(True, 8)] * 3 + [(True, 0)]
        for _ in range(3):
            quotas, _, _ = await subject.store.take([narrow, *wide])
            assert [(quota.allowed, quota.remaining) for quota in quotas] == [(False, 0)] + [(True, 8)] * 3
        quotas, _, _ = await subject.store.take([(key, meter, 8) for key, meter, _ in wide])
        assert all(quota.allowed for quota in quotas)


async def test_all_kinds_together_are_taken_atomically(subject: Subject) -> None:
    limits = [30, 7, 100]
    takes = [(b"%d" % i, meters(limit)[i], 1) for i, limit in enumerate(limits)]
    answers = await asyncio.gather(*(subject.store.take(takes) for _ in range(60)))
    passed = [quotas for quotas, _, _ in answers if all(quota.allowed for quota in quotas)]
    assert len(passed) == 7
    assert sorted(quotas[2].remaining for quotas in passed) == list(range(93, 100))
    quotas, _, _ = await subject.store.take([(key, meter, 0) for key, meter, _ in takes])
    assert [quota.remaining for quota in quotas] == [23, 0, 93]


@every_kind
async def test_a_cost_of_0_asks_and_takes_nothing(subject: Subject, kind: int) -> None:
    meter = meters(10)[kind]
    for cost, remaining in ((0, 10), (4, 6), (0, 6), (6, 0), (0, 0), (0, 0)):
        (quota,), _, _ = await subject.store.take([(b"k", meter, cost)])
        assert (quota.allowed, quota.remaining, quota.retry_after) == (True, remaining, 0.0)


@every_kind
async def test_what_is_given_back_is_there_again_and_never_more(subject: Subject, kind: int) -> None:
    meter = meters(10)[kind]
    for cost, remaining in ((-3, 10), (10, 0), (-3, 3), (2, 1), (-100, 10), (10, 0)):
        (quota,), _, _ = await subject.store.take([(b"k", meter, cost)])
        assert (quota.allowed, quota.remaining) == (True, remaining)
    assert not (await subject.store.take([(b"k", meter, 1)]))[0][0].allowed


async def test_a_sliding_window_is_told_alike_by_every_store(subject: Subject) -> None:
    meter = SlidingWindow("p", 10, 3600.0)
    script = [  # seconds on, cost, and the answer
        (900, 4, (True, "p", 10, 3600.0, 6, 6300.0, 0.0)),
        (0, 7, (False, "p", 10, 3600.0, 6, 6300.0, 3600.0)),
        (2700, 7, (False, "p", 10, 3600.0, 6, 3600.0, 900.0)),
        (900, 7, (True, "p", 10, 3600.0, 0, 6300.0, 0.0)),
        (0, 1, (False, "p", 10, 3600.0, 0, 6300.0, 900.0)),
        (6300, 10, (True, "p", 10, 3600.0, 0, 7200.0, 0.0)),
    ]
    for seconds, cost, expected in script:
        subject.advance(seconds)
        quotas, _, _ = await subject.store.take([(b"k", meter, cost)])
        assert quotas == [expected]


async def test_a_calendar_window_is_told_alike_by_every_store(subject: Subject) -> None:
    meter = CalendarWindow("p", 10, "day", "UTC")
    script = [
        (0, 4, (True, "p", 10, 86_400.0, 6, 43_200.0, 0.0)),
        (3600, 7, (False, "p", 10, 86_400.0, 6, 39_600.0, 39_600.0)),
        (0, 6, (True, "p", 10, 86_400.0, 0, 39_600.0, 0.0)),
        (39_599.5, 1, (False, "p", 10, 86_400.0, 0, 0.5, 0.5)),
        (0.5, 1, (True, "p", 10, 86_400.0, 9, 86_400.0, 0.0)),
    ]
    for seconds, cost, expected in script:
        subject.advance(seconds)
        quotas, _, _ = await subject.store.take([(b"k", meter, cost)])
        assert quotas == [expected]


async def test_several_limits_are_taken_atomically(subject: Subject) -> None:
    takes = [(b"a", TEN, 1), (b"b", rate("r", 7, 3600.0), 1), (b"c", rate("s", 100, 3600.0), 1)]
    answers = await asyncio.gather(*(subject.store.take(takes) for _ in range(100)))
    passed = [quotas for quotas, _, _ in answers if all(quota.allowed for quota in quotas)]
    assert len(passed) == 7
    quotas, _, _ = await subject.store.take([(b"a", TEN, 3), (b"c", rate("s", 100, 3600.0), 93)])
    assert [(quota.allowed, quota.remaining) for quota in quotas] == [(True, 0), (True, 0)]


async def test_e13_each_key_of_redis_ends_when_its_debt_does(client: Client, make_store: MakeStore) -> None:
    store = make_store(prefix=b"test:")
    takes = [(b"%032d" % n, TEN, 1 + n % 10) for n in range(200)]
    await asyncio.gather(*(store.take([take]) for take in takes))
    assert await count_keys(client) == 200
    for key, _, cost in takes:
        left = await client.pttl(b"test:limit:" + key)
        assert cost * 360_000 - 30_000 < left <= cost * 360_000


async def test_e13_each_key_of_redis_ends_when_its_window_means_nothing_any_more(
    client: Client, make_store: MakeStore
) -> None:
    store = make_store(wall=lambda: NOON)
    _, sliding, calendar = meters(10)
    for _ in range(2):
        await store.take([(b"s", sliding, 1), (b"c", calendar, 1)])
    assert await count_keys(client) == 2
    seconds, micros = await client.time()
    into = (seconds - 1_735_689_600 + micros / 1e6) % 3600
    assert await client.pttl(b"gw:limit:s") / 1000 == pytest.approx(7200 - into, abs=5)
    assert await client.pttl(b"gw:limit:c:%d" % (NOON - 43_200)) / 1000 == pytest.approx(43_200 + LINGER, abs=5)


async def test_e13_what_is_all_given_back_leaves_no_key(client: Client, make_store: MakeStore) -> None:
    store = make_store()
    takes = [(b"%d" % i, meter, 3) for i, meter in enumerate(meters(10))]
    await store.take(takes)
    assert await count_keys(client) == 3
    await store.take([(key, meter, -3) for key, meter, _ in takes])
    assert await count_keys(client) == 0


async def test_gateways_whose_clocks_differ_by_seconds_share_a_calendar_window(
    client: Client, make_store: MakeStore
) -> None:
    stores = [make_store(wall=wall) for wall in (lambda: NOON, lambda: NOON - 3.0, lambda: NOON + 3.0)]
    calendar = meters(10)[2]
    answers = [(await stores[n % 3].take([(b"k", calendar, 1)]))[0] for n in range(15)]
    assert [quota.allowed for quota in answers] == [True] * 10 + [False] * 5


async def test_e12_the_clock_is_the_servers(client: Client, make_store: MakeStore) -> None:
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


async def test_e12_the_sliding_window_is_the_servers(client: Client, make_store: MakeStore) -> None:
    (quota,) = await make_store().take([(b"k", meters(10)[1], 1)])
    seconds, _ = await client.time()
    into = (seconds - 1_735_689_600) % 3600
    assert quota.reset_after == pytest.approx(7200 - into, abs=30)


async def test_e4_two_instances_share_one_limit(client: Client, make_store: MakeStore) -> None:
    stores = [make_store() for _ in range(2)]
    answers = await asyncio.gather(*(stores[n % 2].take([(b"k", TEN, 1)]) for n in range(60)))
    assert sum(quota.allowed for (quota,) in answers) == 10


async def test_e8_a_server_whose_scripts_were_flushed_is_taught_again(client: Client, make_store: MakeStore) -> None:
    errors: list[str] = []
    store = make_store(health=StoreHealth(on_error=lambda: errors.append("one")))
    for _ in range(3):
        await client.script_flush()
        answers = await asyncio.gather(*(store.take([(b"k", rate("r", 90, 3600.0), 1)]) for _ in range(20)))
        assert all(quota.allowed for (quota,) in answers)
    (quota,) = await store.take([(b"k", rate("r", 90, 3600.0), 1)])
    assert quota.remaining == 90 - 61  # nothing was counted twice
    assert errors == []


async def test_e8_a_flushed_server_counts_on_from_nothing(client: Client, make_store: MakeStore) -> None:
    store = make_store()
    for _ in range(2):
        answers = [await store.take([(b"k", THREE, 1)]) for _ in range(4)]
        assert [quota.allowed for (quota,) in answers] == [True, True, True, False]
        await client.flushall()


async def test_what_is_asked_in_one_turn_travels_together(client: Client, make_store: MakeStore) -> None:
    trips: list[float] = []
    store = make_store(observe=trips.append)
    await store.take([(b"k", TEN, 0)])
    trips.clear()
    await asyncio.gather(*(store.take([(b"%d" % n, TEN, 1)]) for n in range(200)))
    assert len(trips) == (len(client.get_primaries()) if isinstance(client, RedisCluster) else 1)
    assert 0 < trips[0] < 5


async def test_more_questions_than_one_call_takes_are_all_answered(client: Client, make_store: MakeStore) -> None:
    store = make_store()
    answers = await asyncio.gather(*(store.take([(b"k", rate("r", 900, 3600.0), 1)]) for _ in range(2 * MOST + 5)))
    assert sorted(quota.remaining for (quota,) in answers) == [*range(900 - 2 * MOST - 5, 900)]


async def test_a_key_of_somebody_else_concerns_only_who_asked_for_it(client: Client, make_store: MakeStore) -> None:
    store = make_store()
    await store.take([(b"mine", TEN, 0)])
    await client.hset("gw:limit:theirs", "field", "1")
    takes = [store.take([(b"theirs", TEN, 1)]), store.take([(b"mine", TEN, 1)])]
    theirs, mine = await asyncio.gather(*takes, return_exceptions=True)
    assert isinstance(theirs, StoreError)
    assert "WRONGTYPE" in str(theirs)
    assert [quota.remaining for quota in mine] == [9]  # type: ignore[union-attr]


async def test_a_caller_who_leaves_does_not_disturb_the_others(client: Client, make_store: MakeStore) -> None:
    errors: list[str] = []
    store = make_store(health=StoreHealth(on_error=lambda: errors.append("one")))
    await store.take([(b"k", TEN, 0)])  # of a cluster the nodes are known from now on
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
