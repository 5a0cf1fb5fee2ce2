"""The folder of one running gateway: its sets of metrics, the embedded store's socket, a lock.

It is removed at the end. What instances left behind that were killed is recognised by their lock, which
nobody holds any more, and removed by the next one that starts.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

PREFIX = "gateway-"
LOCK = "resilient-gateway.lock"
"""A name that nobody else gives to a file: a folder is removed because of it."""


def beside(records: Path) -> Path:
    """What the operator process says about upstreams stands beside what operators say about credentials."""
    return records.with_name("notices")


def reports_beside(records: Path) -> Path:
    """The socket on which workers tell the operator process about requests."""
    return records.with_name("reports.sock")


MEMORY = Path("/dev/shm")  # noqa: S108 - no file of a known name is made there: mkdtemp
"""Where Linux keeps files in memory; writable also where a container's root is not."""


class InstanceError(Exception):
    """There is no folder to write to; the message is one line for the operator."""


class Instance:
    """The folder; `close` removes it."""

    def __init__(self, parent: Path) -> None:
        """Raises InstanceError."""
        try:
            _remove_orphans(parent)
            self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # mode 0700
            try:
                self.cells.mkdir(mode=0o700)
                self._lock = _locked_file(self.folder / LOCK)
            except OSError:
                shutil.rmtree(self.folder, ignore_errors=True)
                raise
        except OSError as error:
            cure = "name a folder it may write to as runtime_dir"
            raise InstanceError(f"cannot write to {parent} ({error.strerror or error}): {cure}") from None
        self._sets = 0
        self._free: list[str] = []
        self.live: set[str] = set()
        """The sets whose gauges say something about a worker that serves."""

    @property
    def cells(self) -> Path:
        """The folder of all sets of metrics."""
        return self.folder / "cells"

    @property
    def log_lock(self) -> Path:
        """Held by whoever writes to the access log."""
        return self.folder / "log-lock"

    @property
    def records(self) -> Path:
        """The copy of what operators have decided about credentials, for all workers to read."""
        return self.folder / "records"

    def inherit(self, records: Path) -> None:
        """Begin with what another instance knows, of upstreams too, if that is any. Raises InstanceError."""
        for known, own in ((records, self.records), (beside(records), beside(self.records))):
            try:
                with suppress(FileNotFoundError):
                    shutil.copy(known, own)
            except OSError as error:
                raise InstanceError(f"cannot take over {known}: {error.strerror or error}") from None

    def take_set(self) -> str:
        """A set of metrics for a new worker: one whose worker has ended, which is counted on in, or a new one."""
        if self._free:
            return self._free.pop()
        self._sets += 1
        return str(self._sets)

    def leave_set(self, name: str) -> None:
        """The worker that had the set has ended; its figures stay."""
        self.live.discard(name)
        self._free.append(name)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def parent_folder(configured: Path | None, environ: Mapping[str, str]) -> Path:
    """Where instances have their folders: as configured, as systemd says, in memory, or among temporary files."""
    if configured is not None:
        return configured
    if systemd := environ.get("RUNTIME_DIRECTORY"):
        return Path(systemd.split(":")[0])
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK | os.X_OK):
        return MEMORY
    return Path(tempfile.gettempdir())


def _locked_file(path: Path) -> int:
    """A file that is locked from the moment it has its name: without a lock it would be an orphan's."""
    unnamed = path.with_suffix(".new")
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    unnamed.rename(path)
    return descriptor


def _remove_orphans(parent: Path) -> None:
    for folder in _ours(parent):
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # being made at this moment, or not of a gateway
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # it lives
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _ours(parent: Path) -> Iterator[Path]:
    for folder in parent.glob(PREFIX + "*"):
        try:
            info = folder.lstat()
        except FileNotFoundError:  # another one has removed it, or it has just ended
            continue
        if info.st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink():
            yield folder
