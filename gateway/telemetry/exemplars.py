"""Exemplars: for each bucket of a histogram the last sampled request that fell into it, and its trace. Pure.

They live in cells of their own, which are claimed when a series has its first one: who traces nothing pays
nothing. An exemplar takes six cells: three parts of the trace id (a double holds 53 bits exactly, an id has
128), the value, when it was, and a checksum of these. Another process may read while it is being written, so
whoever reads computes the checksum: what does not fit is half of one and half of another, and is left out.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from gateway.telemetry.tally import Labels, Page, Storage

SUFFIX = ":exemplars"
"""Behind the name of their histogram; no metric can have a name like this by accident."""

SIZE = 6
WHEN = 4
"""Which of them says when it was."""

FRESH = 0.1
"""Seconds for which an exemplar needs no other in its place: nobody looks as often."""

PART = 43
"""Bits of a trace id in one cell."""
MASK = (1 << PART) - 1

CHECKED = Struct("5d")


class Exemplar(NamedTuple):
    """One observation that a trace tells more about."""

    trace_id: str
    """32 hexadecimal digits."""
    value: float
    at: float
    """Unix seconds."""


class Exemplars:
    """Those of one histogram, as the process that observes notes them."""

    def __init__(self, cells: Storage, name: str, bounds: tuple[float, ...]) -> None:
        self._cells = cells
        self._name = name + SUFFIX
        self._bounds = bounds
        self._places: dict[Labels, tuple[Page, int]] = {}

    def note(self, labels: Labels, value: float, trace_id: str, at: float) -> None:
        """The newest of its bucket, to a tenth of a second; `labels` are those of the histogram's series."""
        place = self._places.get(labels)
        if place is None:
            place = self._cells.claim(self._name, labels, SIZE * (len(self._bounds) + 1))
            self._places[labels] = place
        page, first = place
        cell = first + SIZE * bisect_left(self._bounds, value)
        if 0.0 <= at - page[cell + WHEN] < FRESH:
            return
        number = int(trace_id, 16)
        checked = (number >> 2 * PART, number >> PART & MASK, number & MASK, value, at)
        CHECKED.pack_into(page, 8 * cell, *checked)
        page[cell + SIZE - 1] = crc32(CHECKED.pack(*checked))


def newest(runs: Iterable[Sequence[float]]) -> list[Exemplar | None]:
    """Of each bucket the newest one that any process has noted; None where there is none, or it is being written."""
    found: list[Exemplar | None] = []
    for cells in runs:
        checksums = cells[SIZE - 1 :: SIZE]
        found = found or [None] * len(checksums)
        for bucket, checksum in enumerate(checksums):
            if checksum:  # else it was never written, which is the usual case
                one, other = _read(cells[SIZE * bucket : SIZE * (bucket + 1)]), found[bucket]
                if one is not None and (other is None or one.at > other.at):
                    found[bucket] = one
    return found


def _read(cells: Sequence[float]) -> Exemplar | None:
    *checked, checksum = cells
    if crc32(CHECKED.pack(*checked)) != checksum:
        return None
    high, middle, low, value, at = checked
    return Exemplar(f"{int(high) << 2 * PART | int(middle) << PART | int(low):032x}", value, at)
