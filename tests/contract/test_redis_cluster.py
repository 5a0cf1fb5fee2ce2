"""A cluster: limits on several nodes, slots that move, nodes that freeze, die and are replaced."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.crc import key_slot

from gateway.auth.records import StoredKey
from gateway.auth.shared_records import SharedRecords, SharedRecordsError
from gateway.limits.clients import ClusterClient, connect
from gateway.limits.cluster import ClusterStore
from gateway.limits.gcra import rate
from gateway.limits.health import StoreHealth
from gateway.limits.store import StoreError, Take
from tests.contract.steady import MANY, THREE, steady
from tests.servers import CLUSTER_SLOTS, ClusterServers, RedisServer, cluster_servers, until

TIMEOUT = 0.1
MARGIN = 0.5
"""Seconds a machine that runs other tests, too, may add to the timeout before a test calls it late."""

TEN = rate("ten", 10, 3600.0)


@pytest.fixture(scope="module")
def servers() -> Iterator[ClusterServers]:
    """For all tests of this file, in their order: the last ones kill what the others need."""
    with cluster_servers() as servers:
        yield servers


@contextlib.asynccontextmanager
async def store_of(servers: ClusterServers, **options: object) -> AsyncIterator[ClusterStore]:
    client = connect(servers.url, TIMEOUT)
    assert isinstance(client, ClusterClient)
    store = ClusterStore(client, timeout=TIMEOUT, **options)  # type: ignore[arg-type]
    try:
        while not await store.check():
            await asyncio.sleep(0.01)
        await client.flushall()
        yield store
    finally:
        await store.close()


def slot_of(key: bytes) -> int:
    return int(key_slot(b"gw:limit:" + key))


def key_on(number: int, name: str = "key") -> bytes:
    """A key of the master with this number, as the slots were dealt out."""
    keys = (f"{name}-{n}".encode() for n in range(1000))
    return next(key for key in keys if slot_of(key) * 3 // CLUSTER_SLOTS == number)


def keys_on(number: int) -> list[bytes]:
    return [key_on(number, f"stream{n}") for n in range(8)]


def left(server: RedisServer, key: bytes) -> bool:
    """Whether this server has the key."""
    with contextlib.suppress(Exception):
        return bool(server.ask("EXISTS", b"gw:limit:" + key))
    return False


async def remaining(store: ClusterStore, key: bytes, meter: object = TEN) -> int:
    (quota,) = await store.take([(key, meter, 0)])  # type: ignore[list-item]
    return quota.remaining


# -- several limits of one request ---------------------------------------------------------------------


async def test_limits_of_one_request_are_on_several_nodes_and_in_no_common_slot(servers: ClusterServers) -> None:
    keys = [key_on(number) for number in range(3)]
    async with store_of(servers) as store:
        quotas = await store.take([(key, TEN, 2) for key in keys])
        assert [(quota.allowed, quota.remaining) for quota in quotas] == [(True, 8)] * 3
        assert [left(master, key) for master, key in zip(servers.masters, keys, strict=True)] == [True] * 3


async def test_what_was_taken_in_vain_is_given_back(servers: ClusterServers) -> None:
    one, two, three = (key_on(number) for number in range(3))
    async with store_of(servers) as store:
        await store.take([(two, THREE, 3)])
        for _ in range(20):
            quotas = await store.take([(one, TEN, 4), (two, THREE, 1), (three, TEN, 1)])
            assert [(quota.allowed, quota.remaining) for quota in quotas] == [(True, 10), (False, 0), (True, 10)]
        assert await remaining(store, one) == 10
        assert await remaining(store, three) == 10


async def test_keys_that_share_a_slot_are_asked_together(servers: ClusterServers) -> None:
    async with store_of(servers) as store:
        takes: list[Take] = [(b"{x}1", TEN, 1), (b"y", TEN, 1), (b"{x}2", THREE, 3), (b"{x}3", TEN, 1)]
        assert [quota.remaining for quota in await store.take(takes)] == [9, 9, 0, 9]
        assert [quota.allowed for quota in await store.take(takes)] == [True, True, False, True]
        assert [await remaining(store, key) for key in (b"{x}1", b"y", b"{x}3")] == [9, 9, 9]


async def test_who_leaves_takes_nothing_in_vain(servers: ClusterServers) -> None:
    one, two = (key_on(number) for number in range(2))
    async with store_of(servers) as store:
        await store.take([(two, THREE, 3)])
        asked = [asyncio.create_task(store.take([(one, TEN, 1), (two, THREE, 1)])) for _ in range(5)]
        await asyncio.sleep(0)
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)
        await asyncio.sleep(0.1)
        assert await remaining(store, one) == 10


# -- slots that move -----------------------------------------------------------------------------------


async def test_a_slot_that_moves_loses_no_permit_and_counts_none_twice(servers: ClusterServers) -> None:
    """To a master that has had no slot until then; some keys of the slot are there before it, some after."""
    key = key_on(1)
    slot, tag = slot_of(key), key.decode()
    old, new = servers.masters[1], servers.spare
    ids = {server: server.ask("CLUSTER", "MYID") for server in (old, new)}
    async with store_of(servers) as store:
        numbers = (b"%d" % n for n in range(1 << 20))
        late = next(each for each in numbers if slot_of(each) == slot)  # written while it moves
        async with steady(store, [key, *keys_on(0)]) as stream:
            new.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[old])
            old.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[new])
            # Several pipelines at a time, so that there are several connections to the new node.
            answers = []
            for _ in range(10):
                answers += [asyncio.create_task(store.take([(late, TEN, 1)])) for _ in range(2)]
                await asyncio.sleep(0.001)
            assert sum(quota.allowed for (quota,) in await asyncio.gather(*answers)) == 10
            assert (left(old, late), new.ask("CLUSTER", "COUNTKEYSINSLOT", slot)) == (False, 1)
            await asyncio.sleep(0.1)
            old.ask("MIGRATE", "127.0.0.1", new.port, f"gw:limit:{tag}", 0, 1000, "AUTH", new.password)
            await asyncio.sleep(0.2)
            for server in (new, *servers.masters):
                server.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[new])
            await asyncio.sleep(0.5)
        taken = stream.counted(keys=[key])
        assert all(taken)
        assert len(taken) > 10
        assert await remaining(store, key, MANY) == MANY.limit - len(taken)
        assert await remaining(store, late) == 0
        assert store.health.up


# -- nodes that are away -------------------------------------------------------------------------------


async def test_a_frozen_node_delays_only_its_own_keys(servers: ClusterServers) -> None:
    mine, others = keys_on(2), keys_on(0)
    errors: list[str] = []
    async with store_of(servers, health=StoreHealth(on_error=lambda: errors.append("one"))) as store:
        async with steady(store, mine + others) as stream:
            frozen = time.monotonic()
            servers.masters[2].freeze()
            try:
                await asyncio.sleep(0.25)  # less than it takes the others to call it failed
                assert not store.health.up
            finally:
                servers.masters[2].thaw()
            since = time.monotonic()
            gone = await stream.back(since, 5.0)
        print(f"back {gone:.2f} s after the node")  # noqa: T201
        counted = stream.counted(frozen, others)
        assert counted.count(False) <= len(counted) // 20  # a busy machine may be late by itself
        assert not all(stream.counted(frozen, mine))
        assert stream.slowest < TIMEOUT + MARGIN
        assert store.health.up
        assert errors


async def test_what_others_took_is_given_back_where_one_node_is_away(servers: ClusterServers) -> None:
    here, away = key_on(0), key_on(2)
    async with store_of(servers) as store:
        servers.masters[2].freeze()
        try:
            for _ in range(4):
                with pytest.raises(StoreError):
                    await store.take([(here, TEN, 1), (away, TEN, 1)])
            assert not store.health.up
            assert not await store.check()
            assert await remaining(store, here) == 10
        finally:
            servers.masters[2].thaw()
        until(lambda: b"cluster_state:ok" in servers.masters[0].ask("CLUSTER", "INFO"))
        end = time.monotonic() + 5
        while not await store.check():
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        assert store.health.up


async def test_a_failover_by_the_operator_is_hardly_noticed(servers: ClusterServers) -> None:
    async with store_of(servers) as store, steady(store, keys_on(0) + keys_on(1)) as stream:
        started = time.monotonic()
        servers.replica.ask("CLUSTER", "FAILOVER")
        promoted = await stream.until(lambda: _is_master(servers.replica), 5.0)
        gone = await stream.back(started, 5.0)
        print(f"promoted after {promoted:.2f} s, shared again after {gone:.2f} s")  # noqa: T201
        assert gone < 2.0
        assert stream.slowest < TIMEOUT + MARGIN
        await stream.until(servers.masters[0].in_step, 5.0)


async def test_a_master_that_is_killed_is_replaced_and_nobody_else_notices(
    servers: ClusterServers, caplog: pytest.LogCaptureFixture
) -> None:
    """The replica of the test before is the master now, and the old master its replica."""
    caplog.set_level(logging.WARNING, "gateway.store")
    mine, others = keys_on(0), keys_on(1)
    key = StoredKey("key_0123456789ab", "acme", "sha256:" + "0" * 64, 1.8e9, None, "")
    client = connect(servers.url, TIMEOUT)
    shared = SharedRecords(client, _prefix_on(0))
    try:
        assert await shared.put(key) == 1
        async with store_of(servers) as store, steady(store, mine + others) as stream:
            caplog.clear()
            killed = time.monotonic()
            servers.replica.kill()
            promoted = await stream.until(lambda: _is_master(servers.masters[0]), 10.0)
            gone = await stream.back(killed + promoted, 5.0)
            print(f"promoted after {promoted:.2f} s, shared again {gone:.2f} s later")  # noqa: T201
            assert gone < 2.0
            assert stream.slowest < TIMEOUT + MARGIN
            end = time.monotonic() + 5
            while not await store.check():
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
            while True:
                with contextlib.suppress(SharedRecordsError):
                    await shared.put(key)
                    break
                assert time.monotonic() < end
            found = await shared.fetch(None)
            assert found is not None
            assert found.keys == (key,)
        lines = [record.getMessage() for record in caplog.records if f":{servers.replica.port}" in record.getMessage()]
        assert len(lines) == 2
        assert "is away (" in lines[0]
        assert lines[1].startswith("others have the slots of node 127.0.0.1:")
    finally:
        await client.aclose()


def _is_master(server: RedisServer) -> bool:
    return bool(server.ask("ROLE")[0] == b"master")


def _prefix_on(number: int) -> bytes:
    """One with which the records belong to the master with this number."""
    prefixes = (b"gw%d:" % n for n in range(100))
    return next(each for each in prefixes if key_slot(each + b"records") * 3 // CLUSTER_SLOTS == number)
