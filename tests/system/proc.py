"""What Linux tells of processes and sockets: who lives, whose child it is, and which connection is whose."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

LISTEN = 10
"""A listening socket's state in /proc/net/tcp, from Linux's tcp_states.h."""

needs_proc = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="asks Linux whose connection is whose")


class Row(NamedTuple):
    """One line of /proc/net/tcp."""

    port: int
    peer_port: int
    state: int
    inode: int


def rows() -> Iterator[Row]:
    """Every TCP socket over IPv4."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, peer, state, *rest = line.split()
        yield Row(int(local.split(":")[1], 16), int(peer.split(":")[1], 16), int(state, 16), int(rest[5]))


def inodes(pid: int) -> set[int]:
    """The sockets that a process holds."""
    held = set()
    with suppress(FileNotFoundError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                target = os.readlink(link)
                if target.startswith("socket:["):
                    held.add(int(target[8:-1]))
    return held


def children(pid: int) -> list[int]:
    """Those of a process with one thread."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def descendants(pid: int) -> list[int]:
    """Children and theirs."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def holders(pids: Iterable[int], port: int) -> list[int]:
    """Which of the processes hold a socket that listens on the port."""
    listening = {row.inode for row in rows() if row.port == port and row.state == LISTEN}
    return [pid for pid in pids if inodes(pid) & listening]


def clients_of(pid: int, port: int) -> set[int]:
    """The clients' ports of the connections to `port` that the process has accepted."""
    held = inodes(pid)
    return {row.peer_port for row in rows() if row.port == port and row.state != LISTEN and row.inode in held}


def listening_ports(pid: int) -> set[int]:
    """The ports that the process listens on, itself or together with others."""
    held = inodes(pid)
    return {row.port for row in rows() if row.state == LISTEN and row.inode in held}


def is_store(pid: int) -> bool:
    """By its command line, which it changes soon after its start."""
    try:
        return "unixsocket" in Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def anonymous(pid: int) -> int:
    """KiB of memory that are not files."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:"))


def alive(pid: int) -> bool:
    """It runs; one that nobody has collected yet has ended all the same."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_gone(pids: Iterable[int], patience: float = 5.0) -> list[int]:
    """Those that still run after the wait."""
    ends = time.monotonic() + patience
    left = [pid for pid in pids if alive(pid)]
    while left and time.monotonic() < ends:
        time.sleep(0.02)
        left = [pid for pid in left if alive(pid)]
    return left
