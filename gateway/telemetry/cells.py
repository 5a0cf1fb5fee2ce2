"""Cells in mapped files: one process counts, another one reads, and what was counted outlives the counter.

A set is a folder with one writing process at a time: `page-<n>`, 32 KiB of doubles each, and `series`, which
says what they are in JSON lines `[metric, [label values], page, at, count]`. A line is written before its
cells are used and is never changed. When its process has ended, the set is given to the next one, which
counts on; so the sum over all sets is exact and never goes backwards. Nothing is locked between processes:
an aligned double is read and written in one piece.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from math import fsum, isnan
from operator import add
from pathlib import Path
from struct import unpack_from

from gateway.telemetry.tally import PAGE, Cells, Family, Labels, Page, Way, fill

log = logging.getLogger("gateway.telemetry")

SIZE = 8 * PAGE
SERIES = "series"

AT_ONCE = 500
"""Lines that are parsed by one call: a third of the time that one by one takes, and a millisecond without a pause."""

Place = tuple[int, int, int]
"""Page, first cell, number of cells."""

Run = tuple[str, Page, int, int]
"""Where one set holds a series: the set's name, page, first cell, number of cells."""

Totals = dict[str, dict[Labels, list[float]]]
"""The cells of each series, by metric and label values."""

COMBINED: dict[Way, Callable[[Iterable[float]], float]] = {"sum": fsum, "max": max, "min": min}
"""`fsum` rounds once: whatever the order of the sets, a sum of growing numbers never goes back by a bit."""


class SharedCells:
    """Storage for the process that owns the set in `folder`, which is made if need be.

    Where there is no room (or no folder) the series are kept in the memory of this process: `full` tells
    so, and the log once. A gateway that cannot show all its metrics still serves.
    """

    def __init__(self, folder: Path) -> None:
        self.full = False
        self._folder = folder
        self._claiming = threading.Lock()  # threads may claim: a reload builds its runtime in one
        self._pages: dict[int, Page] = {}
        self._spare = Cells()
        self._series: dict[tuple[str, Labels], Place] = {}
        self._next = (0, 0)  # page and cell
        self._fd = -1
        self._end = 0
        try:
            self._open()
        except OSError as error:
            self._no_room(error)

    def claim(self, name: str, labels: Labels, count: int, initial: float = 0.0) -> tuple[Page, int]:
        """The cells that this series has in the set, else new ones. Raises ValueError if it has another number."""
        with self._claiming:
            try:
                number, at, found = self._series.get((name, labels)) or self._add(name, labels, count, initial)
                page = self._page(number)
            except OSError as error:
                self._no_room(error)
                return self._spare.claim(name, labels, count, initial)
        if found != count:
            raise ValueError(f"{name} has {found} cells, not {count}")
        return page, at

    def known(self, name: str) -> list[Labels]:
        """The series of this metric that are in the set."""
        return [labels for metric, labels in self._series if metric == name]

    def close(self) -> None:
        """Claim no more; what was claimed stays usable."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(self._folder / SERIES, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        entries, self._end = _entries(self._fd, 0)
        os.ftruncate(self._fd, self._end)  # the last owner may have been killed in the middle of a line
        self._series.update(entries)
        # Cells are handed out in order, so the next free one comes after the last that was recorded.
        self._next = max(((page, at + count) for page, at, count in self._series.values()), default=(0, 0))

    def _add(self, name: str, labels: Labels, count: int, initial: float) -> Place:
        number, at = self._next
        if at + count > PAGE:
            number, at = number + 1, 0
        # Before they are announced: nobody reads other values, not even of cells an owner was killed over.
        fill(self._page(number), at, count, initial)
        self._record(json.dumps([name, labels, number, at, count]).encode() + b"\n")
        self._next = (number, at + count)
        place = self._series[name, labels] = (number, at, count)
        return place

    def _record(self, line: bytes) -> None:
        written = os.write(self._fd, line)
        if written < len(line):  # no room for the rest
            os.ftruncate(self._fd, self._end)
            raise OSError(f"only {written} bytes written")
        self._end += written

    def _page(self, number: int) -> Page:
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = _mapped(_page_file(self._folder, number), mmap.ACCESS_WRITE)
        return page

    def _no_room(self, error: OSError) -> None:
        if not self.full:
            self.full = True
            reason = error.strerror or str(error)
            log.error("new series are not shown by /metrics: no room for them in %s: %s", self._folder, reason)


class Summary:
    """What all sets below `folder` say together. May be asked by several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sets: dict[str, _Set] = {}
        self._series: dict[str, dict[Labels, list[Run]]] = {}
        self._reading = threading.Lock()

    def collect(self, families: Iterable[Family], live: Collection[str]) -> Totals:
        """Counters and histograms summed over all sets; gauges only of those that `live` names."""
        return {family.name: series for family, series in self.read(list(families), live)}

    def read(
        self, families: Sequence[Family], live: Collection[str]
    ) -> Iterator[tuple[Family, dict[Labels, list[float]]]]:
        """The same, one by one: so that not all of a thousand routes' numbers are held at a time."""
        found = self._runs([family.name for family in families])
        for family, runs in zip(families, found, strict=True):
            yield family, _gauges(family.way, runs, live) if family.kind == "gauge" else _sums(runs)

    def each(self, name: str) -> Iterator[tuple[Labels, list[tuple[float, ...]]]]:
        """The series of this metric, with its cells in every set that has it."""
        for labels, runs in self._runs([name])[0]:
            yield labels, [_cells(run) for run in runs]

    def _runs(self, names: Iterable[str]) -> list[list[tuple[Labels, list[Run]]]]:
        # A copy, which is read without the lock: a health check need not wait until a scrape has read everything.
        with self._reading:
            self._look_for_news()
            return [list(self._series.get(name, {}).items()) for name in names]

    def _look_for_news(self) -> None:
        for path in self._folder.iterdir() if self._folder.exists() else ():
            if path.name not in self._sets and (path / SERIES).exists():
                self._sets[path.name] = _Set(path)
        for owner, found in self._sets.items():
            for name, labels, page, at, count in found.news():
                self._series.setdefault(name, {}).setdefault(labels, []).append((owner, page, at, count))


class _Set:
    """One set, to be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._end = 0
        self._pages: dict[int, Page] = {}

    def news(self) -> Iterator[tuple[str, Labels, Page, int, int]]:
        """The series that were added since: name, label values, page, first cell, number of cells."""
        fd = os.open(self._folder / SERIES, os.O_RDONLY | os.O_CLOEXEC)
        try:
            entries, self._end = _entries(fd, self._end)
        finally:
            os.close(fd)
        for (name, labels), (number, at, count) in entries:
            page = self._pages.get(number)
            if page is None:
                page = self._pages[number] = _mapped(_page_file(self._folder, number), mmap.ACCESS_READ)
            yield name, labels, page, at, count


def _cells(run: Run) -> tuple[float, ...]:
    _, page, at, count = run
    return unpack_from(f"{count}d", page, 8 * at)


def _sums(series: Iterable[tuple[Labels, list[Run]]]) -> dict[Labels, list[float]]:
    found = {}
    for labels, runs in series:
        if runs[0][3] == 1:
            found[labels] = [fsum([page[at] for _, page, at, _ in runs])]
        elif len(runs) == 2:  # a single addition is rounded once, too, and costs a third
            found[labels] = list(map(add, _cells(runs[0]), _cells(runs[1])))
        else:
            found[labels] = [fsum(cell) for cell in zip(*map(_cells, runs), strict=True)]
    return found


def _gauges(way: Way, series: Iterable[tuple[Labels, list[Run]]], live: Collection[str]) -> dict[Labels, list[float]]:
    combined = COMBINED[way]
    found = {}
    for labels, runs in series:
        # Without those that are NaN, which says that there is nothing to say now.
        values = [value for owner, page, at, _ in runs if owner in live and not isnan(value := page[at])]
        if values:
            found[labels] = [combined(values)]
    return found


def _entries(fd: int, begin: int) -> tuple[list[tuple[tuple[str, Labels], Place]], int]:
    """The whole lines of `series` from `begin` on, and where they end."""
    data = os.pread(fd, os.fstat(fd).st_size - begin, begin)
    data = data[: data.rfind(b"\n") + 1]
    lines = data.splitlines()
    parts = (lines[at : at + AT_ONCE] for at in range(0, len(lines), AT_ONCE))
    rows = [row for part in parts for row in json.loads(b"[" + b",".join(part) + b"]")]
    return [((name, tuple(labels)), (page, at, count)) for name, labels, page, at, count in rows], begin + len(data)


def _page_file(folder: Path, number: int) -> Path:
    return folder / f"page-{number}"


def _mapped(path: Path, access: int) -> Page:
    """The page in this file. Raises OSError, also when there is no room for it."""
    writing = access == mmap.ACCESS_WRITE
    fd = os.open(path, (os.O_RDWR | os.O_CREAT if writing else os.O_RDONLY) | os.O_CLOEXEC, 0o600)
    try:
        while writing and (size := os.fstat(fd).st_size) < SIZE:
            # Zeros, not a hole: writing to a hole of a full file system through the mapping is a SIGBUS.
            os.pwrite(fd, bytes(SIZE - size), size)
        return memoryview(mmap.mmap(fd, SIZE, access=access)).cast("d")
    finally:
        os.close(fd)
