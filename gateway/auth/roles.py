"""The permission matrix: which scopes a role grants or a scope includes, and which roles another one has. Pure.

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
"""Answers kept: 0.2 µs instead of 2 or more. A caller's scopes and roles are the same objects each time it calls."""

Names = frozenset[str]
Grants = Mapping[str, Iterable[str]]
Fault = tuple[tuple[str | int, ...], str]
"""Whose entry and its position in the list, or only a name, and what is wrong with it."""

NOTHING: Grants = {}


class Matrix(NamedTuple):
    """A matrix, thought out."""

    granted: Callable[[Names, Names, Names], Names]
    """Which of the scopes that are asked for (third) a caller with these scopes (first) and roles (second) has."""
    held: Callable[[Names], Names]
    """These roles and all that they include."""
    through: Callable[[str, Names, Names], str]
    """What gives such a caller a scope that is not its own: `role viewer`, or a scope. "" for nothing. For eyes."""


def matrix(roles: Grants, permissions: Grants = NOTHING) -> Matrix:
    """What the permissions by role and by scope mean. Raises ValueError for what cannot be: see the faults."""
    if found := [*faults(roles), *permission_faults(permissions)]:
        raise ValueError(found[0][1])
    with_included = {role: _included(role, roles) for role in roles}
    by_scope = {scope: _spread(entries, permissions) for scope, entries in permissions.items()}
    by_role = {
        role: _spread((entry for each in names for entry in roles[each] if not entry.startswith(INCLUDES)), permissions)
        for role, names in with_included.items()
    }

    @lru_cache(REMEMBERED)
    def held(those: Names) -> Names:
        return those.union(*(with_included.get(role, ()) for role in those))

    @lru_cache(REMEMBERED)
    def granted(scopes: Names, those: Names, asked: Names) -> Names:
        given = {entry for role in those for entry in by_role.get(role, ())}
        given.update(entry for scope in scopes for entry in by_scope.get(scope, ()))
        return frozenset(scope for scope in asked if scope in scopes or _among(given, scope))

    def through(scope: str, scopes: Names, those: Names) -> str:
        ways = [(other, by_scope.get(other, ())) for other in sorted(scopes)]
        ways += [(f"role {role}", by_role.get(role, ())) for role in sorted(those)]
        return next((name for name, given in ways if _among(given, scope)), "")

    return Matrix(granted, held, through)


def covers(permission: str, scope: str) -> bool:
    """Whether a permission of the matrix is one for this scope."""
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


def faults(roles: Grants) -> list[Fault]:
    """What is wrong with the roles that include others."""
    found: list[Fault] = []
    for role, entries in roles.items():
        for position, entry in enumerate(entries):
            name = entry.removeprefix(INCLUDES)
            if not entry.startswith(INCLUDES):
                continue
            if name not in roles:
                found.append(((role, position), f"there is no role {name!r}"))
            elif role in _included(name, roles):
                found.append(((role, position), f"{name!r} includes {role!r}: roles go round in a circle"))
    return found


def permission_faults(permissions: Grants) -> list[Fault]:
    """What is wrong with the scopes that include others. A pattern closes no circle: `orders:*` may have its owner."""
    found: list[Fault] = []
    for scope, entries in permissions.items():
        if ANY in scope or scope.startswith(INCLUDES):
            found.append(((scope,), "must be a scope: patterns and roles are for the matrix to give"))
        for position, entry in enumerate(entries):
            if entry.startswith(INCLUDES):
                found.append(((scope, position), "a scope includes scopes only: it is a role that has roles"))
            elif scope in _included(entry, permissions, ""):
                found.append(((scope, position), f"{entry!r} includes {scope!r}: permissions go round in a circle"))
    return found


def _among(given: Iterable[str], scope: str) -> bool:
    return any(covers(entry, scope) for entry in given)


def _included(name: str, grants: Grants, mark: str = INCLUDES) -> Names:
    """The name and all that it includes, directly or not; a circle is walked once."""
    seen: set[str] = set()
    ahead = [name]
    while ahead:
        current = ahead.pop()
        if current not in seen:
            seen.add(current)
            ahead += [each.removeprefix(mark) for each in grants.get(current, ()) if each.startswith(mark)]
    return frozenset(seen)


def _spread(entries: Iterable[str], permissions: Grants) -> Names:
    """The entries, and all that the scopes which they cover include, directly or not."""
    seen: set[str] = set()
    ahead = list(entries)
    while ahead:
        entry = ahead.pop()
        if entry not in seen:
            seen.add(entry)
            covered = [name for name in permissions if covers(entry, name)] if ANY in entry else [entry]
            ahead += [each for name in covered for each in permissions.get(name, ())]
    return frozenset(seen)
