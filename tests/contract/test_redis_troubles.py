"""Stores that cannot be used: each is a failure like others, and one line in the log with its cause and cure."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from gateway.limits.failover import SharedStore
from gateway.limits.gcra import rate
from tests.contract.conftest import store_over
from tests.servers import (
    PASSWORD,
    SENTINEL_PASSWORD,
    ClusterServers,
    RedisServer,
    SentinelServers,
    StoreServer,
    redis_server,
)

TIMEOUT = 0.05
TEN = rate("ten", 10, 3600.0)
SECRET = "hunter2hunter2"

OfKind = Callable[[str], StoreServer]


@pytest.fixture(scope="module")
def alone() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@contextlib.asynccontextmanager
async def answering(answer: Callable[[bytes], bytes]) -> AsyncIterator[int]:
    """The port of a server that gives this answer to whatever it reads."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while heard := await reader.read(1 << 16):
                writer.write(answer(heard))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def lines_of(url: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of a store that is asked and checked many times. It must not be of use."""
    caplog.set_level(logging.DEBUG)
    shared = store_over(url, TIMEOUT)
    store = SharedStore(shared, on_failure="local")
    try:
        for _ in range(8):
            quotas, how, _ = await store.take([(b"k", TEN, 1), (b"l", TEN, 1)])
            assert how == "local"
            assert [quota.policy for quota in quotas] == ["ten", "ten"]
            assert not await store.check()
        assert not store.health.up
    finally:
        await store.close()
    said = [record.getMessage() for record in caplog.records]
    for secret in (SECRET, PASSWORD, SENTINEL_PASSWORD, "hunter2", "s3cret"):
        assert not any(secret in line for line in said)
    return [record.getMessage() for record in caplog.records if record.name == "gateway.store"]


def told(lines: list[str], cure: str) -> None:
    """One line, or one for each of three nodes, and all with this cure."""
    assert lines
    expected = re.compile(r".* is away \(.*" + re.escape(cure) + r".*\): limits follow store.on_failure")
    assert all(map(expected.fullmatch, lines))
    assert len(set(lines)) == len(lines)


async def test_a_wrong_password(server_of_kind: OfKind, caplog: pytest.LogCaptureFixture) -> None:
    master = server_of_kind("sentinel").servers[0]  # type: ignore[attr-defined]
    lines = await lines_of(f"redis://:{SECRET}@127.0.0.1:{master.port}", caplog)
    assert len(lines) == 1
    told(lines, "check user and password in store.url")


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
@pytest.mark.parametrize("login", ["", f":{SECRET}@", f"nobody:{SECRET}@"], ids=["none", "wrong", "unknown user"])
async def test_a_wrong_password_for_several_servers(
    server_of_kind: OfKind, caplog: pytest.LogCaptureFixture, kind: str, login: str
) -> None:
    url = re.sub("//.*@", "//" + login, server_of_kind(kind).url)
    lines = await lines_of(url, caplog)
    assert len(lines) == 1
    told(lines, "check user and password in store.url")


async def test_a_wrong_password_for_the_sentinels(server_of_kind: OfKind, caplog: pytest.LogCaptureFixture) -> None:
    url = re.sub("sentinel_password=.*", f"sentinel_password={SECRET}", server_of_kind("sentinel").url)
    lines = await lines_of(url, caplog)
    assert len(lines) == 1
    told(lines, "is the name in store.url theirs, do they answer")


async def test_a_name_that_no_sentinel_knows(server_of_kind: OfKind, caplog: pytest.LogCaptureFixture) -> None:
    lines = await lines_of(server_of_kind("sentinel").url.replace("/main", "/mian"), caplog)
    assert len(lines) == 1
    told(lines, "is the name in store.url theirs")
    assert "'mian'" in lines[0]


async def test_a_server_that_is_no_sentinel(alone: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    lines = await lines_of(f"redis+sentinel://127.0.0.1:{alone.port}/main", caplog)
    assert len(lines) == 1
    told(lines, "store.url must name sentinels")


async def test_a_server_that_is_no_cluster(alone: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    lines = await lines_of(f"redis+cluster://127.0.0.1:{alone.port}", caplog)
    assert len(lines) == 1
    told(lines, "it is a single server: say redis:// in store.url")


async def test_one_node_of_a_cluster_as_if_it_were_alone(
    server_of_kind: OfKind, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = server_of_kind("cluster")
    assert isinstance(cluster, ClusterServers)
    lines = await lines_of(cluster.spare.url, caplog)  # it has no slot, so it refuses all of them
    assert len(lines) == 1
    told(lines, "say redis+cluster:// in store.url")


@pytest.mark.parametrize("scheme", ["redis://", "redis+sentinel://", "redis+cluster://"])
async def test_a_port_that_speaks_http(caplog: pytest.LogCaptureFixture, scheme: str) -> None:
    async with answering(lambda heard: b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as port:
        lines = await lines_of(f"{scheme}:{SECRET}@127.0.0.1:{port}" + "/main" * ("sentinel" in scheme), caplog)
    assert len(lines) == 1
    told(lines, "no Redis listens there")


async def test_an_old_server_that_repeats_what_it_does_not_know(caplog: pytest.LogCaptureFixture) -> None:
    def unknown(heard: bytes) -> bytes:
        return (
            b"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `%s`, \r\n"
            % SECRET.encode()
        )

    async with answering(unknown) as port:
        lines = await lines_of(f"redis://:{SECRET}@127.0.0.1:{port}", caplog)
    assert len(lines) == 1
    assert "unknown command" in lines[0]


async def test_a_read_only_replica_named_directly(server_of_kind: OfKind, caplog: pytest.LogCaptureFixture) -> None:
    servers = server_of_kind("sentinel")
    assert isinstance(servers, SentinelServers)
    (replica,) = [server for server in servers.servers if server is not servers.master]
    lines = await lines_of(replica.url, caplog)
    assert len(lines) == 1
    told(lines, "it is a replica: name its master in store.url")


@pytest.mark.parametrize("kind", ["redis", "sentinel", "cluster"])
async def test_a_full_redis(
    server_of_kind: OfKind, alone: RedisServer, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    servers = server_of_kind(kind) if kind != "redis" else alone
    match servers:
        case ClusterServers():
            full = servers.masters
        case SentinelServers():
            full = [servers.master]
        case _:
            full = [alone]
    try:
        for server in full:
            server.ask("CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "noeviction")
        lines = await lines_of(servers.url, caplog)
    finally:
        for server in full:
            server.ask("CONFIG", "SET", "maxmemory", "0")
    assert len(lines) == len(full)
    told(lines, "it is full: raise its maxmemory")


async def test_a_user_who_may_not_run_scripts(alone: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    alone.ask("ACL", "SETUSER", "reader", "on", f">{SECRET}", "~*", "+@read")
    lines = await lines_of(f"redis://reader:{SECRET}@127.0.0.1:{alone.port}", caplog)
    assert len(lines) == 1
    told(lines, "its ACL must let the user in store.url run scripts")
