"""Writes lines to a file descriptor in batches, from one thread, so that no slow disk or pipe stops the loop.

The queue is bounded: when the sink does not keep up, new lines are dropped and counted. Several processes may
write to one sink, and every line arrives whole: a file takes each write in one piece, and at anything else
(a pipe tears whatever is longer than PIPE_BUF, 4 KiB on Linux) they take turns by a lock on a file.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("gateway.access_log")

PENDING = 10 * 1024 * 1024
"""Bytes of lines held at most: a second at the highest rate one process reaches. Of hostile clients a line has 6 KB."""

GATHER = 0.05
"""Seconds between a first line and its write: one wake-up of the thread per batch, not per line."""

PATIENCE = 2.0
"""Seconds that closing waits for a sink that does not read."""


class LineWriter:
    """A sink of lines over the file descriptor `to`, which stays open.

    `lock` is a file for all processes that share the sink. Each makes its own writer: a lock that was inherited
    by a fork would be held by both sides at once.
    """

    def __init__(self, to: int, *, lock: Path | None = None, pending: int = PENDING, gather: float = GATHER) -> None:
        self._fd = to
        self._turns: int | None = None  # the lock's descriptor, where turns must be taken
        if lock is not None and not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self._turns = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._pending = pending
        self._gather = gather
        self._lines: list[bytes] = []
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._taken = self._settled = 0  # bytes: of all lines, and of those that wait no more
        self._turned_away = 0  # counted by the loop's thread like what was taken, the others by the writer's
        self._unwritten = 0
        self._given_up = 0  # still queued when closing lost its patience
        self._torn = False  # what was written last is the beginning of a line
        self._failing = False
        # A daemon: a sink that never reads must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="line-writer", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue a line, its end included."""
        taken = self._taken + len(line)
        if taken - self._settled > self._pending:
            self._turned_away += 1
            return
        self._taken = taken
        lines = self._lines
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
        elif self._turns is not None:
            os.close(self._turns)
            self._turns = None

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
                self._settled += sum(map(len, batch))
            if self._closing.is_set() and not lines:
                return
            if lines:
                self._wake.set()

    def _write(self, batch: list[bytes]) -> None:
        # What a full disk has cut off must not become the beginning of the next line.
        end = b"\n" if self._torn else b""
        data = end + b"".join(batch)
        try:
            with self._turn():
                written, trouble = self._write_all(memoryview(data))
        except OSError as error:  # nobody can take turns any more
            written, trouble = 0, error
        if written:
            self._torn = not data.endswith(b"\n", 0, written)
        if trouble is not None and not self._given_up:
            self._unwritten += len(batch) - data.count(b"\n", len(end), written)
        self._lament(trouble)

    def _write_all(self, data: memoryview) -> tuple[int, OSError | None]:
        """How much of it was written, and why it was not all: its reader is gone, or the disk is full."""
        rest = data
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody made the shared terminal or pipe non-blocking
                select.select([], [self._fd], [])
            except OSError as error:  # the service is worth more than its log
                return len(data) - len(rest), error
        return len(data), None

    def _lament(self, trouble: OSError | None) -> None:
        """Say once that lines are lost, and once that it is over."""
        if self._failing == (trouble is not None):
            return
        self._failing = not self._failing
        if trouble is not None:
            log.error("lines of the access log are lost: %s", trouble.strerror)
        else:
            log.warning("the access log is written again")

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
