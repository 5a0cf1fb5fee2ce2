"""Writes lines to a file descriptor in batches, from one thread, so that no slow disk or pipe stops the loop.

The queue is bounded: when the sink does not keep up, new lines are dropped and counted. Several processes may
write to one sink, and every line arrives whole: a file takes each write in one piece, and at anything else
(a pipe tears whatever is longer than PIPE_BUF, 4 KiB on Linux) they take turns by a lock on a file.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PENDING = 20_000
"""Lines held at most: some 10 MB, or a second at the highest rate one process reaches."""

GATHER = 0.05
"""Seconds between a first line and its write: one wake-up of the thread per batch, not per line."""

PATIENCE = 2.0
"""Seconds that closing waits for a sink that does not read."""


class LineWriter:
    """A sink of lines over `to`: a file descriptor that stays open, or a path that is appended to.

    `lock` is a file for all processes that share the sink. Each makes its own writer: a lock that was inherited
    by a fork would be held by both sides at once.
    """

    def __init__(
        self, to: int | Path, *, lock: Path | None = None, pending: int = PENDING, gather: float = GATHER
    ) -> None:
        self._fd = _open(to) if isinstance(to, Path) else to
        self._turns: int | None = None  # the lock's descriptor, where turns must be taken
        if lock is not None and not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self._turns = _open(lock)
        self._owned = [fd for fd in (self._fd if isinstance(to, Path) else None, self._turns) if fd is not None]
        self._pending = pending
        self._gather = gather
        self._lines: list[bytes] = []
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._turned_away = 0  # counted by the loop's thread, the other by the writer's
        self._unwritten = 0
        self._given_up = 0  # still queued when closing lost its patience
        # A daemon: a sink that never reads must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="line-writer", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue a line, its end included."""
        lines = self._lines
        if len(lines) >= self._pending:
            self._turned_away += 1
            return
        lines.append(line)
        if len(lines) == 1:
            self._wake.set()

    @property
    def dropped(self) -> int:
        """Lines that never reached the sink."""
        return self._turned_away + self._unwritten + self._given_up

    def close(self) -> None:
        """Write what is queued, waiting no longer than PATIENCE; lines put later are lost."""
        self._closing.set()
        self._wake.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self._given_up = len(self._lines)
            return
        while self._owned:
            os.close(self._owned.pop())

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._closing.wait(self._gather)
            # Cleared before the lines are taken: a line that comes in between sets it again.
            self._wake.clear()
            lines = self._lines
            batch = lines[:]
            if batch:
                self._write(batch)
                # Only now: what is being written counts as pending too. One slice deletion is atomic.
                del lines[: len(batch)]
            if self._closing.is_set() and not lines:
                return
            if lines:
                self._wake.set()

    def _write(self, batch: list[bytes]) -> None:
        try:
            with self._turn():
                self._write_all(memoryview(b"".join(batch)))
        except OSError:  # its reader is gone, or the disk is full: the service is worth more than its log
            if not self._given_up:
                self._unwritten += len(batch)

    def _write_all(self, rest: memoryview) -> None:
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody made the shared terminal or pipe non-blocking
                select.select([], [self._fd], [])

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Nobody else who knows the lock writes meanwhile. The kernel ends the turn of a process that dies in it."""
        if self._turns is None:
            yield
            return
        fcntl.flock(self._turns, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._turns, fcntl.LOCK_UN)


def _open(path: Path) -> int:
    # Appending: several processes may share the file, and log rotation may truncate it.
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
