"""The shared store killed, frozen, restarted or useless: every answer comes in time, and by the configured policy."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.errors import Shed
from gateway.exchange import Quota
from gateway.limits.clients import connect
from gateway.limits.failover import OnFailure, SharedStore
from gateway.limits.gcra import rate
from gateway.limits.health import StoreHealth
from gateway.limits.redis import FLIGHTS, RedisStore
from gateway.limits.store import StoreError
from tests.servers import StoreServer, free_port

TIMEOUT = 0.05
MARGIN = 0.5
"""Seconds a machine that runs other tests, too, may add to the timeout before a test calls it late."""

PAUSE = 0.1
RATE = rate("r", 5, 3600.0)


@asynccontextmanager
async def store_of(
    url: str, on_failure: OnFailure = "local", failures: int = 3, within: float = TIMEOUT
) -> AsyncIterator[SharedStore]:
    redis = RedisStore(connect(url, within), timeout=within, health=StoreHealth(failures, PAUSE))
    store = SharedStore(redis, on_failure=on_failure)
    try:
        yield store
    finally:
        await store.close()


async def ask(store: SharedStore, key: bytes = b"k") -> tuple[bool, str, bool]:
    quotas, how, waited = await store.take([(key, RATE, 1)])
    return all(quota.allowed for quota in quotas), how, waited


async def connected(store: SharedStore) -> None:
    """Until the store has answered: the first connection may take longer than the timeout."""
    await until(store, lambda how: how == "")


async def until(store: SharedStore, wanted: Callable[[str], bool]) -> None:
    end = time.monotonic() + 10
    while not wanted((await ask(store, b"warm-up"))[1]):
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def timed(answer: Awaitable[object]) -> float:
    started = time.monotonic()
    await answer
    return time.monotonic() - started


async def timed_out(store: RedisStore, key: bytes) -> float:
    """The seconds after which the store gave up on this key."""
    started = time.monotonic()
    with pytest.raises(StoreError):
        await store.take([(key, RATE, 1)])
    return time.monotonic() - started


async def eventually(store: RedisStore, key: bytes) -> list[Quota]:
    end = time.monotonic() + 10
    while True:
        try:
            return await store.take([(key, RATE, 1)])
        except StoreError:
            assert time.monotonic() < end


@pytest.mark.parametrize("trouble", ["kill", "freeze"])
async def test_e7_without_redis_limits_are_counted_here(own_server: StoreServer, trouble: str) -> None:
    async with store_of(own_server.url, "local") as store:
        await connected(store)
        getattr(own_server, trouble)()
        answers = []
        for _ in range(8):
            started = time.monotonic()
            answers.append(await ask(store))
            assert time.monotonic() - started < TIMEOUT + MARGIN
        assert [allowed for allowed, _, _ in answers] == [True] * 5 + [False] * 3
        assert {how for _, how, _ in answers} == {"local"}
        assert not store.health.up


@pytest.mark.parametrize("trouble", ["kill", "freeze"])
async def test_e7_without_redis_an_open_limit_lets_pass(own_server: StoreServer, trouble: str) -> None:
    async with store_of(own_server.url, "open") as store:
        await connected(store)
        getattr(own_server, trouble)()
        for _ in range(8):
            started = time.monotonic()
            quotas, how, _ = await store.take([(b"k", RATE, 1)])
            assert (quotas, how) == ((), "open")
            assert time.monotonic() - started < TIMEOUT + MARGIN


@pytest.mark.parametrize("trouble", ["kill", "freeze"])
async def test_e7_without_redis_a_closed_limit_sheds(own_server: StoreServer, trouble: str) -> None:
    async with store_of(own_server.url, "closed") as store:
        await connected(store)
        getattr(own_server, trouble)()
        for _ in range(5):
            started = time.monotonic()
            with pytest.raises(Shed) as caught:
                await ask(store)
            assert (caught.value.status, caught.value.code) == (503, "overloaded")
            assert caught.value.retry_after > 0
            assert time.monotonic() - started < TIMEOUT + MARGIN


async def test_e7_a_frozen_redis_holds_up_many_callers_no_longer_than_one(own_server: StoreServer) -> None:
    async with store_of(own_server.url, "local") as store:
        await connected(store)
        own_server.freeze()
        late = []
        for _ in range(20):  # more turns of the loop than pipelines may be on their way
            late += [asyncio.create_task(timed(ask(store))) for _ in range(10)]
            await asyncio.sleep(0)
        assert max(await asyncio.gather(*late)) < TIMEOUT + MARGIN
        assert not store.health.up
        assert await ask(store) == (False, "local", False)  # and now nobody waits any more
        own_server.thaw()


async def test_e7_it_is_the_stores_timeout_that_counts_not_the_sockets(own_server: StoreServer) -> None:
    client = connect(own_server.url, timeout=30.0)
    store = RedisStore(client, timeout=TIMEOUT, health=StoreHealth(failures=1000))
    try:
        await client.ping()
        own_server.freeze()
        waves = []
        for wave in range(FLIGHTS + 2):  # the last two find every pipeline taken, and are not sent
            waves.append(asyncio.create_task(timed_out(store, b"wave-%d" % wave)))
            await asyncio.sleep(0.001)
        assert max(await asyncio.gather(*waves)) < TIMEOUT + 1.0
        own_server.thaw()
        (quota,) = await eventually(store, b"after")
        assert quota.allowed
    finally:
        await store.close()  # which lets everything that is on its way land
    # What was sent has been counted; what was not sent, and is answered, is never sent later.
    async with Redis.from_url(own_server.url) as admin:
        counted = await admin.keys(b"gw:limit:wave-*")
    assert sorted(counted) == [b"gw:limit:wave-%d" % wave for wave in range(FLIGHTS)]


@pytest.fixture(params=["port", "socket"])
def nobody(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a server that was never there."""
    return f"redis://127.0.0.1:{free_port()}/0" if request.param == "port" else f"unix://{tmp_path}/none.sock?db=0"


async def test_e7_a_redis_that_was_never_there_stops_nobody(nobody: str) -> None:
    async with store_of(nobody, "local") as store:
        assert await timed(ask(store)) < TIMEOUT + MARGIN
        assert [(await ask(store))[1] for _ in range(5)] == ["local"] * 5
        assert not store.health.up


@pytest.mark.parametrize("trouble", ["restart", "freeze"])
async def test_e8_limits_are_shared_again_once_redis_is_back(own_server: StoreServer, trouble: str) -> None:
    async with store_of(own_server.url, "local", failures=1) as store:
        await connected(store)
        own_server.kill() if trouble == "restart" else own_server.freeze()
        await until(store, lambda how: how == "local")
        assert not store.health.up
        own_server.start() if trouble == "restart" else own_server.thaw()
        await until(store, lambda how: how == "")
        assert store.health.up
        assert (await ask(store, b"new"))[1:] == ("", True)


async def test_while_redis_is_away_it_is_asked_once_per_pause(own_server: StoreServer) -> None:
    async with store_of(own_server.url, "local", failures=1) as store:
        await connected(store)
        own_server.freeze()
        await until(store, lambda how: how == "local")
        assert not store.health.up
        started, asked = time.monotonic(), 0
        while time.monotonic() - started < 4 * PAUSE:
            asked += (await ask(store))[2]
            await asyncio.sleep(0.001)
        assert 1 <= asked <= 4
        own_server.thaw()


async def test_each_change_is_one_line_in_the_log(own_server: StoreServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "gateway.store")
    async with store_of(own_server.url, "local") as store:
        await connected(store)
        caplog.clear()
        own_server.kill()
        for _ in range(20):
            await ask(store)
        own_server.start()
        await until(store, lambda how: how == "")
        for _ in range(5):
            await ask(store)
    lines = [record.getMessage() for record in caplog.records if record.name == "gateway.store"]
    assert len(lines) == 2
    assert lines[0].startswith("the store is away (ConnectionError")
    assert lines[1].startswith("the store is back")


async def test_e8_a_connection_closed_by_the_server_goes_unnoticed(own_server: StoreServer) -> None:
    async with store_of(own_server.url, "closed", within=2.0) as store:  # to connect anew may take its time here
        await connected(store)
        async with Redis.from_url(own_server.url) as admin:
            for _ in range(5):
                await admin.client_kill_filter(_type="normal", skipme=True)
                await asyncio.sleep(0.01)
                assert (await ask(store, b"other"))[1] == ""


async def test_a_redis_that_refuses_to_write_is_as_good_as_away(own_server: StoreServer) -> None:
    async with store_of(own_server.url, "local", failures=1) as store:
        await connected(store)
        async with Redis.from_url(own_server.url) as admin:
            await admin.replicaof("127.0.0.1", str(free_port()))  # read-only from now on, as after a failover
            assert (await ask(store))[1] == "local"
            assert not store.health.up
            await admin.replicaof("NO", "ONE")
        await until(store, lambda how: how == "")


async def test_a_key_that_somebody_else_wrote_costs_only_itself(own_server: StoreServer) -> None:
    async with store_of(own_server.url, "local", failures=1) as store, Redis.from_url(own_server.url) as admin:
        await connected(store)
        await admin.lpush("gw:limit:list", "x")
        await admin.set("gw:limit:text", "x")
        hows = await asyncio.gather(*(ask(store, key) for key in (b"good", b"list", b"text")))
        assert [how for _, how, _ in hows] == ["", "local", ""]
        assert store.health.up


async def test_closing_lets_what_is_on_its_way_land(own_server: StoreServer) -> None:
    redis = RedisStore(connect(own_server.url, 5.0), timeout=5.0)
    asked = asyncio.create_task(redis.take([(b"k", RATE, 1)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await redis.close()
    assert (await asked)[0].allowed


async def test_a_store_that_is_away_at_the_start_says_so_before_anybody_asks_it(
    nobody: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gateway.store")
    errors: list[str] = []
    health = StoreHealth(3, 60.0, on_error=lambda: errors.append("one"))
    store = SharedStore(RedisStore(connect(nobody, TIMEOUT), timeout=TIMEOUT, health=health))
    try:
        assert not await store.check()
        assert not await store.check()
        assert not store.health.up
        assert len(errors) == 2
        assert (await ask(store))[1:] == ("local", False)  # nobody waits for it
    finally:
        await store.close()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "gateway.store"]
    assert line.startswith("the store is away (ConnectionError")


async def test_a_check_is_bounded_where_a_server_is_frozen_and_sees_it_come_back(own_server: StoreServer) -> None:
    async with store_of(own_server.url) as store:
        assert await store.check()
        own_server.freeze()
        assert await timed(store.check()) < 2 * TIMEOUT + MARGIN
        assert not store.health.up
        own_server.thaw()
        assert await store.check()
        assert store.health.up
