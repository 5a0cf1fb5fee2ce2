"""From a configured route to what the router needs to know of it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from gateway.routing.router import Rule

if TYPE_CHECKING:
    from gateway.config.route import Route
    from gateway.routing.versions import Versions

T = TypeVar("T")


def rules_of(settings: "Route", built: T, versions: "Versions | None") -> Iterator[Rule[T]]:
    """One rule, or two where the path may begin with a version."""
    plain = rule(settings, built)
    yield plain
    if versions is not None and versions.segment is not None:
        yield replace(plain, path=f"/*{plain.path}", first=versions.segment)


def rule(settings: "Route", built: T) -> Rule[T]:
    """GET brings HEAD with it (RFC 9110 section 9.1)."""
    match = settings.match
    methods = None if match.methods is None else frozenset(match.methods)
    return Rule(
        path=match.path,
        methods=methods | {"HEAD"} if methods and "GET" in methods else methods,
        host=match.host,
        headers=tuple((name.lower().encode(), value.encode()) for name, value in match.headers.items()),
        query=tuple(match.query.items()),
        target=built,
        name=settings.name,
    )
