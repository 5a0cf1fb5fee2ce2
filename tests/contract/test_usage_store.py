"""Usage in a real store: added up exactly, bounded, expiring; and neither lost nor doubled when the store is away."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from gateway.exchange import Call, Caller
from gateway.limits.clients import connect
from gateway.telemetry.usage import DAYS, HOURS, HOURS_KEPT, Batch, Key, Tally, UsageCounter, UsageStoreError
from gateway.telemetry.usage_store import SCANNED, UsageStore, open_store
from tests.fakes import Clock, make_call
from tests.servers import StoreServer

HOUR = 3600
DAY = 86400
KEEP = 35.0 * DAY
NOW = time.time()
THIS_HOUR = int(NOW // HOUR)
H, D = (
    f"gw:usage:{letter}:{time.strftime(form, time.gmtime(NOW))}"
    for letter, form in (("h", "%Y%m%d%H"), ("d", "%Y%m%d"))
)
OTHER = ("", "other", "orders", "")


@pytest.fixture
def store(client: Redis) -> UsageStore:
    return UsageStore(client, keep=KEEP)


def counter(most: int = 10_000) -> UsageCounter:
    return UsageCounter(most, Clock(NOW))


def a_call(consumer: str, route: str = "orders") -> Call:
    call = make_call()
    call.caller, call.route = Caller(consumer, "idp", "idp"), route
    return call


async def everything(store: UsageStore, unit=HOURS) -> dict[tuple[str, str, str], tuple[int, int, int, int]]:
    """What the store has of this hour or day."""
    found = {}
    first = int(NOW // unit.seconds)
    async for counted in store.read(unit, first, first + 1):
        for key, numbers in counted:
            assert key not in found
            found[key] = numbers
    return found


def batch(number: int, *names: str, worker: str = "w1", hour: int = THIS_HOUR) -> Batch:
    return Batch(worker, number, hour, tuple((("idp", name, "orders", ""), [1, 0, 0, 0.5]) for name in names))


# -- adding up -----------------------------------------------------------------------------------------


async def test_the_counters_of_two_workers_add_up_exactly(client: Redis, shared_server: StoreServer) -> None:
    expected: dict[str, int] = {}
    stores = [open_store(shared_server.url, "gw:", 10_000, KEEP) for _ in range(2)]
    workers = [counter() for _ in stores]

    async def work(worker: UsageCounter, store: UsageStore) -> None:
        for i in range(5000):
            name = f"u{i * i % 997}"
            expected[name] = expected.get(name, 0) + 1
            worker.count(a_call(name), 500 if i % 10 == 0 else 200, 0.001)
            if i % 1000 == 999:
                await worker.flush(store)

    try:
        await asyncio.gather(*map(work, workers, stores))
        assert sum(expected.values()) == 10_000
        for unit in (HOURS, DAYS):
            found = await everything(stores[0], unit)
            assert {key: numbers[0] for key, numbers in found.items()} == {
                ("idp", name, "orders", ""): calls for name, calls in expected.items()
            }
            assert [sum(column) for column in zip(*found.values(), strict=True)] == [10_000, 1000, 0, 10_000_000]
    finally:
        for store in stores:
            await store.close()


async def test_an_hour_also_counts_for_its_day(store: UsageStore) -> None:
    midnight = THIS_HOUR // 24 * 24
    for number, hour in enumerate((midnight, midnight + 23), 1):
        await store.add(batch(number, "a", hour=hour))
    assert await everything(store, DAYS) == {("idp", "a", "orders", ""): (2, 0, 0, 1_000_000)}


async def test_the_layout_in_the_store_is_as_documented(store: UsageStore, client: Redis) -> None:
    await store.add(batch(1, "user-17"))
    assert {name.decode() for name in await client.keys()} == {H, D}
    fields = {b"orders\tidp\tuser-17": b"1 0 0 500000", b"#of:w1": b"1", b"#known": b"1"}
    assert await client.hgetall(H) == fields
    assert await client.hgetall(D) == fields


async def test_prefixes_keep_gateways_apart(client: Redis) -> None:
    await UsageStore(client, prefix=b"one:", keep=KEEP).add(batch(1, "a"))
    assert await everything(UsageStore(client, prefix=b"two:", keep=KEEP)) == {}


async def test_hours_live_for_two_days_and_days_for_as_long_as_configured(client: Redis) -> None:
    await UsageStore(client, keep=90.0 * DAY).add(batch(1, "a"))
    hour_ends, day_ends = (THIS_HOUR + 1) * HOUR, (THIS_HOUR // 24 + 1) * DAY
    assert await client.expiretime(H) == hour_ends + HOURS_KEPT
    assert await client.expiretime(D) == day_ends + 90 * DAY


async def test_what_comes_too_late_is_not_kept(store: UsageStore, client: Redis) -> None:
    await store.add(batch(1, "a", hour=THIS_HOUR - 50 - 24 * 35))
    assert await client.keys() == []


# -- the bound -----------------------------------------------------------------------------------------


async def test_beyond_the_bound_new_callers_are_counted_together(client: Redis) -> None:
    store = UsageStore(client, callers=100, keep=KEEP)
    await store.add(batch(1, *(f"u{i}" for i in range(90))))
    await store.add(batch(1, *(f"v{i}" for i in range(90)), worker="w2"))
    await store.add(batch(2, "u0", "v0", "v89"))
    for unit in (HOURS, DAYS):
        found = await everything(store, unit)
        assert len(found) == 101
        assert found[OTHER] == (81, 0, 0, 40_500_000)
        assert found["idp", "u0", "orders", ""][0] == found["idp", "v0", "orders", ""][0] == 2
    assert await client.hlen(H) == 101 + 3  # and what the script notes: two workers, how many are known


async def test_what_the_workers_counted_together_takes_nobodys_place(client: Redis) -> None:
    store = UsageStore(client, callers=1, keep=KEEP)
    together = Batch("w1", 1, THIS_HOUR, ((OTHER, [5, 1, 1, 0.0]), (("idp", "a", "orders", ""), [1, 0, 0, 0.0])))
    await store.add(together)
    assert await everything(store) == {OTHER: (5, 1, 1, 0), ("idp", "a", "orders", ""): (1, 0, 0, 0)}


# -- reading -------------------------------------------------------------------------------------------


async def test_more_than_one_scan_brings_everybody_once(store: UsageStore) -> None:
    names = [f"user-{i}" for i in range(3 * SCANNED)]
    for at in range(0, len(names), 250):
        await store.add(batch(at + 1, *names[at : at + 250]))
    assert len(await everything(store)) == 3 * SCANNED


async def test_names_in_any_script_come_back_as_they_were(store: UsageStore) -> None:
    names = ["jürgen 🙂", "CORP\\x", '"quoted" {json}', "a b", "\\t"]
    await store.add(batch(1, *names))
    assert {consumer for _, consumer, *_ in await everything(store)} == set(names)


async def test_what_is_no_count_is_left_out(store: UsageStore, client: Redis) -> None:
    await store.add(batch(1, "a"))
    rubbish = {
        b"orders\tidp\tb": b"many",
        b"orders\tidp\tc": b"1 2 3",
        b"orders\tidp\td": b"-1 0 0 0",
        b"orders\tidp\te": b"9" * 500 + b" 0 0 0",
        b"orders\tidp": b"1 0 0 0",
        b"a\tb\tc\td\te": b"1 0 0 0",
        b"orders\t\xff\tf": b"1 0 0 0",
        b"orders\tidp\tg\n": b"1 0 0 0",
        b"": b"",
    }
    await client.hset(H, mapping=rubbish)
    await client.hset(H, b"orders\tidp\t\x1b[2J", b"7 0 0 0")
    assert await everything(store) == {
        ("idp", "a", "orders", ""): (1, 0, 0, 500_000),
        ("idp", "\\x1b[2J", "orders", ""): (7, 0, 0, 0),
    }
    await client.hset(H, mapping={b"#known": b"rubbish", b"#of:w1": b"rubbish"})
    await store.add(batch(2, "a", "b"))
    found = await everything(store)
    assert found["idp", "a", "orders", ""][0] == 2
    assert found["idp", "b", "orders", ""][0] == 1


async def test_something_else_under_a_days_name_costs_that_day_only(
    store: UsageStore, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await client.set(D, "mine")
    for number in (1, 2):
        await store.add(batch(number, "a"))
    assert (await everything(store))["idp", "a", "orders", ""][0] == 2
    assert await client.get(D) == b"mine"
    with pytest.raises(UsageStoreError, match="WRONGTYPE"):
        await everything(store, DAYS)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "gateway.usage"]
    assert D in line


# -- the store goes away -------------------------------------------------------------------------------


@asynccontextmanager
async def reporting(server: StoreServer) -> AsyncIterator[tuple[UsageCounter, UsageStore]]:
    store = UsageStore(connect(server.url, 0.1), keep=KEEP)
    try:
        yield counter(), store
    finally:
        await store.close()


async def eventually(worker: UsageCounter, store: UsageStore) -> None:
    """Until everything has arrived."""
    end = time.monotonic() + 10
    while worker.unsent:
        assert time.monotonic() < end
        try:
            await worker.flush(store)
        except UsageStoreError:
            await asyncio.sleep(0.02)


async def test_what_is_counted_while_the_store_is_away_arrives_when_it_is_back(own_server: StoreServer) -> None:
    async with reporting(own_server) as (worker, store):
        own_server.kill()
        for i in range(1000):
            worker.count(a_call(f"u{i % 300}"), 200, 0.001)
            if i % 250 == 0:
                with pytest.raises(UsageStoreError):
                    await worker.flush(store)
        own_server.start()
        await eventually(worker, store)
        found = await everything(store)
        assert len(found) == 300
        assert [sum(column) for column in zip(*found.values(), strict=True)] == [1000, 0, 0, 1_000_000]


async def test_a_store_that_hears_and_does_not_answer_counts_nothing_twice(own_server: StoreServer) -> None:
    async with reporting(own_server) as (worker, store):
        for name in ("a", "b"):
            worker.count(a_call(name), 200, 0.0)
        await worker.flush(store)
        own_server.freeze()
        for name in ("a", "a", "c"):
            worker.count(a_call(name), 200, 0.0)
            for _ in range(2):
                with pytest.raises(UsageStoreError):
                    await worker.flush(store)  # the system takes it, and will hand it over
        own_server.thaw()
        await eventually(worker, store)
        worker.count(a_call("a"), 200, 0.0)
        await worker.flush(store)
        assert {key[1]: numbers[0] for key, numbers in (await everything(store)).items()} == {"a": 4, "b": 1, "c": 1}


async def test_a_batch_that_comes_twice_is_counted_once_and_others_of_its_worker_each(store: UsageStore) -> None:
    for number in (1, 1, 2, 1, 2, 3):
        await store.add(batch(number, "a"))
    await store.add(batch(1, "a", worker="w2"))
    for unit in (HOURS, DAYS):
        assert (await everything(store, unit))["idp", "a", "orders", ""][0] == 4


async def test_a_full_store_keeps_its_workers_waiting(own_server: StoreServer) -> None:
    async with reporting(own_server) as (worker, store), Redis.from_url(own_server.url) as admin:
        await admin.config_set("maxmemory-policy", "noeviction")
        await admin.config_set("maxmemory", "1")
        worker.count(a_call("a"), 200, 0.0)
        with pytest.raises(UsageStoreError, match="memory"):
            await worker.flush(store)
        await admin.config_set("maxmemory", "0")
        await worker.flush(store)
        assert (await everything(store))["idp", "a", "orders", ""][0] == 1


async def test_every_method_tells_that_the_store_is_away_in_time(own_server: StoreServer) -> None:
    async with reporting(own_server) as (_, store):
        for trouble in (own_server.freeze, own_server.kill):
            trouble()
            started = time.monotonic()
            with pytest.raises(UsageStoreError):
                await store.add(batch(1, "a"))
            with pytest.raises(UsageStoreError):
                await everything(store)
            assert time.monotonic() - started < 3


async def test_versions_are_told_apart_and_overflow_each_for_itself(client: Redis) -> None:
    store = UsageStore(client, callers=100, keep=KEEP)

    def called(name: str, version: str) -> tuple[Key, Tally]:
        return ("idp", name, "orders", version), [1, 0, 0, 0.0]

    await store.add(Batch("w1", 1, THIS_HOUR, tuple(called("a", version) for version in ("v1", "v1", "v2", ""))))
    assert {key[3]: numbers[0] for key, numbers in (await everything(store)).items()} == {"v1": 2, "v2": 1, "": 1}
    assert b"orders\tidp\ta\tv1" in await client.hgetall(H)
    await store.add(Batch("w1", 2, THIS_HOUR, tuple(called(f"u{number}", "v1") for number in range(200))))
    assert (await everything(store))["", "other", "orders", "v1"][0] == 200 - 97
