"""Which rule a request takes: the most specific that matches. The order is written in docs/routing.md.

Nothing here awaits, and nothing depends on how many rules there are: constructors sort and compile.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import parse_qsl

from gateway.errors import Refused
from gateway.exchange import NOTHING, Headers
from gateway.routing.path import Normal
from gateway.routing.pattern import Step, fold, parse_host, parse_path
from gateway.routing.trie import Hosts, Node, leaves

T = TypeVar("T")

LOOKALIKE = "The path differs from that of another route only in case, trailing dots or spaces, or parameters."

OTHER_ROUTE = "Without its version, the path is that of another route."

DOT, PERCENT = b".%"  # as numbers: looking one up in bytes is five times faster than a bytes of length one


class VersionSegment(NamedTuple):
    """A rule whose path begins with `/*`: its first segment names a version, or the rule does not match."""

    read: Callable[[str], str | None]
    """The version, None for what is none. Whether it is one is the same for a segment and its folded form."""
    cut: bool
    """It is not forwarded."""


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    path: str
    """/orders/{id}, /orders/*, /orders/**"""
    methods: frozenset[str] | None
    """Literally these (GET does not bring HEAD along); None for all."""
    host: str | None
    """A name, *.name or [IPv6], without port; None for all."""
    headers: tuple[tuple[bytes, bytes], ...]
    """Names lowercase; each must be present with this value, be it among others."""
    query: tuple[tuple[str, str], ...]
    """Decoded names and values; each must be present, be it among others."""
    target: T
    name: str
    first: VersionSegment | None = None


class Match(NamedTuple, Generic[T]):
    target: T
    params: Mapping[str, str]
    rule: Rule[T]
    version: str = ""
    """As the path names it; "" when it names none."""


class Entry(Generic[T]):
    """A rule, compiled."""

    __slots__ = (
        "conditions",
        "first",
        "host",
        "index",
        "literal",
        "match",
        "methods",
        "params",
        "rule",
        "shape",
        "steps",
    )

    def __init__(self, rule: Rule[T], index: int) -> None:
        if rule.methods is not None and not rule.methods:
            raise ValueError("an empty set of methods matches nothing")
        self.rule = rule
        self.index = index
        self.methods = rule.methods
        self.first = rule.first
        self.steps, rest, self.params = parse_path(rule.path)
        self.host = None if rule.host is None else parse_host(rule.host)
        self.conditions: frozenset[Fact] = frozenset((*rule.headers, *rule.query))
        self.shape = (self.host, folded(self.steps), rest)
        self.literal = not rest and None not in self.steps
        self.match = Match(rule.target, NOTHING, rule)  # what every match without params returns

    @property
    def rest(self) -> bool:
        return self.shape[2]

    def rank(self) -> tuple[int, bool, int]:
        """Sorts rules of the same path: most conditions, then those that name methods, then file order."""
        return -len(self.conditions) - (self.first is not None), self.methods is None, self.index


Fact = tuple[bytes, bytes] | tuple[str, str]
"""A header of the request as bytes, or a query parameter as text."""


def folded(steps: Iterable[Step]) -> tuple[Step, ...]:
    return tuple(step if step is None else fold(step) for step in steps)


def facts(headers: Headers, query: bytes) -> set[Fact]:
    """All that conditions can ask for. Query: split at "&" only, "+" is a space, duplicates all count.

    A header line counts whole, and each element of it: whoever stands in front may have joined several lines
    with commas (RFC 9110 section 5.3), and that must not lead round a route that asks for one of them. The elements
    of Cookie are its cookies, `name=value`.
    """
    elements = (
        (name, part.strip(b" \t"))
        for name, value in headers
        if (comma := b";" if name == b"cookie" else b",") in value
        for part in value.split(comma)
    )
    return {*headers, *elements, *parse_qsl(query[1:].decode("ascii"), keep_blank_values=True)}


class Router(Generic[T]):
    """Raises ValueError, naming the rule, for paths and hosts that cannot be compiled."""

    def __init__(self, rules: Sequence[Rule[T]]) -> None:
        entries: list[Entry[T]] = []
        for index, rule in enumerate(rules):
            try:
                entries.append(Entry(rule, index))
            except ValueError as error:
                raise ValueError(f"route {rule.name}: {error}") from None
        self.entries = tuple(entries)  # in file order, for explain
        entries.sort(key=Entry.rank)
        self._exact = Hosts((entry.host, entry.steps, entry.rest, entry) for entry in entries)
        self._folded = Hosts((entry.host, entry.shape[1], entry.rest, entry) for entry in entries)
        # Are all literals their own folded form? Then so is the answer for a path that is.
        self._all_folded = all(entry.shape[1] == entry.steps for entry in entries)

    def match(self, method: str, host: bytes, normal: Normal, headers: Headers) -> Match[T]:
        """The rule for this request. Raises Refused: 404 no_route, or 405 method_not_allowed with Allow."""
        entry = _first(self._exact.tries(host), method, normal.segments, normal.query, headers)
        if entry is None:
            raise self._refusal(host, normal, headers)
        if not entry.literal:
            path = normal.path
            # Most paths can be seen to be their own folded form without folding them.
            plain = self._all_folded and path.islower() and DOT not in path and PERCENT not in path
            if not plain and self.lookalike(entry, method, host, normal, headers) is not None:
                raise Refused("no_route", 404, LOOKALIKE)
            params = entry.params
            if entry.first is not None:
                return self._versioned(entry, entry.first, method, host, normal, headers)
            if params:
                segments = normal.segments
                if len(params) == 1:  # by far the most common, and twice as fast without a comprehension
                    ((name, index),) = params
                    return Match(entry.rule.target, {name: segments[index]}, entry.rule)
                return Match(entry.rule.target, {name: segments[index] for name, index in params}, entry.rule)
        return entry.match

    def _versioned(
        self, entry: Entry[T], first: VersionSegment, method: str, host: bytes, normal: Normal, headers: Headers
    ) -> Match[T]:
        """The match of a rule whose first segment is a version. Raises Refused."""
        if first.cut and self.astray(entry, method, host, normal, headers):
            raise Refused("no_route", 404, OTHER_ROUTE)
        segments = normal.segments
        params = {name: segments[index] for name, index in entry.params}
        return Match(entry.rule.target, params or NOTHING, entry.rule, first.read(segments[0]) or "")

    def astray(self, entry: Entry[T], method: str, host: bytes, normal: Normal, headers: Headers) -> bool:
        """Whether the path without its version is, to us or to a lenient server, for another route.

        If it went through, `/v2/admin` of a public route with versions would lead round the route of `/admin`.
        """
        if normal.path.startswith(b"/;"):
            return True  # what would be cut off is not the segment that was read
        rest = normal._replace(segments=normal.segments[1:])
        found = self.best(method, host, rest, headers)
        if found is None or found.first is not None or found.rule.name != entry.rule.name:
            return True
        return self.lookalike(found, method, host, rest, headers) is not None

    def lookalike(self, entry: Entry[T], method: str, host: bytes, normal: Normal, headers: Headers) -> Entry[T] | None:
        """The rule that would win if servers were lenient about segments, when it is not `entry`."""
        if entry.literal:
            return None  # somebody wrote down this very path
        segments = [name for segment in normal.segments if (name := fold(segment))]
        other = _first(self._folded.tries(host), method, segments, normal.query, headers)
        return None if other is None or other.shape == entry.shape else other

    def best(self, method: str, host: bytes, normal: Normal, headers: Headers) -> Entry[T] | None:
        """The winner before look-alikes are considered."""
        return _first(self._exact.tries(host), method, normal.segments, normal.query, headers)

    def _refusal(self, host: bytes, normal: Normal, headers: Headers) -> Refused:
        known = facts(headers, normal.query)
        allowed: set[str] = set()
        for trie in self._exact.tries(host):
            for leaf in leaves(trie, normal.segments):
                for entry in leaf:
                    if entry.first is not None and entry.first.read(normal.segments[0]) is None:
                        continue
                    if entry.conditions <= known and entry.methods is not None:
                        allowed |= entry.methods
        if not allowed:
            return Refused("no_route", 404)
        methods = sorted(allowed)
        allow = [(b"allow", ", ".join(methods).encode("ascii"))]
        return Refused("method_not_allowed", 405, headers=allow, allowed=methods)


def _first(
    tries: Sequence[Node[Entry[T]]], method: str, segments: Sequence[str], query: bytes, headers: Headers
) -> Entry[T] | None:
    known: set[Fact] | None = None  # gathered once, when the first rule asks
    for trie in tries:
        for leaf in leaves(trie, segments):
            for entry in leaf:
                if entry.methods is not None and method not in entry.methods:
                    continue
                if entry.first is not None and entry.first.read(segments[0]) is None:
                    continue
                if entry.conditions:
                    if known is None:
                        known = facts(headers, query)
                    if not entry.conditions <= known:
                        continue
                return entry
    return None
