"""What the operator process tells all workers about upstreams and routes, and how it is written down. Pure.

Probes and discovery say what they found, operators which circuits they hold open or close, and what they rehearse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, TypeVar

import orjson

LONGEST = 2048
"""Characters of any name or URL; more than the configuration lets through."""

MOST = 100_000
"""Entries of any list: each worker reads all of them when one has changed."""

T = TypeVar("T")

Place = tuple[str, str]
"""An upstream and the URL of one of its targets; "" where all of them are meant."""


@dataclass(frozen=True, slots=True)
class Found:
    """A target that discovery has found."""

    url: str
    weight: int
    priority: int


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A failure that operators have ordered for a route, until a time at which it ends by itself."""

    id: str
    route: str
    share: float
    """Of its requests, 0 to 1."""
    status: int
    """The error instead of the upstream's reply; 0 only delays."""
    delay: float
    """Seconds."""
    until: float
    """Wall-clock second."""


@dataclass(frozen=True, slots=True)
class Notices:
    """All that is to be known."""

    ill: frozenset[Place] = frozenset()
    """Targets that probes found ill."""
    found: Mapping[str, tuple[Found, ...]] = field(default_factory=dict)
    """By upstream: the targets that discovery found."""
    held_open: frozenset[Place] = frozenset()
    """Circuits that operators hold open."""
    closed: Mapping[Place, int] = field(default_factory=dict)
    """How often operators have closed these circuits: a number that has changed means that they did so again."""
    faults: tuple[Rehearsal, ...] = ()
    tail_until: float = 0.0
    """Wall-clock second up to which workers report every request, because somebody tails."""

    def holds(self, upstream: str, target: str) -> bool:
        """Whether this circuit is held open, alone or with all of its upstream."""
        return (upstream, target) in self.held_open or (upstream, "") in self.held_open


NOTHING = Notices()


def encode(notices: Notices) -> bytes:
    """JSON, the same for equal notices."""
    return orjson.dumps(
        {
            "ill": sorted(notices.ill),
            "found": dict(sorted(notices.found.items())),
            "held_open": sorted(notices.held_open),
            "closed": [(*place, times) for place, times in sorted(notices.closed.items())],
            "faults": notices.faults,
            "tail_until": notices.tail_until,
        }
    )


def decode(raw: bytes) -> Notices:
    """What `encode` made, and nothing else. Raises ValueError, which says what is wrong."""
    try:
        said = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise ValueError("not JSON") from None
    if not isinstance(said, dict) or said.keys() | OPTIONAL != READERS.keys():
        raise ValueError("not the members that notices have")
    read = {}
    for name, value in said.items():
        try:
            read[name] = READERS[name](value)
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{name}: {error}") from None
    return Notices(**read)


def _list(read: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    def read_all(said: Any) -> tuple[T, ...]:
        if not isinstance(said, list) or len(said) > MOST:
            raise ValueError(f"not a list of at most {MOST}")
        return tuple(map(read, said))

    return read_all


def _place(said: Any) -> Place:
    upstream, target = said
    return _name(upstream), _name(target, empty=True)


def _closed(said: Any) -> tuple[Place, int]:
    upstream, target, times = said
    return _place((upstream, target)), _whole(times, 1)


def _found(said: Any) -> Found:
    found = Found(**said)
    _name(found.url)
    _whole(found.weight, 1)
    _whole(found.priority, 0)
    return found


def _by_upstream(said: Any) -> dict[str, tuple[Found, ...]]:
    return {_name(upstream): _list(_found)(targets) for upstream, targets in said.items()}


def _rehearsal(said: Any) -> Rehearsal:
    fault = Rehearsal(**said)
    _name(fault.id)
    _name(fault.route)
    _number(fault.until)
    if not 0 < _number(fault.share) <= 1:
        raise ValueError("not a share")
    if _whole(fault.status, 0) and not 400 <= fault.status <= 599:
        raise ValueError("not an error status")
    if not (_number(fault.delay) or fault.status):
        raise ValueError("nothing would happen")
    return fault


def _name(said: Any, *, empty: bool = False) -> str:
    if not isinstance(said, str) or not (empty or said) or len(said) > LONGEST or not said.isprintable():
        raise ValueError("not a name")
    return said


def _whole(said: Any, least: int) -> int:
    if not isinstance(said, int) or isinstance(said, bool) or said < least:
        raise ValueError("not a whole number, or too small")
    return said


def _number(said: Any) -> float:
    if not isinstance(said, int | float) or isinstance(said, bool) or not (isfinite(said) and said >= 0):
        raise ValueError("not a number from 0")
    return said


READERS: dict[str, Callable[[Any], Any]] = {
    "ill": lambda said: frozenset(_list(_place)(said)),
    "found": _by_upstream,
    "held_open": lambda said: frozenset(_list(_place)(said)),
    "closed": lambda said: dict(_list(_closed)(said)),
    "faults": _list(_rehearsal),
    "tail_until": _number,
}

OPTIONAL = frozenset({"tail_until"})
"""What the version before, whose successor this gateway may be, did not write."""
