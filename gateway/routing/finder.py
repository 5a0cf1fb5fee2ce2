"""From a request target to its route: normalised once, matched on that, and remembered.

The answer follows from method, host and target alone unless some route asks for a header, so the targets
that are asked for again and again cost one look into a bounded dictionary instead of 2 µs.
"""

from typing import Generic, NamedTuple, TypeVar

from gateway.exchange import Headers
from gateway.routing.path import normalise
from gateway.routing.router import Match, Router

REMEMBERED = 4096
"""Answers kept; when they are too many they are all dropped, which a flood of new targets cannot make dear."""

LONGEST = 256
"""Bytes of a target that is kept: with REMEMBERED, about 2 MiB at most."""

T = TypeVar("T")


class Found(NamedTuple, Generic[T]):
    """Where a request goes."""

    path: bytes
    """Normalised: what was matched is what is forwarded, but for a version that ends at the gateway."""
    query: bytes
    """With its "?", or empty."""
    match: Match[T]


class Finder(Generic[T]):
    """A router with its memory."""

    def __init__(self, router: Router[T]) -> None:
        self._router = router
        self._by_header = any(entry.rule.headers for entry in router.entries)
        self._found: dict[tuple[str, bytes, bytes], Found[T]] = {}

    def find(self, method: str, target: bytes, host: bytes, authority: bytes, headers: Headers) -> Found[T]:
        """`host` is the host to route by, `authority` the Host header as received. Raises Refused: 400, 404, 405."""
        key = (method, host, target)
        found = self._found.get(key)
        if found is None:
            normal = normalise(target, authority)
            match = self._router.match(method, host, normal, headers)
            found = Found(_forwarded(normal.path, match), normal.query, match)
            # A target in absolute-form is judged against the Host header too: it is not kept.
            if not self._by_header and len(target) <= LONGEST and target.startswith(b"/"):
                if len(self._found) >= REMEMBERED:
                    self._found.clear()
                self._found[key] = found
        return found


def _forwarded(path: bytes, match: Match[T]) -> bytes:
    """The path without its first segment where that is a version to be cut off."""
    first = match.rule.first
    if first is None or not first.cut:
        return path
    second = path.find(b"/", 1)
    return path[second:] if second > 0 else b"/"
