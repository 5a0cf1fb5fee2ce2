"""Counters, gauges and histograms as plain numbers in flat storage, cheap enough for every request.

prometheus-client takes 0.4 µs for `inc`, 0.9 µs for `observe` and 1.3 µs for `labels()`; here a count costs
0.1 µs and an observation 0.2 µs. A series is found once and kept by whoever counts. Storage grows by whole
pages that never move: memory of one process (`Cells`), or files that several map (`cells.SharedCells`).
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import nan
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

PAGE = 4096
"""Cells per page: 32 KiB, room for some 4000 counters or 250 histograms."""

Labels = tuple[str, ...]
Page: TypeAlias = "memoryview[float]"
Readings = Mapping[Labels, float]

Kind = Literal["counter", "gauge", "histogram"]
Way = Literal["sum", "max", "min"]
"""How the values of several processes make one."""


@dataclass(frozen=True, slots=True)
class Family:
    """What one metric is."""

    name: str
    kind: Kind
    help: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()
    """Of a histogram's buckets."""
    way: Way = "sum"
    """Of a gauge; counters and histograms are always summed."""

    def __post_init__(self) -> None:
        if list(self.bounds) != sorted(set(self.bounds)):
            raise ValueError("bounds must increase")


class Storage(Protocol):
    """Where numbers live."""

    def claim(self, name: str, labels: Labels, count: int, initial: float = 0.0) -> tuple[Page, int]:
        """The cells of a series, `count` in a row: the page they are on, and where on it they begin.

        New cells hold `initial`; those of a series that the storage knows already are left as they are.
        """

    def known(self, name: str) -> list[Labels]:
        """The series of this metric that another process left behind."""


class Cells:
    """Storage in the memory of one process. A series asks for its cells once."""

    def __init__(self) -> None:
        self._claiming = threading.Lock()  # a reload builds its runtime in a thread
        self._page = _new_page()
        self._used = 0

    def claim(self, name: str, labels: Labels, count: int, initial: float = 0.0) -> tuple[Page, int]:
        """`count` new cells."""
        with self._claiming:
            if self._used + count > PAGE:
                self._page = _new_page()
                self._used = 0
            page, at = self._page, self._used
            self._used += count
        fill(page, at, count, initial)
        return page, at

    def known(self, name: str) -> list[Labels]:
        """None: what a process counted for itself ends with it."""
        return []


def _new_page() -> Page:
    return memoryview(bytearray(8 * PAGE)).cast("d")


def fill(page: Page, at: int, count: int, value: float) -> None:
    """The same number into `count` cells."""
    for cell in range(at, at + count):
        page[cell] = value


class Counter:
    """One series of a counter. One cell."""

    __slots__ = ("_at", "_page")

    def __init__(self, cells: Storage, name: str, labels: Labels) -> None:
        self._page, self._at = cells.claim(name, labels, 1)

    def inc(self, amount: float = 1.0) -> None:
        self._page[self._at] += amount

    @property
    def value(self) -> float:
        return float(self._page[self._at])

    @property
    def values(self) -> list[float]:
        """All its cells."""
        return [self.value]


class Gauge:
    """One series of a gauge. One cell, which is NaN while there is nothing to say."""

    __slots__ = ("_at", "_page")

    def __init__(self, cells: Storage, name: str, labels: Labels) -> None:
        self._page, self._at = cells.claim(name, labels, 1, nan)

    def set(self, value: float) -> None:
        self._page[self._at] = value

    @property
    def values(self) -> list[float]:
        """All its cells."""
        return [float(self._page[self._at])]


class Histogram:
    """One series of a histogram. Its cells: the sum, a count per bound, and the count above all bounds."""

    __slots__ = ("_at", "_bounds", "_first", "_page")

    def __init__(self, cells: Storage, name: str, labels: Labels, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds  # increasing
        self._page, self._at = cells.claim(name, labels, len(bounds) + 2)
        self._first = self._at + 1

    def observe(self, value: float) -> None:
        page = self._page
        page[self._at] += value
        page[self._first + bisect_left(self._bounds, value)] += 1.0

    @property
    def sum(self) -> float:
        return float(self._page[self._at])

    @property
    def counts(self) -> list[float]:
        """Observations per bucket, not cumulated; the last bucket has no upper bound."""
        return self.values[1:]

    @property
    def values(self) -> list[float]:
        """All its cells."""
        return list(self._page[self._at : self._first + len(self._bounds) + 1])


S = TypeVar("S")


class Children(Generic[S]):
    """All series of one metric."""

    def __init__(self, make: Callable[[Labels], S]) -> None:
        self._make = make
        self._children: dict[Labels, S] = {}

    def child(self, *labels: str) -> S:
        """The series with these label values; look it up once and keep it."""
        found = self._children.get(labels)
        if found is None:
            found = self._children.setdefault(labels, self._make(labels))
        return found

    def __iter__(self) -> Iterator[tuple[Labels, S]]:
        # A copy: a scrape reads in its own thread while the loop adds series.
        return iter(list(self._children.items()))


class Gauges:
    """All series of one gauge, written together whenever somebody has looked at what they measure."""

    def __init__(self, cells: Storage, name: str) -> None:
        self._all = Children(lambda labels: Gauge(cells, name, labels))
        for labels in cells.known(name):  # what an ended process measured is not so any more
            self._all.child(*labels).set(nan)

    def replace(self, readings: Readings) -> None:
        """These are the series now, and there are no others."""
        for labels, value in readings.items():
            self._all.child(*labels).set(value)
        for labels, gauge in self._all:
            if labels not in readings:
                gauge.set(nan)

    def __iter__(self) -> Iterator[tuple[Labels, Gauge]]:
        return iter(self._all)
