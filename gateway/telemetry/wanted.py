"""Which requests an operator wants to see: the filters of the lists of problems and of the tail. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

STATUS = re.compile(r"([1-9])xx|([1-9]\d\d)(?:-([1-9]\d\d))?", re.ASCII)
MILLISECONDS = re.compile(r"\d{1,9}(?:\.\d{1,3})?", re.ASCII)
LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a record has to be like; None for whatever."""

    route: str | None = None
    consumer: str | None = None
    """"" for callers without a name; likewise for a route."""
    code: str | None = None
    """The reason code."""
    status: tuple[int, int] | None = None
    """From and to."""
    method: str | None = None
    min_ms: float | None = None
    path: str | None = None
    """What it begins with."""

    def __call__(self, record: dict[str, Any]) -> bool:
        """Whether this one is."""
        named = (self.route, "route"), (self.consumer, "consumer"), (self.code, "reason"), (self.method, "method")
        if any(value is not None and value != (record.get(member) or "") for value, member in named):
            return False
        if self.status is not None and not self.status[0] <= record["status"] <= self.status[1]:
            return False
        if self.min_ms is not None and record["duration_ms"] < self.min_ms:
            return False
        return self.path is None or (record.get("path") or "").startswith(self.path)


def _text(said: str) -> str:
    if len(said) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    return said


def _status(said: str) -> tuple[int, int]:
    found = STATUS.fullmatch(said)
    if found is None:
        raise ValueError("is not a status such as 404, 5xx or 400-499")
    if found[1]:
        return int(found[1]) * 100, int(found[1]) * 100 + 99
    first, last = int(found[2]), int(found[3] or found[2])
    if first > last:
        raise ValueError("begins after its end")
    return first, last


def _milliseconds(said: str) -> float:
    if MILLISECONDS.fullmatch(said) is None:
        raise ValueError("is not a number of milliseconds")
    return float(said)


READERS: dict[str, Callable[[str], Any]] = {
    "route": _text,
    "consumer": _text,
    "code": _text,
    "status": _status,
    "method": lambda said: _text(said).upper(),
    "min_ms": _milliseconds,
    "path": _text,
}
"""By the name of the filter."""


def wanted(filters: Iterable[tuple[str, str]]) -> Wanted:
    """As the parameters of a query say. Raises ValueError, which begins with the name of the one that is wrong."""
    read: dict[str, Any] = {}
    for name, said in filters:
        if name in read:
            raise ValueError(f"{name}: is there twice")
        try:
            read[name] = READERS[name](said)
        except KeyError:
            raise ValueError(f"{name[:40]!a}: is no filter; there are {', '.join(READERS)}") from None
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return Wanted(**read)
