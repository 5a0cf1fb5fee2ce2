"""The pool of upstream connections: what is reused, what waits, and that no place is ever lost."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from gateway.errors import DeadlinePassed, Shed, UpstreamFailed
from gateway.http import resolving
from gateway.http.client import UpstreamConnection
from gateway.http.pool import Pool


class Listener:
    """Accepts connections and leaves them alone."""

    def __init__(self) -> None:
        self.accepted: list[asyncio.StreamWriter] = []
        self.port = 0

    async def visited(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(writer)

    def pool(self, limit: int = 1024, idle_timeout: float = 60.0, connect_timeout: float = 1.0) -> Pool:
        return Pool("127.0.0.1", self.port, limit=limit, idle_timeout=idle_timeout, connect_timeout=connect_timeout)


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener()
    server = await asyncio.start_server(listener.visited, "127.0.0.1", 0)
    listener.port = server.sockets[0].getsockname()[1]
    yield listener
    server.close()
    for writer in listener.accepted:
        writer.transport.abort()
    await asyncio.sleep(0.001)


def soon() -> float:
    return time.monotonic() + 5


async def become(pool: Pool, busy: int, idle: int) -> None:
    """Wait for the kernel to tell both ends; fails when the numbers do not come about."""
    async with asyncio.timeout(2):
        while (pool.busy, pool.idle) != (busy, idle):
            await asyncio.sleep(0.001)


async def waiting(pool: Pool) -> "asyncio.Task[UpstreamConnection]":
    """Somebody who stands in line for a connection."""
    task = asyncio.ensure_future(pool.connect(soon()))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_the_most_recently_used_connection_is_taken_first(listener: Listener) -> None:
    pool = listener.pool()
    first, second = await pool.connect(soon()), await pool.connect(soon())
    assert (pool.busy, pool.idle) == (2, 0)
    pool.release(second)
    pool.release(first)
    assert (pool.busy, pool.idle) == (0, 2)
    assert pool.take() is first
    assert pool.take() is second
    assert pool.take() is None
    for connection in (first, second):
        connection.abort()
    await become(pool, 0, 0)


async def test_no_more_connections_than_the_limit_and_the_next_to_come_free_goes_to_who_waits(
    listener: Listener,
) -> None:
    pool = listener.pool(limit=1)
    only = await pool.connect(soon())
    first, second = await waiting(pool), await waiting(pool)
    pool.release(only)
    assert await first is only
    assert (pool.busy, pool.idle) == (1, 0)  # it is in use again, and not at rest as well
    assert pool.take() is None
    pool.release(only)
    assert await second is only
    pool.release(only)
    assert (pool.busy, pool.idle) == (0, 1)
    assert len(listener.accepted) == 1
    pool.close()
    await become(pool, 0, 0)


async def test_who_waited_longest_gets_the_place_of_a_connection_that_is_gone(listener: Listener) -> None:
    pool = listener.pool(limit=1)
    only = await pool.connect(soon())
    first, second = await waiting(pool), await waiting(pool)
    only.abort()
    fresh = await first
    assert fresh is not only
    assert not second.done()
    assert pool.busy == 1
    fresh.abort()
    (await second).abort()
    await become(pool, 0, 0)


async def test_a_newcomer_does_not_take_the_place_that_was_promised(listener: Listener) -> None:
    pool = listener.pool(limit=1)
    only = await pool.connect(soon())
    first = await waiting(pool)
    pool.lost(only)
    newcomer = asyncio.ensure_future(pool.connect(soon()))  # before `first` had its turn
    fresh = await first
    assert not newcomer.done()
    pool.release(fresh)
    assert await newcomer is fresh
    only.abort()
    fresh.abort()
    await become(pool, 0, 0)


async def test_a_waiter_who_leaves_with_a_connection_in_hand_passes_it_on(listener: Listener) -> None:
    pool = listener.pool(limit=1)
    only = await pool.connect(soon())
    first, second = await waiting(pool), await waiting(pool)
    pool.release(only)
    first.cancel()  # handed over, but not woken yet
    assert await second is only
    assert first.cancelled()
    pool.release(only)
    assert (pool.busy, pool.idle) == (0, 1)
    pool.close()
    await become(pool, 0, 0)


async def test_a_waiter_who_leaves_with_a_place_in_hand_passes_it_on(listener: Listener) -> None:
    pool = listener.pool(limit=1)
    only = await pool.connect(soon())
    first, second = await waiting(pool), await waiting(pool)
    pool.lost(only)
    first.cancel()
    fresh = await second
    assert pool.busy == 1
    only.abort()
    fresh.abort()
    await become(pool, 0, 0)


async def test_a_waiter_who_leaves_is_passed_over(listener: Listener) -> None:
    pool = listener.pool(limit=1)
    only = await pool.connect(soon())
    first, second = await waiting(pool), await waiting(pool)
    first.cancel()
    pool.release(only)
    assert await second is only
    only.abort()
    await become(pool, 0, 0)


async def test_a_connection_that_dies_on_its_way_to_a_waiter_is_not_handed_over(listener: Listener) -> None:
    pool = listener.pool(limit=1)
    only = await pool.connect(soon())
    first = await waiting(pool)
    pool.release(only)
    only.abort()
    fresh = await first
    assert fresh is not only
    assert not fresh.transport.is_closing()
    fresh.abort()
    await become(pool, 0, 0)


async def test_who_waits_too_long_is_told_that_the_service_is_busy(listener: Listener) -> None:
    pool = listener.pool(limit=1, connect_timeout=0.01)
    only = await pool.connect(soon())
    with pytest.raises(Shed) as refusal:
        await pool.connect(soon())
    assert (refusal.value.status, refusal.value.code) == (503, "overloaded")
    pool.release(only)
    assert pool.idle == 1
    pool.close()
    await become(pool, 0, 0)


async def test_a_failed_connect_gives_its_place_to_who_waits(listener: Listener) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        pool = Pool("127.0.0.1", probe.getsockname()[1], limit=1)
        tries = [asyncio.ensure_future(pool.connect(soon())) for _ in range(3)]
        async with asyncio.timeout(0.5):  # less than they would wait for one another
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UpstreamFailed] * 3
    assert all(isinstance(o, UpstreamFailed) and not o.sent for o in outcomes)
    assert pool.busy == 0


async def test_a_cancelled_connect_gives_its_place_back(listener: Listener) -> None:
    pool = listener.pool(limit=1)
    task = asyncio.ensure_future(pool.connect(soon()))
    await asyncio.sleep(0)
    assert pool.busy == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await become(pool, 0, 0)
    (await pool.connect(soon())).abort()
    await become(pool, 0, 0)


async def test_a_connection_the_upstream_closed_at_rest_leaves_the_pool(listener: Listener) -> None:
    pool = listener.pool()
    pool.release(await pool.connect(soon()))
    async with asyncio.timeout(2):
        while not listener.accepted:
            await asyncio.sleep(0.001)
    listener.accepted[0].close()
    await become(pool, 0, 0)
    assert pool.take() is None


async def test_a_connection_that_rested_too_long_is_retired_and_a_fresher_one_is_not(listener: Listener) -> None:
    pool = listener.pool(idle_timeout=0.05)
    old, fresh = await pool.connect(soon()), await pool.connect(soon())
    pool.release(old)
    await asyncio.sleep(0.03)
    pool.release(fresh)
    await become(pool, 0, 1)
    assert pool.take() is fresh
    assert old.transport.is_closing()
    pool.release(fresh)
    await become(pool, 0, 0)


async def test_no_time_left_is_the_callers_deadline_and_not_the_upstreams_fault(listener: Listener) -> None:
    with pytest.raises(DeadlinePassed):
        await listener.pool().connect(time.monotonic() - 1)


async def test_a_closed_pool_closes_what_comes_back(listener: Listener) -> None:
    pool = listener.pool()
    resting, used = await pool.connect(soon()), await pool.connect(soon())
    pool.release(resting)
    pool.close()
    assert resting.transport.is_closing()
    pool.release(used)
    assert used.transport.is_closing()
    await become(pool, 0, 0)


async def test_connections_are_made_while_the_dns_is_away(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    away = False

    async def system(host: str, port: int) -> list[str]:
        if away:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return ["127.0.0.1"]

    monkeypatch.setattr(resolving, "system", system)
    monkeypatch.setattr(resolving, "FRESH", 0.0)
    pool = Pool("orders.internal", listener.port)
    first = await pool.connect(soon())
    away = True
    second = await pool.connect(soon())
    first.abort()
    second.abort()
    await become(pool, 0, 0)


async def test_a_name_that_never_led_anywhere_is_an_upstream_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def system(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(resolving, "system", system)
    pool = Pool("orders.internal", 80)
    with pytest.raises(UpstreamFailed) as failure:
        await pool.connect(soon())
    assert (failure.value.code, failure.value.sent) == ("upstream_unreachable", False)
    assert pool.busy == 0


async def test_a_lookup_without_end_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    over = asyncio.Event()

    async def system(host: str, port: int) -> list[str]:
        await over.wait()
        return []

    monkeypatch.setattr(resolving, "system", system)
    pool = Pool("orders.internal", 80, connect_timeout=0.01)
    with pytest.raises(UpstreamFailed):
        await pool.connect(soon())
    assert pool.busy == 0
    over.set()
