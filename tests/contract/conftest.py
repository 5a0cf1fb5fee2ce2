"""Fixtures for suites that run over every rate store."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.limits.redis import RedisStore, connect
from tests.servers import RedisServer, redis_server


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RedisServer]:
    """One server for all tests that leave it as they found it."""
    with redis_server() as server:
        yield server


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server for this test alone, to kill or freeze."""
    with redis_server() as server:
        yield server


@pytest.fixture
async def client(shared_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of the shared server, which is empty at the beginning."""
    client = connect(shared_server.url, timeout=5.0)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def make_store(client: Redis, shared_server: RedisServer) -> AsyncIterator[Callable[..., RedisStore]]:
    """Makes stores on the shared, empty server, and closes them also when the test has failed.

    With a generous timeout: slow machines run this too, and what it tests is the counting.
    """
    made: list[RedisStore] = []

    def make(**options: Any) -> RedisStore:
        made.append(RedisStore(connect(shared_server.url, 5.0), timeout=5.0, **options))
        return made[-1]

    yield make
    for store in made:
        await store.close()
