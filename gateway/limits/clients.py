"""Clients of a shared store, by its URL, that fail fast: no retries (one could count twice), short timeouts.

Which server to ask is found out anew whenever it has to be: a connection to the master that sentinels watch asks them
first, a cluster's client asks for its layout. `trouble` says what went wrong in words for a log: the cause, the cure,
and no secret.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.maint_notifications import MaintNotificationsConfig

from gateway.config.store_url import StoreUrl, parse

CONNECTIONS = 4
"""To one server at most, where nobody says otherwise; who wants another waits for its turn."""

HELD = 0.1
"""Seconds for which a connection is used again and again without asking the pool."""

LOOK = 1.0
"""Seconds between two questions to sentinels who is the master."""

LONGEST_TROUBLE = 300
"""Characters of a message from a server that are worth a log line."""


def connect(url: str, timeout: float) -> "Client":
    """The client for a URL of the configuration, or unix:///path?db=0, which is how the embedded store is reached.

    The socket may take a little longer than the callers wait: they are gone by then, but a connection that is
    dropped too early would make a slow server slower.
    """
    patience = max(0.1, 2 * timeout)
    options: dict[str, Any] = {
        "socket_timeout": patience,
        "socket_connect_timeout": patience,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": False,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),  # they would lengthen the timeouts
    }
    if url.startswith("unix:") or (where := parse(url)).kind == "server":
        pool = BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS, timeout=patience, **options)
        return Redis.from_pool(pool)
    if where.kind == "cluster":
        return ClusterClient(where, options)
    return _watched(where, options)


class Direct:
    """Brings commands to one server with less ado than a pipeline of the client, which takes half of a take's time.

    A connection stays in hand for HELD seconds instead of going through the pool each time. Then the pool has it back,
    which looks whether it is still good, and whether it leads to the right server.
    """

    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._held: list[tuple[float, Any]] = []  # until when, and the connection

    async def __call__(self, commands: Sequence[Sequence[bytes | int | str]]) -> list[Any]:
        """The reply or the error of each, in order. Raises RedisError or OSError when the connection fails."""
        until, connection = await self._take()
        try:
            packed = [part for command in commands for part in connection.pack_command(*command)]
            await connection.send_packed_command(packed, check_health=False)
            replies = [await self._read(connection) for _ in commands]
        except BaseException:
            await self._pool.release(connection)
            raise
        self._held.append((until, connection))
        return replies

    async def close(self) -> None:
        """Give all connections back to the pool."""
        held, self._held = self._held, []
        for _, connection in held:
            await self._pool.release(connection)

    async def _take(self) -> tuple[float, Any]:
        now = time.monotonic()
        while self._held:
            until, connection = self._held.pop()
            if now < until and await _unharmed(connection):
                return until, connection
            await self._pool.release(connection)
        return now + HELD, await self._pool.get_connection()  # type: ignore[no-untyped-call]

    @staticmethod
    async def _read(connection: Any) -> Any:
        try:
            return await connection.read_response()
        except ResponseError as error:
            return error


async def _unharmed(connection: Any) -> bool:
    """The server has neither closed it nor said anything that nobody asked for."""
    try:
        return not await connection.can_read()
    except RedisError:
        return False


# -- a master that sentinels watch over ----------------------------------------------------------------


def _watched(where: StoreUrl, options: dict[str, Any]) -> Redis:
    tls: dict[str, Any] = {"ssl": True} if where.tls else {}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        list(where.hosts),
        sentinel_kwargs={**options, **tls, **_login(where.sentinel_username, where.sentinel_password)},
    )
    client: Redis = sentinel.master_for(
        where.name,
        connection_pool_class=MasterPool,
        max_connections=CONNECTIONS,
        timeout=options["socket_timeout"],
        db=where.database,
        **options,
        **tls,
        **_login(where.username, where.password),
    )
    return client


class MasterPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to whatever server the sentinels call the master.

    Each connection asks them when it is made; and they are asked once a second, for a master that is replaced while it
    lives goes on as one, for those who are connected to it, until it is demoted eight seconds later.
    """

    def __init__(self, name: str, sentinel: Sentinel, **options: Any) -> None:
        super().__init__(name, sentinel, **options)  # type: ignore[no-untyped-call]
        self._following: asyncio.Task[None] | None = None

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        """As BlockingConnectionPool.get_connection."""
        if self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._follow(), name="follow-sentinels")
        return await super().get_connection(*args, **options)  # type: ignore[no-untyped-call]

    async def aclose(self) -> None:
        """Close also what the sentinels were asked through."""
        following, self._following = self._following, None
        if following is not None:
            await end(following)
        await super().aclose()
        await self.sentinel_manager.aclose()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            known = self.master_address
            try:
                if await self.get_master_address() != known:  # type: ignore[no-untyped-call]
                    # It has closed those that nobody uses; the others are closed when they come back.
                    await self.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
            except (RedisError, OSError):
                pass  # no reason to leave a master that answers


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task that uses a client until it has ended: `wait_for` of Python 3.11, below, may swallow that."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)


# -- a cluster -----------------------------------------------------------------------------------------


class ClusterClient(RedisCluster):
    """Follows one redirection after another, and learns the layout anew after any failure of a node.

    What it raises is a RedisError or an OSError.
    """

    def __init__(self, where: StoreUrl, options: dict[str, Any]) -> None:
        super().__init__(
            startup_nodes=[ClusterNode(host.name, host.port) for host in where.hosts],
            require_full_coverage=False,  # of slots: who has lost one part can still count in the others
            dynamic_startup_nodes=False,
            reinitialize_steps=0,  # the library would close connections that others are using
            ssl=where.tls,
            **options,
            **_login(where.username, where.password),
        )
        self._named = dict(self.nodes_manager.startup_nodes)

    async def initialize(self, *args: Any, **kwargs: Any) -> "ClusterClient":
        """As RedisCluster.initialize; that is, nothing when the layout is known."""
        try:
            await super().initialize(*args, **kwargs)
        except (RedisClusterException, IndexError) as error:  # the first of no masters
            raise await self._why(error) from None
        self._remember()
        return self

    async def learn(self, failed: str | None = None) -> None:
        """Ask for the layout, though one is known; the node named `failed` last."""
        if not self.nodes_manager.slots_cache:
            await self.initialize()
            return
        try:
            await self.nodes_manager.initialize(last_failed_node_name=failed)
        except (RedisClusterException, IndexError) as error:
            raise await self._why(error) from None
        self._remember()

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """As RedisCluster.execute_command."""
        try:
            return await super().execute_command(*args, **kwargs)
        except RedisClusterException as error:
            raise RedisConnectionError(str(error)) from None

    async def pointed_to(self, error: AskError, node: ClusterNode) -> ClusterNode:
        """Where `node` says that a slot is: for good (MOVED, which is noted), or for one question (ASK)."""
        error.host = error.host or node.host  # "" means the same host
        if isinstance(error, MovedError):
            await self.nodes_manager.move_slot(error)
        found = self.get_node(error.host, error.port)
        if found is None:  # a new master, which has no slot yet
            found = ClusterNode(error.host, error.port, "primary", **self.connection_kwargs)
            self.nodes_manager.nodes_cache[found.name] = found
        return found

    async def aclose(self) -> None:
        """Close all connections, also after a failure, of which RedisCluster thinks that it has closed them."""
        await super().aclose()
        await self.nodes_manager.aclose()
        await self.nodes_manager.aclose("startup_nodes")

    async def _why(self, error: RedisClusterException | IndexError) -> Exception:
        """What is behind it. The library tells of the last node; one that refuses tells more than one that is away."""
        for node in list(self.nodes_manager.startup_nodes.values()):
            try:
                await node.execute_command("PING")
            except (AuthenticationError, ResponseError, InvalidResponse) as refusal:
                return refusal
            except (RedisError, OSError):
                continue
        if isinstance(error, IndexError):
            return RedisConnectionError("no node of the cluster has any slots")
        cause = error.__cause__
        return cause if isinstance(cause, RedisError | OSError) else RedisConnectionError(str(cause or error))

    def _remember(self) -> None:
        """Ask any node next time: those of the configuration may have gone, and those found may all be replaced."""
        self.nodes_manager.startup_nodes = {**self.nodes_manager.nodes_cache, **self._named}


Client = Redis | ClusterClient


def _login(username: str, password: str) -> dict[str, Any]:
    return {"username": username, "password": password} if username else {"password": password} if password else {}


# -- what went wrong -----------------------------------------------------------------------------------

CURES: tuple[tuple[type[Exception], str], ...] = (
    (AuthenticationError, "check user and password in store.url"),
    (NoPermissionError, "its ACL must let the user in store.url run scripts and write these keys"),
    (InvalidResponse, "no Redis listens there: check host and port in store.url"),
    (OutOfMemoryError, "it is full: raise its maxmemory, or let it evict keys (maxmemory-policy)"),
    (ReadOnlyError, "it is a replica: name its master in store.url, or its sentinels with redis+sentinel://"),
    (MovedError, "it is part of a cluster: say redis+cluster:// in store.url"),
    (ClusterDownError, "some slots are served by no node: see CLUSTER INFO"),
    (MasterNotFoundError, "is the name in store.url theirs, do they answer, and is the master up?"),
)

CURES_BY_TEXT = (
    ("unknown command 'SENTINEL'", "store.url must name sentinels, whose usual port is 26379"),
    ("Cluster mode is not enabled", "it is a single server: say redis:// in store.url"),
    ("MISCONF", "it cannot save to its disk: see its log"),
    ("WRONG_VERSION_NUMBER", "it speaks no TLS: say redis in store.url, not rediss"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate must be for the host in store.url, from a known authority"),
    (" connecting to ", "does it run, and are host and port in store.url right?"),
)


def trouble(error: BaseException) -> str:
    """What an error of these clients means: one line, the cure with it where there is one, never a secret."""
    text = f"{type(error).__name__}: {_told(error)}"
    cures = [cure for kind, cure in CURES if isinstance(error, kind)]
    cures += [cure for part, cure in CURES_BY_TEXT if part in text]
    return f"{text}; {cures[0]}" if cures else text


def _told(error: BaseException) -> str:
    if isinstance(error, InvalidResponse):
        return "an answer in another protocol"  # which may well repeat what was sent: a password
    text = str(error)
    if isinstance(error, MasterNotFoundError):
        text = text.partition(" : ")[0]  # then comes each sentinel's whole client
    # Old servers repeat an unknown command, HELLO with its password for one.
    text = re.sub(r",? with args beginning with:?.*", "", text, flags=re.DOTALL)
    return re.sub(r"[^\x20-\x7e]+", " ", text)[:LONGEST_TROUBLE]
