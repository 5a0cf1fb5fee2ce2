"""One suite for all that keeps idempotency keys; then two workers at one real store, and the store going away."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.errors import Refused, Shed
from gateway.exchange import Call, Reply
from gateway.idempotency.background import Background
from gateway.idempotency.failover import SharedRecords
from gateway.idempotency.memory import MemoryRecords
from gateway.idempotency.records import Answer, Claim, Records, State, in_flight
from gateway.idempotency.redis import RedisRecords
from gateway.limits.clients import CONNECTIONS, Client, ClusterClient, connect
from gateway.limits.failover import OnFailure
from gateway.limits.health import StoreHealth
from gateway.limits.store import StoreError
from gateway.resilience.idempotency import Terms, idempotency
from tests.contract.conftest import KINDS
from tests.fakes import FakeTarget, make_call, read_all
from tests.servers import StoreServer, free_port

LEASE, KEEP = 30.0, 60.0
PRINT, OTHER = b"a" * 32, b"b" * 32
ANSWER = Answer(201, ((b"content-type", b"application/json"), (b"set-cookie", b"a=\xe9")), b'{"id":7}\n\x00')
TIMEOUT = 0.05
MARGIN = 0.5
"""Seconds a machine that runs other tests, too, may add to the timeout before a test calls it late."""


def claim(key: bytes = b"k", fingerprint: bytes = PRINT) -> Claim:
    return Claim(key, fingerprint, os.urandom(16))


@pytest.fixture(params=["memory", *KINDS])
async def records(
    request: pytest.FixtureRequest, server_of_kind: Callable[[str], StoreServer]
) -> AsyncIterator[Records]:
    """Empty, and generous with time."""
    if request.param == "memory":
        yield MemoryRecords()
        return
    client = connect(server_of_kind(request.param).url, 5.0)
    await client.flushall()
    records = RedisRecords(client, timeout=5.0)
    try:
        yield records
    finally:
        await records.close()


# -- what every store does -----------------------------------------------------------------------------


async def test_a_key_is_new_once(records: Records) -> None:
    assert await records.begin(claim(), LEASE) is State.NEW
    assert await records.begin(claim(), LEASE) is State.IN_FLIGHT
    assert await records.begin(claim(b"other"), LEASE) is State.NEW


async def test_the_answer_is_given_again_byte_for_byte(records: Records) -> None:
    first = claim()
    await records.begin(first, LEASE)
    await records.finish(first, ANSWER, KEEP)
    for _ in range(2):
        assert await records.begin(claim(), LEASE) == ANSWER


async def test_a_large_answer_comes_back(records: Records) -> None:
    first, answer = claim(), Answer(200, (), os.urandom(256 * 1024))
    await records.begin(first, LEASE)
    await records.finish(first, answer, KEEP)
    assert await records.begin(claim(), LEASE) == answer


async def test_an_answer_that_is_not_kept_leaves_its_mark(records: Records) -> None:
    first = claim()
    await records.begin(first, LEASE)
    await records.finish(first, None, KEEP)
    assert await records.begin(claim(), LEASE) is State.NOT_KEPT


@pytest.mark.parametrize("answer", [ANSWER, None, "in flight"])
async def test_another_request_with_the_same_key_is_told_apart(records: Records, answer: Answer | str | None) -> None:
    first = claim()
    await records.begin(first, LEASE)
    if not isinstance(answer, str):
        await records.finish(first, answer, KEEP)
    assert await records.begin(claim(fingerprint=OTHER), LEASE) is State.MISMATCH


async def test_an_abandoned_key_is_free(records: Records) -> None:
    first = claim()
    await records.begin(first, LEASE)
    await records.abandon(first)
    assert await records.begin(claim(fingerprint=OTHER), LEASE) is State.NEW


async def test_a_crashed_gateways_key_is_free_when_its_lease_is_over(records: Records) -> None:
    await records.begin(claim(), 0.05)
    await asyncio.sleep(0.08)
    assert await records.begin(claim(), LEASE) is State.NEW


async def test_an_answer_is_forgotten_after_its_time(records: Records) -> None:
    first = claim()
    await records.begin(first, LEASE)
    await records.finish(first, ANSWER, 0.05)
    await asyncio.sleep(0.08)
    assert await records.begin(claim(), LEASE) is State.NEW


async def test_who_lost_the_key_to_another_changes_nothing_any_more(records: Records) -> None:
    late, second = claim(), claim()
    await records.begin(late, 0.05)
    await asyncio.sleep(0.08)
    await records.begin(second, LEASE)
    await records.finish(late, ANSWER, KEEP)
    await records.abandon(late)
    assert await records.begin(claim(), LEASE) is State.IN_FLIGHT
    await records.finish(second, ANSWER, KEEP)
    await records.abandon(second)
    assert await records.begin(claim(), LEASE) == ANSWER


async def test_an_answer_that_comes_after_the_lease_is_kept_when_nobody_has_begun_anew(records: Records) -> None:
    late = claim()
    await records.begin(late, 0.05)
    await asyncio.sleep(0.08)
    await records.finish(late, ANSWER, KEEP)
    assert await records.begin(claim(), LEASE) == ANSWER


async def test_of_fifty_at_once_one_is_first(records: Records) -> None:
    begun = await asyncio.gather(*(records.begin(claim(), LEASE) for _ in range(50)))
    assert begun.count(State.NEW) == 1
    assert begun.count(State.IN_FLIGHT) == 49


# -- in Redis ------------------------------------------------------------------------------------------


async def test_the_layout_in_redis_is_as_documented(client: Client) -> None:
    records, first = RedisRecords(client, timeout=5.0), claim(b"00ff")
    await records.begin(first, LEASE)
    assert await client.get("gw:idem:00ff") == in_flight(first)
    assert 0 < await client.pttl("gw:idem:00ff") <= LEASE * 1000
    await records.finish(first, ANSWER, KEEP)
    assert LEASE * 1000 < await client.pttl("gw:idem:00ff") <= KEEP * 1000


async def test_rubbish_under_a_key_is_answered_without_doing_anything_twice(client: Client) -> None:
    await client.set("gw:idem:k", b"1a rubbish", px=60_000)
    assert await RedisRecords(client, timeout=5.0).begin(claim(), LEASE) is State.NOT_KEPT


async def test_something_else_under_a_keys_name_is_a_failure_of_the_store(client: Client) -> None:
    await client.rpush("gw:idem:k", "mine")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await RedisRecords(client, timeout=5.0).begin(claim(), LEASE)


# -- two workers ---------------------------------------------------------------------------------------


class Worker:
    """A worker's layer over the shared store, in front of an upstream that counts."""

    def __init__(self, url: str, upstream: Callable[[Call], Awaitable[Reply]]) -> None:
        self.records = SharedRecords(RedisRecords(connect(url, 5.0), timeout=5.0))
        self.background = Background()
        terms = Terms("Idempotency-Key", keep=KEEP, patience=5.0)
        self.send = idempotency(terms, self.records, self.background)(upstream)

    async def close(self) -> None:
        await self.background.land(1.0)
        await self.records.close()


async def test_fifty_repetitions_at_two_workers_reach_the_upstream_once(
    shared_server: StoreServer, client: Client
) -> None:
    target, done = FakeTarget(), 0

    async def upstream(call: Call) -> Reply:
        nonlocal done
        call.tried.append(target)
        done += 1
        await asyncio.sleep(0.02)
        return Reply(201, [], b"order %d" % done)

    async def insist(worker: Worker) -> bytes:
        """As a client would: come again while it is under way."""
        while True:
            try:
                reply = await worker.send(make_call("POST", [(b"idempotency-key", b"one")], b"{}"))
                return await read_all(reply.body)
            except Refused as error:
                if error.status != 409:
                    raise
                await asyncio.sleep(0.005)

    workers = [Worker(shared_server.url, upstream) for _ in range(2)]
    try:
        bodies = await asyncio.gather(*(insist(workers[n % 2]) for n in range(50)))
    finally:
        for worker in workers:
            await worker.close()
    assert (done, set(bodies)) == (1, {b"order 1"})


# -- the store is away ---------------------------------------------------------------------------------


def shared(url: str, on_failure: OnFailure = "local", timeout: float = TIMEOUT) -> SharedRecords:
    remote = RedisRecords(connect(url, timeout), timeout=timeout, health=StoreHealth(pause=0.1))
    return SharedRecords(remote, on_failure=on_failure)


async def stored(server: StoreServer) -> set[bytes]:
    """The keys in the store."""
    client = connect(server.url, 5.0)
    if isinstance(client, ClusterClient):  # which looks at one node unless told otherwise
        client.command_flags["KEYS"] = client.PRIMARIES
    try:
        return {key.removeprefix(b"gw:idem:") for key in await client.keys("gw:idem:*")}
    finally:
        await client.aclose()


@pytest.mark.parametrize("on_failure", ["local", "open"])
async def test_without_a_store_a_worker_remembers_for_itself(on_failure: OnFailure) -> None:
    records = shared(f"redis://127.0.0.1:{free_port()}/0", on_failure)
    try:
        first = claim()
        assert await records.begin(first, LEASE) is State.NEW
        assert await records.begin(claim(), LEASE) is State.IN_FLIGHT
        await records.finish(first, ANSWER, KEEP)
        assert await records.begin(claim(), LEASE) == ANSWER
        second = claim(b"second")
        await records.begin(second, LEASE)
        await records.abandon(second)
        assert await records.begin(claim(b"second"), LEASE) is State.NEW
    finally:
        await records.close()


async def test_without_a_store_closed_refuses() -> None:
    records = shared(f"redis://127.0.0.1:{free_port()}/0", "closed")
    try:
        with pytest.raises(Shed) as refused:
            await records.begin(claim(), LEASE)
        assert (refused.value.code, refused.value.status, refused.value.retry_after) == ("overloaded", 503, 1.0)
    finally:
        await records.close()


async def test_a_frozen_store_costs_its_timeout_and_soon_nothing(
    own_server: StoreServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    records = shared(own_server.url)
    try:
        warm_up = claim(b"warm-up")
        while not records.health.up or warm_up.key not in await stored(
            own_server
        ):  # the first connection may take longer than the timeout
            await records.begin(warm_up, 0.2)
        caplog.clear()
        own_server.freeze()
        started = time.monotonic()
        for number in range(30):
            assert await records.begin(claim(b"%d" % number), LEASE) is State.NEW
        assert time.monotonic() - started < 4 * TIMEOUT + 2 * MARGIN
        own_server.thaw()
        async with asyncio.timeout(10):
            while not records.health.up:
                await records.begin(claim(os.urandom(4)), LEASE)
                await asyncio.sleep(0.01)
        said = [record.getMessage() for record in caplog.records if record.name == "gateway.idempotency"]
        assert [line.split(" (")[0].split(":")[0] for line in said] == ["the store is away", "the store is back"]
        assert await records.begin(claim(b"0"), LEASE) is State.IN_FLIGHT  # it stays with this worker
    finally:
        own_server.thaw()
        await records.close()


async def test_a_reply_that_the_store_could_not_take_is_given_again_by_this_worker(own_server: StoreServer) -> None:
    records, first = shared(own_server.url, "closed", timeout=2.0), claim()
    try:
        assert await records.begin(first, LEASE) is State.NEW
        own_server.kill()
        await records.finish(first, ANSWER, KEEP)
        assert await records.begin(claim(), LEASE) == ANSWER
    finally:
        await records.close()


async def test_a_key_that_is_taken_too_late_is_freed_again(own_server: StoreServer) -> None:
    records = RedisRecords(connect(own_server.url, 0.5), timeout=0.2)
    try:
        await records.abandon(claim(b"warm-up"))
        own_server.freeze()
        with pytest.raises(StoreError, match="no answer within 200 ms"):
            await records.begin(claim(), LEASE)
        own_server.thaw()
        async with asyncio.timeout(5):
            while await records.begin(claim(b"k", OTHER), 0.001) is not State.NEW:
                await asyncio.sleep(0.01)
    finally:
        own_server.thaw()
        await records.close()


async def taken_by_nobody(server: StoreServer, records: RedisRecords, number: int) -> None:
    """So many callers that leave as soon as they have asked; then wait until their keys are free."""
    for key in range(number):
        asking = asyncio.ensure_future(records.begin(claim(b"%d" % key), LEASE))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert asking.cancelled()
    async with asyncio.timeout(5):
        while b"%d" % (number - 1) in await stored(server):
            await asyncio.sleep(0.01)


async def test_a_caller_that_leaves_while_its_key_is_taken_leaves_it_free(
    client: Client, shared_server: StoreServer
) -> None:
    records = RedisRecords(client, timeout=5.0)
    await records.abandon(claim(b"warm-up"))
    await taken_by_nobody(shared_server, records, 1)
    async with asyncio.timeout(5):
        while await records.begin(claim(b"0"), 0.001) is not State.NEW:
            await asyncio.sleep(0.01)


async def test_commands_of_callers_who_left_keep_their_connections(own_server: StoreServer) -> None:
    client = connect(own_server.url, 5.0)
    records = RedisRecords(client, timeout=5.0)
    try:
        await records.abandon(claim(b"warm-up"))
        before = (await client.info("stats"))["total_connections_received"]
        await taken_by_nobody(own_server, records, 20)
        after = (await client.info("stats"))["total_connections_received"]
        assert after - before <= CONNECTIONS + 5  # and those through which the test looks
        async with asyncio.timeout(5):
            while await stored(own_server):
                await asyncio.sleep(0.01)
    finally:
        await records.close()


async def test_a_hiccup_that_many_callers_feel_is_one_failure(own_server: StoreServer) -> None:
    records = RedisRecords(connect(own_server.url, 0.5), timeout=0.2)
    try:
        await records.abandon(claim(b"warm-up"))
        own_server.freeze()
        begun = await asyncio.gather(
            *(records.begin(claim(b"%d" % n), LEASE) for n in range(50)), return_exceptions=True
        )
        own_server.thaw()
        assert {type(outcome) for outcome in begun} == {StoreError}
        assert records.health.up
    finally:
        own_server.thaw()
        await records.close()


async def test_a_burst_travels_together(own_server: StoreServer) -> None:
    client = connect(own_server.url, 5.0)
    records = RedisRecords(client, timeout=5.0)
    try:
        before = (await client.info("stats"))["total_reads_processed"]
        begun = await asyncio.gather(*(records.begin(claim(b"%d" % n), LEASE) for n in range(500)))
        after = (await client.info("stats"))["total_reads_processed"]
        assert set(begun) == {State.NEW}
        assert after - before < 100
        assert len(await stored(own_server)) == 500
    finally:
        await records.close()
