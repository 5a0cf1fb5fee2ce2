"""Fixtures for suites that run over every rate store: a Redis on a port, and the embedded store on its socket."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.limits.redis import RedisStore, connect
from tests.servers import StoreServer, embedded_server, redis_server

KINDS: dict[str, Callable[[], AbstractContextManager[StoreServer]]] = {
    "redis": redis_server,
    "embedded": embedded_server,
}


@pytest.fixture(scope="session")
def server_of_kind() -> Iterator[Callable[[str], StoreServer]]:
    """One server of each kind for all tests that leave it as they found it, started when it is first needed."""
    running: dict[str, StoreServer] = {}
    with ExitStack() as stack:

        def of(kind: str) -> StoreServer:
            if kind not in running:
                running[kind] = stack.enter_context(KINDS[kind]())
            return running[kind]

        yield of


@pytest.fixture(params=KINDS)
def shared_server(request: pytest.FixtureRequest, server_of_kind: Callable[[str], StoreServer]) -> StoreServer:
    """A server that other tests use, too."""
    return server_of_kind(request.param)


@pytest.fixture(params=KINDS)
def own_server(request: pytest.FixtureRequest) -> Iterator[StoreServer]:
    """A server for this test alone, to kill or freeze."""
    with KINDS[request.param]() as server:
        yield server


@pytest.fixture
async def client(shared_server: StoreServer) -> AsyncIterator[Redis]:
    """A client of the shared server, which is empty at the beginning."""
    client = connect(shared_server.url, timeout=5.0)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def make_store(client: Redis, shared_server: StoreServer) -> AsyncIterator[Callable[..., RedisStore]]:
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
