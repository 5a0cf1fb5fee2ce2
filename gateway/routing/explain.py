"""Why each rule does or does not take a request, in words; for `gateway explain`."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from gateway.exchange import Headers, header_values
from gateway.routing.host import host_key
from gateway.routing.path import Normal
from gateway.routing.router import Entry, Fact, Router, facts
from gateway.routing.trie import LONGEST_NAME

T = TypeVar("T")


class Reason(NamedTuple):
    rule: str
    matched: bool
    """This rule takes the request; at most one does."""
    reason: str


def why(router: Router[T], method: str, host: bytes, normal: Normal, headers: Headers) -> list[Reason]:
    """One reason for each rule, in file order; all that keeps a rule from matching is named at once."""
    winner = router.best(method, host, normal, headers)
    lookalike = router.lookalike(winner, method, host, normal, headers) if winner is not None else None
    astray = (
        winner is not None
        and winner.first is not None
        and winner.first.cut
        and router.astray(winner, method, host, normal, headers)
    )
    known = facts(headers, normal.query)
    reasons = []
    for entry in router.entries:
        misses = _misses(entry, method, host_key(host), normal.segments, headers, known)
        if misses or winner is None:
            reasons.append(Reason(entry.rule.name, False, "; ".join(misses)))
        elif entry is not winner:
            reasons.append(Reason(entry.rule.name, False, f"outranked by {winner.rule.name}: {_rank(winner, entry)}"))
        elif lookalike is not None:
            reasons.append(Reason(entry.rule.name, False, f"refused, the path is too much like {lookalike.rule.path}"))
        elif astray:
            reasons.append(Reason(entry.rule.name, False, "refused, the path without its version is for another route"))
        else:
            reasons.append(Reason(entry.rule.name, True, "matches"))
    return reasons


def _misses(
    entry: Entry[T], method: str, host: bytes, segments: Sequence[str], headers: Headers, known: set[Fact]
) -> list[str]:
    misses = []
    if not _serves(entry.host, host):
        misses.append(f"host {host.decode('latin-1')!r} is not {entry.rule.host}")
    path = _path_miss(entry, segments)
    if path:
        misses.append(path)
    if entry.methods is not None and method not in entry.methods:
        misses.append(f"method {method} is not in {', '.join(sorted(entry.methods))}")
    for name, value in entry.rule.headers:
        if (name, value) not in known:
            found = [given.decode("latin-1") for given in header_values(headers, name)]
            misses.append(_missing(f"header {name.decode('latin-1')}", found, value.decode("latin-1")))
    for parameter, wanted in entry.rule.query:
        if (parameter, wanted) not in known:
            found = sorted(fact[1] for fact in known if fact[0] == parameter and isinstance(fact[1], str))
            misses.append(_missing(f"query parameter {parameter}", found, wanted))
    return misses


def _serves(pattern: bytes | None, host: bytes) -> bool:
    if pattern is None:
        return True
    if pattern.startswith(b"*."):
        return host.endswith(pattern[1:]) and len(pattern) <= len(host) <= LONGEST_NAME
    return host == pattern


def _path_miss(entry: Entry[T], segments: Sequence[str]) -> str:
    for place, step in enumerate(entry.steps, 1):
        if place > len(segments):
            return f"path ends before segment {place}" + (f", {step!r}" if step is not None else "")
        if step is not None and step != segments[place - 1]:
            return f"path differs at segment {place}: {segments[place - 1]!r} is not {step!r}"
    if not entry.rest and len(segments) > len(entry.steps):
        return f"path goes on at segment {len(entry.steps) + 1}: {segments[len(entry.steps)]!r}"
    if entry.first is not None and entry.first.read(segments[0]) is None:
        return f"path does not begin with one of its versions: {segments[0]!r}"
    return ""


def _missing(what: str, found: list[str], wanted: str) -> str:
    if not found:
        return f"{what} is missing"
    return f"{what} is {' and '.join(map(repr, found))}, not {wanted!r}"


def _rank(winner: Entry[T], loser: Entry[T]) -> str:
    """By which criterion `winner` comes first; the order is that of docs/routing.md."""
    if winner.host != loser.host:
        return "its host is more specific"
    if (winner.steps, winner.rest) != (loser.steps, loser.rest):
        pairs = zip(winner.steps, loser.steps, strict=False)
        equal = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(winner.steps), len(loser.steps)))
        return f"its path is more specific at segment {equal + 1}"
    if winner.first is not None and loser.first is None:
        return "its path begins with a version"
    if len(winner.conditions) != len(loser.conditions):
        return "it has more header and query conditions"
    if (winner.methods is None) != (loser.methods is None):
        return "it names its methods"
    return "it comes earlier in the file"
