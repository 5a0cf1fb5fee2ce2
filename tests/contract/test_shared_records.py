"""Keys and revocations that instances share through a real store: killed, emptied, and with rubbish of others in it."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.auth.ledger import Ledger, LedgerError
from gateway.auth.records import Contents, Records, Revocation, StoredKey, dump
from gateway.auth.shared_records import SharedRecords, SharedRecordsError
from gateway.exchange import Caller
from gateway.limits.clients import connect, end
from tests.servers import StoreServer

KEY = StoredKey("key_0123456789ab", "acme", "sha256:" + "0" * 64, 1.8e9, None, "für die Kasse")
ENDING = StoredKey("key_0123456789ab", "acme", "sha256:" + "0" * 64, 1.8e9, 1.9e9, "")
OTHER = StoredKey("key_000000000001", "acme", "sha256:" + "1" * 64, 1.8e9, None, "")
REVOCATION = Revocation("rev_0123456789ab", "t1", "", "main", None, 1.8e9, None)
HASH = "gw:records"

LOOK = 0.25
"""Seconds between two looks of a worker at the copy."""

WITHIN = 1.0
"""Seconds in which a revocation is in force everywhere."""


@pytest.fixture
def shared(client: Redis) -> SharedRecords:
    return SharedRecords(client)


# -- what is written, and read -----------------------------------------------------------------------


async def test_an_absent_hash_is_an_empty_list_of_version_0(shared: SharedRecords) -> None:
    assert await shared.fetch(None) == Contents(0, (), ())
    assert await shared.fetch(0) is None


async def test_what_was_put_is_fetched_until_it_is_removed(shared: SharedRecords) -> None:
    assert await shared.put(KEY, REVOCATION) == 1
    assert await shared.fetch(0) == Contents(1, (KEY,), (REVOCATION,))
    assert await shared.fetch(1) is None
    assert await shared.put(ENDING) == 2
    assert await shared.fetch(1) == Contents(2, (ENDING,), (REVOCATION,))
    assert await shared.remove(KEY.id, REVOCATION.id) == 3
    assert await shared.fetch(2) == Contents(3, (), ())


async def test_the_layout_in_redis_is_as_documented(shared: SharedRecords, client: Redis) -> None:
    await shared.put(KEY, REVOCATION)
    fields = await client.hgetall(HASH)
    assert fields.keys() == {b"version", b"key:key_0123456789ab", b"revocation:rev_0123456789ab"}
    assert fields[b"version"] == b"1"
    assert json.loads(fields[b"key:key_0123456789ab"])["consumer"] == "acme"


async def test_prefixes_keep_gateways_apart(client: Redis) -> None:
    one, two = SharedRecords(client, b"one:"), SharedRecords(client, b"two:")
    await one.put(KEY)
    assert await two.fetch(None) == Contents(0, (), ())
    assert await client.keys() == [b"one:records"]


async def test_what_depends_on_a_record_is_not_written_without_it(shared: SharedRecords) -> None:
    assert await shared.put(OTHER, ENDING, needed=KEY.id) == 0
    assert await shared.fetch(None) == Contents(0, (), ())
    await shared.put(KEY)
    assert await shared.put(OTHER, ENDING, needed=KEY.id) == 2
    found = await shared.fetch(None)
    assert found is not None
    assert set(found.keys) == {OTHER, ENDING}


async def test_what_was_lost_comes_back_and_what_is_there_stays(shared: SharedRecords) -> None:
    lost = Contents(57, (KEY,), (REVOCATION,))
    await shared.restore(lost, 0)
    assert await shared.fetch(57) == Contents(58, (KEY,), (REVOCATION,))
    await shared.put(ENDING)
    await shared.restore(lost, 59)
    found = await shared.fetch(None)
    assert found is not None
    assert found.keys == (ENDING,)


async def test_a_version_that_went_back_goes_beyond_what_anybody_knew(shared: SharedRecords) -> None:
    await shared.put(OTHER)
    await shared.restore(Contents(57, (KEY,), ()), 1)
    found = await shared.fetch(57)
    assert found is not None
    assert (found.version, set(found.keys)) == (58, {KEY, OTHER})


async def test_changes_at_the_same_time_are_all_counted(shared: SharedRecords) -> None:
    keys = [StoredKey(f"key_{i:012x}", "acme", f"sha256:{i:064x}", 1.8e9, None, "") for i in range(100)]
    versions = await asyncio.gather(*map(shared.put, keys))
    assert sorted(versions) == list(range(1, 101))
    found = await shared.fetch(None)
    assert found is not None
    assert set(found.keys) == set(keys)


async def test_what_is_no_record_is_left_out_and_told_once(
    shared: SharedRecords, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await shared.put(KEY)
    rubbish = {
        "key:key_000000000001": b"nonsense",
        "key:key_000000000002": dump(OTHER),  # under another's name
        "revocation:key_000000000001": dump(OTHER),
        "revocation:rev_000000000003": b'{"jti": "t1"}',
        "note\n\x1b[31m": b"\xff",
        "": b"",
    }
    await client.hset(HASH, mapping=rubbish)
    for _ in range(3):
        assert await shared.fetch(None) == Contents(1, (KEY,), ())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "6" in record.getMessage()
    assert record.getMessage().isprintable()
    await client.hset(HASH, "one more", b"")
    await shared.fetch(None)
    assert len(caplog.records) == 2


@pytest.mark.parametrize("version", [b"", b"many", b"-1", b"1.5", b"9" * 5000])
async def test_a_version_that_is_no_number_is_an_error(shared: SharedRecords, client: Redis, version: bytes) -> None:
    await client.hset(HASH, "version", version)
    for known in (None, 7):
        with pytest.raises(SharedRecordsError, match="version"):
            await shared.fetch(known)


async def test_something_else_under_its_name_is_an_error(shared: SharedRecords, client: Redis) -> None:
    await client.set(HASH, "mine")
    for ask in (shared.fetch(None), shared.fetch(1), shared.put(KEY), shared.remove(KEY.id)):
        with pytest.raises(SharedRecordsError, match="WRONGTYPE"):
            await ask
    with pytest.raises(SharedRecordsError, match="WRONGTYPE"):
        await shared.restore(Contents(1, (KEY,), ()), 0)


async def test_a_store_that_is_away_is_an_error_of_one_kind(own_server: StoreServer) -> None:
    client = connect(own_server.url, timeout=0.1)
    shared = SharedRecords(client)
    try:
        await shared.put(KEY)
        for trouble in (own_server.freeze, own_server.kill):
            trouble()
            for ask in (shared.fetch(None), shared.put(KEY), shared.remove(KEY.id)):
                with pytest.raises(SharedRecordsError):
                    await ask
    finally:
        await client.aclose()


# -- several instances ---------------------------------------------------------------------------------


class Instance:
    """An operator's ledger that follows, and what one worker knows of it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.client = connect(url, timeout=1.0)
        self.copy = folder / "records"
        folder.mkdir()
        self.ledger = Ledger(self.copy, SharedRecords(self.client))
        self.records = Records(self.copy)
        self.records.expected = True
        self._tasks = [asyncio.create_task(self.ledger.follow()), asyncio.create_task(self._work())]

    async def _work(self) -> None:
        while True:
            await self.records.look()
            await asyncio.sleep(LOOK)

    def revoked(self, jti: str) -> bool:
        return self.records.loaded and self.records.revoked(Caller(provider="main", claims={"jti": jti}))

    async def end(self) -> None:
        for task in self._tasks:
            await end(task)
        await self.client.aclose()


@contextlib.asynccontextmanager
async def instances(server: StoreServer, folder: Path, *names: str) -> AsyncIterator[list[Instance]]:
    made = [Instance(server.url, folder / name) for name in names]
    try:
        yield made
    finally:
        for each in made:
            await each.end()


async def until(there: Callable[[], bool], within: float = 10.0) -> float:
    """The seconds that it took."""
    started = time.monotonic()
    while not there():
        assert time.monotonic() - started < within
        await asyncio.sleep(0.005)
    return time.monotonic() - started


async def test_a_revocation_is_in_force_at_every_instance_within_a_second(
    client: Redis, shared_server: StoreServer, tmp_path: Path
) -> None:
    async with instances(shared_server, tmp_path, "one", "two") as (one, two):
        await until(lambda: one.records.loaded and two.records.loaded)

        def everywhere(jti: str) -> bool:
            return one.revoked(jti) and two.revoked(jti)

        took = []
        for i in range(4):
            await asyncio.sleep(0.07 * i)  # at different moments between two looks
            await one.ledger.revoke(jti=f"t{i}")
            took.append(await until(partial(everywhere, f"t{i}"), WITHIN))
        print("in force everywhere after", [f"{seconds:.3f} s" for seconds in took])  # noqa: T201
        made = await two.ledger.create_key("acme")
        digest = bytes.fromhex(made.record.digest.removeprefix("sha256:"))
        await until(lambda: one.records.consumer_of(digest) == "acme", WITHIN)
        await one.ledger.revoke_key(made.record.id)
        await until(lambda: two.records.consumer_of(digest) is None, WITHIN)


async def test_the_last_list_outlives_the_store_and_comes_back_with_an_empty_one(
    own_server: StoreServer, tmp_path: Path
) -> None:
    async with instances(own_server, tmp_path, "one", "two") as (one, two):
        await one.ledger.revoke(jti="t1")
        await until(lambda: two.revoked("t1"))
        own_server.kill()
        with pytest.raises(LedgerError, match="the store is away: nothing was changed") as caught:
            await one.ledger.revoke(jti="t2")
        assert caught.value.status == 503
        async with instances(own_server, tmp_path, "late") as (late,):
            await asyncio.sleep(2 * LOOK)
            assert one.revoked("t1")
            assert two.revoked("t1")
            assert not late.copy.exists()
            assert not late.records.loaded
            own_server.start()  # at the same address, and empty
            await until(lambda: late.revoked("t1"))
            assert [each.jti for each in late.ledger.revocations()] == ["t1"]
            await late.ledger.revoke(jti="t2")
            await until(lambda: one.revoked("t2") and two.revoked("t2"))
            assert one.revoked("t1")
            assert two.revoked("t1")


async def test_a_flush_does_not_make_revoked_tokens_good_again(
    client: Redis, shared_server: StoreServer, tmp_path: Path
) -> None:
    async with instances(shared_server, tmp_path, "one", "two") as both:
        one, two = both
        for i in range(50):
            await both[i % 2].ledger.revoke(jti=f"t{i}")
        await until(lambda: len(one.ledger.revocations()) == len(two.ledger.revocations()) == 50)
        for _ in range(3):
            await client.flushall()
            await until(lambda: len(one.ledger.revocations()) == 50 == len(two.ledger.revocations()))
            shared = SharedRecords(client)
            end = time.monotonic() + 5
            while (found := await shared.fetch(None)) is None or len(found.revocations) < 50:
                assert time.monotonic() < end
                await asyncio.sleep(0.01)
        assert all(each.revoked(f"t{i}") for each in both for i in range(50))


async def test_a_store_that_hangs_holds_up_nobody_but_whoever_changes_something(
    own_server: StoreServer, tmp_path: Path
) -> None:
    async with instances(own_server, tmp_path, "one") as (one,):
        await one.ledger.revoke(jti="t1")
        await until(lambda: one.revoked("t1"))
        own_server.freeze()
        change = asyncio.create_task(one.ledger.revoke(jti="t2"))
        started = time.monotonic()
        while not change.done():
            assert one.revoked("t1")
            before = time.monotonic()
            await asyncio.sleep(0.01)
            assert time.monotonic() - before < 0.5
        assert time.monotonic() - started < 6
        with pytest.raises(LedgerError):
            await change
        own_server.thaw()
        deadline = time.monotonic() + 5
        while True:
            with contextlib.suppress(LedgerError):
                await one.ledger.revoke(jti="t3")
                break
            assert time.monotonic() < deadline
        await until(lambda: one.revoked("t3"))
