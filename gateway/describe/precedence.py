"""Which route comes first where several match: the order of docs/routing.md, told for each route. Pure.

The router itself needs no such list: it finds the first one by walking down its tree. Paths with a version in front
are not told apart here, they stand beside the path that they lead to.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

from gateway.config.route import Route
from gateway.routing.configured import rule
from gateway.routing.pattern import Step
from gateway.routing.router import Entry
from gateway.routing.trie import Node

E = TypeVar("E")

MOST = 10
"""Routes that are named: whoever stands behind more of them is a catch-all, and knows it."""

LITERAL, ANY, REST = range(3)
"""Of two patterns the one with the lesser kind in the first place in which they differ comes first."""


class Place(NamedTuple):
    """Where a route stands in the order of all."""

    position: int
    """From 1."""
    behind: tuple[str, ...]
    """Routes that take some of its requests from it, the first MOST."""


def places(routes: Iterable[Route]) -> dict[str, Place]:
    """By the route's name."""
    entries = [Entry(rule(route, route), index) for index, route in enumerate(routes)]
    entries.sort(key=_order)
    before: dict[bytes | None, Node[Entry[Route]]] = {}
    found = {}
    for position, entry in enumerate(entries, 1):
        rivals = (other.rule.name for other in _rivals(before, entry))
        found[entry.rule.name] = Place(position, tuple(islice(rivals, MOST)))
        before.setdefault(entry.host, Node()).add(entry.steps, entry.rest, entry)
    return found


def _rivals(before: Mapping[bytes | None, Node[Entry[Route]]], entry: Entry[Route]) -> Iterator[Entry[Route]]:
    """Those whose requests may be its own; conditions may still tell them apart."""
    for host, trie in before.items():
        if _hosts_meet(host, entry.host):
            for other in _meeting(trie, entry.steps, entry.rest):
                if other.methods is None or entry.methods is None or not entry.methods.isdisjoint(other.methods):
                    yield other


def _meeting(node: Node[E], steps: Sequence[Step], rest: bool) -> Iterator[E]:
    """Every pattern below `node` that some path matches together with this one."""
    yield from node.rest
    if not steps:
        yield from _below(node) if rest else node.here
        return
    literals = node.literals
    ways = [*literals.values()] if steps[0] is None else [literals[steps[0]]] if steps[0] in literals else []
    for way in (*ways, node.any_one):
        if way is not None:
            yield from _meeting(way, steps[1:], rest)


def _below(node: Node[E]) -> Iterator[E]:
    """What ends here or further down; not what ends in `**` here."""
    yield from node.here
    for way in (*node.literals.values(), node.any_one):
        if way is not None:
            yield from way.rest
            yield from _below(way)


def _order(entry: Entry[Route]) -> tuple[object, ...]:
    path = (*(ANY if step is None else LITERAL for step in entry.steps), *([REST] if entry.rest else []))
    return _host_order(entry.host), path, entry.rank()


def _host_order(host: bytes | None) -> tuple[int, int]:
    """An exact name, then the longest `*.name`, then any."""
    if host is None:
        return 2, 0
    return (1, -len(host)) if host.startswith(b"*") else (0, 0)


def _hosts_meet(one: bytes | None, other: bytes | None) -> bool:
    if one is None or other is None or one == other:
        return True
    wide, narrow = sorted((one, other), key=len)
    return wide.startswith(b"*") and narrow.removeprefix(b"*").endswith(wide[1:])
