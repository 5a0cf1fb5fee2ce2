"""The permission matrix: which permissions a role grants, and which other roles it includes. Pure.

A permission is a scope, or a pattern of one: its parts are separated by ":", and a `*` stands for exactly one
part, or as the last for all that follow (`orders:*`; `*` alone is everything). Only the matrix may use patterns:
in a token `orders:*` is a scope like any other, because a pattern is for the one who operates the gateway to give.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

INCLUDES = "role:"
"""In front of the name of a role whose permissions belong to another one, too."""

ANY = "*"

REMEMBERED = 4096
"""Answers kept: 0.2 µs instead of 3. A caller's roles are the same object each time, so comparing is free."""

Names = frozenset[str]
Grants = Mapping[str, Iterable[str]]


class Matrix(NamedTuple):
    """A matrix, thought out."""

    granted: Callable[[Names, Names], Names]
    """Those of the required scopes (second) that these roles (first) grant."""
    held: Callable[[Names], Names]
    """These roles and all that they include."""


def matrix(grants: Grants) -> Matrix:
    """What `grants` (permissions by role) means. Raises ValueError for roles that cannot be: see `faults`."""
    if found := faults(grants):
        raise ValueError(found[0][2])
    with_included = {role: _included(role, grants) for role in grants}

    @lru_cache(REMEMBERED)
    def held(roles: Names) -> Names:
        return roles.union(*(with_included.get(role, ()) for role in roles))

    @lru_cache(REMEMBERED)
    def granted(roles: Names, required: Names) -> Names:
        given = [entry for role in held(roles) for entry in grants.get(role, ()) if not entry.startswith(INCLUDES)]
        return frozenset(scope for scope in required if any(covers(entry, scope) for entry in given))

    return Matrix(granted, held)


def covers(permission: str, scope: str) -> bool:
    """Whether the permission of a role is one for this scope."""
    if ANY not in permission:
        return permission == scope
    wanted, asked = permission.split(":"), scope.split(":")
    if wanted[-1] == ANY:
        rest = asked[len(wanted) - 1 :]
        wanted, asked = wanted[:-1], asked[: len(wanted) - 1]
        if not rest:
            return False
    return len(wanted) == len(asked) and all(part in (ANY, other) for part, other in zip(wanted, asked, strict=True))


def pattern(permission: str) -> str:
    """The permission, if its `*` are whole parts. Raises ValueError."""
    if any(ANY in part and part != ANY for part in permission.split(":")):
        raise ValueError("'*' stands for a whole part between colons, as in orders:*")
    return permission


def faults(grants: Grants) -> list[tuple[str, int, str]]:
    """What is wrong with the inclusions: role, position in its list, reason."""
    found = []
    for role, entries in grants.items():
        for position, entry in enumerate(entries):
            name = entry.removeprefix(INCLUDES)
            if not entry.startswith(INCLUDES):
                continue
            if name not in grants:
                found.append((role, position, f"there is no role {name!r}"))
            elif role in _included(name, grants):
                found.append((role, position, f"{name!r} includes {role!r}: roles go round in a circle"))
    return found


def _included(role: str, grants: Grants) -> Names:
    """The role and all that it includes, directly or not; a circle is walked once."""
    seen: set[str] = set()
    ahead = [role]
    while ahead:
        current = ahead.pop()
        if current not in seen:
            seen.add(current)
            ahead += [each.removeprefix(INCLUDES) for each in grants.get(current, ()) if each.startswith(INCLUDES)]
    return frozenset(seen)
