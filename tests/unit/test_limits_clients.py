import asyncio

import pytest
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import MasterNotFoundError, SentinelManagedSSLConnection
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    InvalidResponse,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.limits.clients import CONNECTIONS, LONGEST_TROUBLE, ClusterClient, MasterPool, connect, trouble


def options(client: Redis) -> dict[str, object]:
    found: dict[str, object] = client.connection_pool.connection_kwargs
    return found


# -- what a URL gives ------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["redis://:p%40ss@h:7000/3", "unix:///run/store.sock?db=3", "redis+sentinel://h/n/3"])
def test_a_client_of_one_server_fails_fast_and_has_few_connections(url: str) -> None:
    client = connect(url, 0.2)
    assert isinstance(client, Redis)
    assert isinstance(client.connection_pool, BlockingConnectionPool)
    assert client.connection_pool.max_connections == CONNECTIONS
    found = options(client)
    assert (found["socket_timeout"], found["socket_connect_timeout"], found["db"]) == (0.4, 0.4, 3)
    assert found["retry"].get_retries() == 0  # type: ignore[attr-defined]


def test_a_socket_gets_a_tenth_of_a_second_at_least() -> None:
    client = connect("redis://h", 0.01)
    assert isinstance(client, Redis)
    assert options(client)["socket_timeout"] == 0.1


def test_sentinels_have_a_login_of_their_own() -> None:
    url = "redis+sentinel://me:a%2Fb@h1,[::1]:7/main?sentinel_username=w&sentinel_password=c%26d"
    client = connect(url, 0.05)
    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert isinstance(pool, MasterPool)
    assert pool.service_name == "main"
    assert (options(client)["username"], options(client)["password"]) == ("me", "a/b")
    asked = [options(sentinel) for sentinel in pool.sentinel_manager.sentinels]
    assert [(each["host"], each["port"]) for each in asked] == [("h1", 26379), ("::1", 7)]
    for each in asked:
        assert (each["username"], each["password"], each["socket_timeout"]) == ("w", "c&d", 0.1)
        assert each["retry"].get_retries() == 0  # type: ignore[attr-defined]


def test_a_login_is_not_told_to_sentinels_for_whom_it_is_not() -> None:
    client = connect("redis+sentinel://me:secret@h/main", 0.05)
    assert isinstance(client, Redis)
    for sentinel in client.connection_pool.sentinel_manager.sentinels:
        assert "secret" not in options(sentinel).values()


def test_a_cluster_is_asked_through_each_of_its_hosts() -> None:
    client = connect("redis+cluster://me:a%2Fb@h1,h2:7000", 0.05)
    assert isinstance(client, ClusterClient)
    assert set(client.nodes_manager.startup_nodes) == {"h1:6379", "h2:7000"}
    assert client.retry.get_retries() == 0
    assert client.connection_kwargs["socket_timeout"] == 0.1
    assert (client.connection_kwargs["username"], client.connection_kwargs["password"]) == ("me", "a/b")


def test_rediss_is_tls_everywhere() -> None:
    one = connect("rediss://h", 0.05)
    assert isinstance(one, Redis)
    assert one.connection_pool.connection_class is SSLConnection
    watched = connect("rediss+sentinel://h/main", 0.05)
    assert isinstance(watched, Redis)
    assert watched.connection_pool.connection_class is SentinelManagedSSLConnection
    for sentinel in watched.connection_pool.sentinel_manager.sentinels:
        assert sentinel.connection_pool.connection_class is SSLConnection
    cluster = connect("rediss+cluster://h", 0.05)
    assert isinstance(cluster, RedisCluster)
    assert cluster.connection_kwargs["connection_class"] is SSLConnection
    for each in (options(one), options(watched), cluster.connection_kwargs):
        assert each.get("ssl_cert_reqs", "required") == "required"


@pytest.mark.parametrize("url", ["redis://:s3cret@h", "redis+sentinel://:s3cret@h/n", "redis+cluster://:s3cret@h"])
def test_no_client_shows_its_password(url: str) -> None:
    assert "s3cret" not in repr(connect(url, 0.05))


async def test_what_a_cluster_raises_is_an_error_of_redis() -> None:
    client = connect("redis+cluster://127.0.0.1:1,127.0.0.1:2", 0.05)
    assert isinstance(client, ClusterClient)
    try:
        for ask in (client.learn, client.initialize, lambda: client.execute_command("GET", "k")):
            with pytest.raises((RedisError, OSError), match="connecting to"):
                await asyncio.wait_for(ask(), 5)
    finally:
        await client.aclose()


# -- what went wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "cause", "cure"),
    [
        (AuthenticationError("WRONGPASS invalid username-password pair"), "WRONGPASS", "check user and password"),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "maxmemory", "raise its maxmemory"),
        (ReadOnlyError("You can't write against a read only replica."), "read only", "name its master"),
        (MovedError("866 10.0.0.1:7001"), "866 10.0.0.1:7001", "say redis+cluster://"),
        (ClusterDownError("The cluster is down"), "The cluster is down", "see CLUSTER INFO"),
        (MasterNotFoundError("No master found for 'n' : Redis<…> - x"), "No master found for 'n'", "is the name"),
        (InvalidResponse("Protocol Error: b'HTTP/1.1 400 Bad Request'"), "another protocol", "no Redis listens there"),
        (ResponseError("unknown command 'SENTINEL', with args beginning with: 'MASTERS' "), "SENTINEL", "26379"),
        (RedisConnectionError("Cluster mode is not enabled on this node"), "Cluster mode", "say redis://"),
        (ResponseError("MISCONF Errors writing to the AOF file"), "MISCONF", "see its log"),
        (RedisConnectionError("Error 111 connecting to h:1. Connection refused."), "Error 111", "does it run"),
        (RedisConnectionError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), "WRONG_VERSION", "speaks no TLS"),
        (RedisConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] …"), "CERTIFICATE_VERIFY_FAILED", "known authority"),
    ],
)
def test_what_went_wrong_is_told_with_its_cure(error: Exception, cause: str, cure: str) -> None:
    told = trouble(error)
    assert told.startswith(type(error).__name__ + ": ")
    told_cause, told_cure = told.split("; ", 1)
    assert cause in told_cause
    assert cure in told_cure


def test_what_nobody_knows_a_cure_for_is_told_as_it_is() -> None:
    assert trouble(TimeoutError("slow")) == "TimeoutError: slow"
    assert trouble(RedisClusterException("odd")) == "RedisClusterException: odd"


@pytest.mark.parametrize(
    "error",
    [
        ResponseError("unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `me`, `s3cret`, "),
        ResponseError("unknown command 'AUTH' with args beginning with 's3cret'"),
        InvalidResponse("Protocol Error: b'what is AUTH me s3cret?'"),
    ],
)
def test_no_password_that_a_server_repeats_is_told(error: Exception) -> None:
    assert "s3cret" not in trouble(error)


def test_whatever_a_server_says_is_one_short_line() -> None:
    told = trouble(ResponseError("a\nb\x1b[31m\r" + "x" * 10_000))
    assert told.startswith("ResponseError: a b [31m x")
    assert len(told) < LONGEST_TROUBLE + 50
