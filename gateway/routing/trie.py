"""Compiled rules: a trie of path segments per host, read in the order of precedence.

A segment takes exactly one step down and `**` is always last, so a request visits each node at most once:
the cost is bounded by the matching prefixes among the patterns, whatever the path, and is normally one
dictionary look-up a segment.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from gateway.routing.host import host_key
from gateway.routing.pattern import Step

E = TypeVar("E")

_REST = -1  # as a depth: not a place to go on from, but the node's `**`
LONGEST_NAME = 253  # of a host (RFC 1035 2.3.4 in text): longer ones are nobody's, and cost no look-ups


class Node(Generic[E]):
    __slots__ = ("any_one", "here", "literals", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, Node[E]] = {}
        self.any_one: Node[E] | None = None  # {param} and *
        self.here: list[E] = []  # the path ends here
        self.rest: list[E] = []  # ** begins here

    def add(self, steps: Iterable[Step], rest: bool, entry: E) -> None:
        node = self
        for step in steps:
            if step is None:
                node.any_one = node.any_one or Node()
                node = node.any_one
            else:
                node = node.literals.setdefault(step, Node())
        (node.rest if rest else node.here).append(entry)


def leaves(root: Node[E], segments: Sequence[str]) -> Iterator[list[E]]:
    """The entries whose path matches, most specific first; those of one path together, as they were added."""
    end = len(segments)
    node, depth = root, 0
    later: list[tuple[Node[E], int]] = []  # less specific ways, the best of them last
    while True:
        while depth < end:
            if node.rest:
                later.append((node, _REST))
            literal = node.literals.get(segments[depth])
            any_one = node.any_one
            depth += 1
            if literal is not None:
                if any_one is not None:
                    later.append((any_one, depth))
                node = literal
            elif any_one is not None:
                node = any_one
            else:
                break
        else:
            if node.here:
                yield node.here
            if node.rest:
                yield node.rest
        while later:
            node, depth = later.pop()
            if depth != _REST:
                break
            yield node.rest
        else:
            return


class Hosts(Generic[E]):
    """One trie per host, from (host as `parse_host` gives it or None for any, steps, ends in `**`, entry)."""

    def __init__(self, patterns: Iterable[tuple[bytes | None, Iterable[Step], bool, E]]) -> None:
        self._exact: dict[bytes, Node[E]] = {}
        self._below: dict[bytes, Node[E]] = {}  # *.name, by b".name"
        self._any: Node[E] = Node()
        for host, steps, rest, entry in patterns:
            if host is None:
                trie = self._any
            elif host.startswith(b"*."):
                trie = self._below.setdefault(host[1:], Node())
            else:
                trie = self._exact.setdefault(host, Node())
            trie.add(steps, rest, entry)
        self._only = (self._any,)
        self._named = bool(self._exact or self._below)
        self._ready = {host: (trie, *self._wider(host)) for host, trie in self._exact.items()}

    def tries(self, host: bytes) -> tuple[Node[E], ...]:
        """Those that serve a Host header: its own, then the longest `*.name`, then any."""
        if not self._named:
            return self._only
        ready = self._ready.get(host)  # most clients send the name just as it is configured
        if ready is None:
            key = host_key(host)
            ready = self._ready.get(key) or self._wider(key)
        return ready

    def _wider(self, key: bytes) -> tuple[Node[E], ...]:
        found = []
        if self._below and len(key) <= LONGEST_NAME:
            dot = key.find(b".", 1)  # `*` is one label at least
            while dot >= 0:
                trie = self._below.get(key[dot:])
                if trie is not None:
                    found.append(trie)
                dot = key.find(b".", dot + 1)
        return (*found, self._any)
