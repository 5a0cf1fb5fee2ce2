"""Fixtures for suites that run over every shared store: one Redis, the embedded one, behind sentinels, a cluster."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest

from gateway.limits.clients import Client, ClusterClient, connect
from gateway.limits.cluster import ClusterStore
from gateway.limits.redis import RedisStore
from tests.servers import StoreServer, cluster_servers, embedded_server, redis_server, sentinel_servers

ONE_SERVER: dict[str, Callable[[], AbstractContextManager[StoreServer]]] = {
    "redis": redis_server,
    "embedded": embedded_server,
}
"""Quick to start, so each test can have its own."""

KINDS: dict[str, Callable[[], AbstractContextManager[StoreServer]]] = {
    **ONE_SERVER,
    "sentinel": sentinel_servers,
    "cluster": cluster_servers,
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


@pytest.fixture(params=ONE_SERVER)
def own_server(request: pytest.FixtureRequest) -> Iterator[StoreServer]:
    """A server for this test alone, to kill or freeze."""
    with ONE_SERVER[request.param]() as server:
        yield server


@pytest.fixture
async def client(shared_server: StoreServer) -> AsyncIterator[Client]:
    """A client of the shared server, which is empty at the beginning."""
    client = connect(shared_server.url, timeout=5.0)
    if isinstance(client, ClusterClient):  # which counts the keys of one node unless told otherwise
        client.command_flags.update(dict.fromkeys(("DBSIZE", "KEYS"), client.PRIMARIES))
    await client.flushall()
    yield client
    await client.aclose()


def store_over(url: str, timeout: float = 5.0, **options: Any) -> RedisStore | ClusterStore:
    """Takes a generous timeout: slow machines run this too, and what most tests look at is the counting."""
    client = connect(url, timeout)
    if isinstance(client, ClusterClient):
        return ClusterStore(client, timeout=timeout, **options)
    return RedisStore(client, timeout=timeout, **options)


@pytest.fixture
async def make_store(
    client: Client, shared_server: StoreServer
) -> AsyncIterator[Callable[..., RedisStore | ClusterStore]]:
    """Makes stores on the shared, empty server, and closes them also when the test has failed."""
    made: list[RedisStore | ClusterStore] = []

    def make(**options: Any) -> RedisStore | ClusterStore:
        made.append(store_over(shared_server.url, **options))
        return made[-1]

    yield make
    for store in made:
        await store.close()
