"""Writes lines to a file descriptor in batches, from one thread, so that no slow disk or pipe stops the loop.

The queue is bounded: when the sink does not keep up, new lines are dropped and counted.
"""

from __future__ import annotations

import os
import select
import threading
from pathlib import Path

PENDING = 20_000
"""Lines held at most: some 10 MB, or a second at the highest rate one process reaches."""

GATHER = 0.05
"""Seconds between a first line and its write: one wake-up of the thread per batch, not per line."""

PATIENCE = 2.0
"""Seconds that closing waits for a sink that does not read."""


class LineWriter:
    """A sink of lines over `to`: a file descriptor that stays open, or a path that is appended to."""

    def __init__(self, to: int | Path, *, pending: int = PENDING, gather: float = GATHER) -> None:
        self._owned = isinstance(to, Path)
        self._fd = _open(to) if isinstance(to, Path) else to
        self._pending = pending
        self._gather = gather
        self._lines: list[bytes] = []
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._turned_away = 0  # counted by the loop's thread, the other by the writer's
        self._unwritten = 0
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
        return self._turned_away + self._unwritten

    def close(self) -> None:
        """Write what is queued, waiting no longer than PATIENCE; lines put later are lost."""
        self._closing.set()
        self._wake.set()
        self._thread.join(PATIENCE)
        if self._owned and not self._thread.is_alive():
            os.close(self._fd)

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
        rest = memoryview(b"".join(batch))
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody made the shared terminal or pipe non-blocking
                select.select([], [self._fd], [])
            except OSError:  # its reader is gone, or the disk is full: the service is worth more than its log
                self._unwritten += len(batch)
                return


def _open(path: Path) -> int:
    # Appending: several processes may share the file, and log rotation may truncate it.
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
