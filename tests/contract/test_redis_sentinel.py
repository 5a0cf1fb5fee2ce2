"""A master that sentinels watch over: promoted, killed, demoted; and what it needs to be found."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.auth.records import StoredKey
from gateway.auth.shared_records import SharedRecords
from gateway.limits.clients import LOOK, connect
from gateway.limits.redis import RedisStore
from tests.contract.conftest import store_over
from tests.contract.steady import THREE, steady
from tests.servers import SentinelServers, sentinel_servers, until

TIMEOUT = 0.05
MARGIN = 0.5
"""Seconds a machine that runs other tests, too, may add to the timeout before a test calls it late."""

HELLO = 2.0
"""Seconds within which sentinels tell each other, and twice the time for which a store is left alone."""

KEY = StoredKey("key_0123456789ab", "acme", "sha256:" + "0" * 64, 1.8e9, None, "")
KEYS = [b"%d" % n for n in range(20)]


@pytest.fixture(scope="module")
def servers() -> Iterator[SentinelServers]:
    """For all tests of this file, in their order: the last one kills what the others need."""
    with sentinel_servers() as servers:
        yield servers


@contextlib.asynccontextmanager
async def stores(servers: SentinelServers, number: int) -> AsyncIterator[list[RedisStore]]:
    made = [store_over(servers.url, TIMEOUT) for _ in range(number)]
    try:
        for store in made:  # the first connection may take longer than the timeout
            while not await store.check():
                await asyncio.sleep(0.01)
        yield made  # type: ignore[misc]
    finally:
        for store in made:
            await store.close()


async def test_the_master_is_found_where_some_sentinels_are_not(servers: SentinelServers) -> None:
    client = connect(servers.url, TIMEOUT)
    servers.sentinels[0].freeze()  # not for long: after two seconds it would not trust its own clock any more
    try:
        assert (await client.info("replication"))["role"] == "master"
    finally:
        servers.sentinels[0].thaw()
        await client.aclose()


async def test_a_failover_by_the_operator_is_hardly_noticed(servers: SentinelServers) -> None:
    async with stores(servers, 2) as (one, two), steady(one, KEYS) as stream:
        old = servers.master
        started = time.monotonic()
        servers.sentinels[0].ask("SENTINEL", "FAILOVER", "main")
        promoted = await stream.until(lambda: servers.master is not old, 5.0)
        gone = await stream.back(started + promoted, 5.0)
        print(f"promoted after {promoted:.2f} s, shared again {gone:.2f} s later")  # noqa: T201
        assert gone < 2.0
        assert stream.slowest < TIMEOUT + MARGIN
        # The old one is a master for eight more seconds, and keeps its connections: all leave it nevertheless.
        for number in itertools.count():
            key = b"after-%d" % number
            allowed = [(await (one, two)[n % 2].take([(key, THREE, 1)]))[0].allowed for n in range(4)]
            if allowed == [True, True, True, False] and servers.master.ask("EXISTS", b"gw:limit:" + key):
                break
            assert time.monotonic() - started - promoted < 10
            await asyncio.sleep(0.05)
        shared = time.monotonic() - started - promoted
        print(f"by both after {shared:.2f} s")  # noqa: T201
        assert shared < LOOK + HELLO + MARGIN
        old.ask("REPLICAOF", "127.0.0.1", servers.master.port)  # before the sentinels do, for the next test
        until(old.in_step)


async def test_a_master_that_is_killed_is_replaced(servers: SentinelServers) -> None:
    """The last one: the servers cannot be used after it."""
    client = connect(servers.url, 1.0)
    records = SharedRecords(client)
    try:
        assert await records.put(KEY) == 1
        async with stores(servers, 2) as (one, two), steady(one, KEYS) as stream:
            old = servers.master
            assert old.ask("WAIT", 1, 1000) == 1
            started = time.monotonic()
            old.kill()
            promoted = await stream.until(lambda: servers.master is not old, 10.0)
            gone = await stream.back(started + promoted, 5.0)
            print(f"promoted after {promoted:.2f} s, shared again {gone:.2f} s later")  # noqa: T201
            assert gone < HELLO + MARGIN
            assert stream.slowest < TIMEOUT + MARGIN
            end = time.monotonic() + HELLO
            while not await two.check():
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
            assert (await two.take([(b"killed", THREE, 1)]))[0].allowed
            assert servers.master.ask("EXISTS", "gw:limit:killed") == 1
        found = await records.fetch(None)
        assert found is not None
        assert found.keys == (KEY,)
        assert await records.remove(KEY.id) == 2
    finally:
        await client.aclose()
