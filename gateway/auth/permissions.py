"""Decides whether a caller may use a route with this method, by its scopes and roles (by its claims: claim_rules.py).

A scope is the caller's own, or comes with another of its scopes or one of its roles (`roles.py`), which is looked up
only when it is not. Who is refused is known: 403. To those who are not, 401 says how to make themselves known.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from gateway.auth.providers import REALM
from gateway.auth.roles import Matrix, matrix
from gateway.errors import Refused
from gateway.exchange import Caller

Permit = Callable[[str, Caller], None]
"""Takes method and caller; raises Refused (403, or 401 where other credentials would help)."""

ANY_METHOD = "*"
"""Stands for every method without a list of its own."""

NO_MATRIX = matrix({})

SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")
"""RFC 6749 section 3.3: no spaces, quotes or backslashes, so it can stand in a header as it is."""

Scopes = Iterable[str | tuple[str, ...]]
"""What is required, all of it; of several scopes in a tuple any one."""


class Needed(NamedTuple):
    """One list of scopes, thought out."""

    every: frozenset[str]
    choices: tuple[tuple[str, ...], ...]
    """Of each any one."""
    asked: frozenset[str]
    """All that are named."""


def by_scopes(scopes: Scopes | Mapping[str, Scopes], matrix: Matrix = NO_MATRIX) -> Permit:
    """What a route requires of every method, or a list per method.

    With lists per method, HEAD needs what GET needs, and a method that is not named what "*" needs, or nothing.
    Raises ValueError for a scope that no token could carry.
    """
    if isinstance(scopes, Mapping):
        needed = {method: _needed(some) for method, some in scopes.items()}
        if "GET" in needed:
            needed.setdefault("HEAD", needed["GET"])
        otherwise = needed.pop(ANY_METHOD, _needed(()))
    else:
        needed, otherwise = {}, _needed(scopes)
    granted = matrix.granted
    own = {method: each.every for method, each in needed.items()}
    own_otherwise = otherwise.every

    def judge(method: str, caller: Caller) -> None:
        every, choices, asked = needed.get(method, otherwise)
        has = granted(caller.scopes, caller.roles, asked)
        if not every <= has or any(map(has.isdisjoint, choices)):
            raise _without_scopes(every, choices, has, caller)

    def permit(method: str, caller: Caller) -> None:
        if not own.get(method, own_otherwise) <= caller.scopes:
            judge(method, caller)

    return judge if otherwise.choices or any(each.choices for each in needed.values()) else permit


def by_roles(roles: Iterable[str], matrix: Matrix = NO_MATRIX, *, every: bool = False) -> Permit:
    """Any one of `roles` must be held, or every one."""
    wanted, held = frozenset(roles), matrix.held

    def any_of_them(method: str, caller: Caller) -> None:
        if wanted.isdisjoint(held(caller.roles)):
            raise forbidden(f"Missing role: {' or '.join(sorted(wanted))}", caller)

    def all_of_them(method: str, caller: Caller) -> None:
        if not wanted <= held(caller.roles):
            missing = wanted - held(caller.roles)
            raise forbidden(f"Missing role{'s' if len(missing) > 1 else ''}: {' '.join(sorted(missing))}", caller)

    return all_of_them if every else any_of_them


def anyone(method: str, caller: Caller) -> None:
    """The permission of a route that asks for nothing."""


def in_turn(*permits: Permit) -> Permit:
    """All of these, in their order."""
    if len(permits) < 2:
        return permits[0] if permits else anyone

    def permit(method: str, caller: Caller) -> None:
        for each in permits:
            each(method, caller)

    return permit


def or_ask_who(permit: Permit, challenges: Iterable[bytes]) -> Permit:
    """`permit` where callers may be anonymous: to them 403 would say that no credentials help (RFC 9110 15.5.4)."""
    headers = [(b"www-authenticate", challenge) for challenge in dict.fromkeys(challenges)]

    def permit_known(method: str, caller: Caller) -> None:
        try:
            permit(method, caller)
        except Refused:
            if caller.provider:
                raise
            raise Refused("unauthenticated", 401, "This request needs credentials.", headers=headers) from None

    return permit_known


def forbidden(detail: str, caller: Caller, scope: bytes = b"") -> Refused:
    """The 403; `scope` is a further attribute of its challenge, comma and all."""
    # RFC 6750 section 3.1 is for tokens, which have claims: a key or a password cannot come back with more scopes.
    challenge = [(b"www-authenticate", b'Bearer %s, error="insufficient_scope"%b' % (REALM, scope))]
    return Refused("forbidden", 403, detail, headers=challenge if caller.claims else [])


def _needed(scopes: Scopes) -> Needed:
    entries = tuple(scopes)
    every = frozenset(entry for entry in entries if isinstance(entry, str))
    choices = tuple(dict.fromkeys(entry for entry in entries if not isinstance(entry, str)))
    asked = every.union(*choices)
    for scope in asked:
        if SCOPE.fullmatch(scope) is None:
            raise ValueError(f"not a scope: {scope!r}")
    if not all(choices):
        raise ValueError("a choice between no scopes")
    return Needed(every, choices, asked)


def _without_scopes(
    every: frozenset[str], choices: tuple[tuple[str, ...], ...], has: frozenset[str], caller: Caller
) -> Refused:
    missing = sorted(every - has)
    open_choices = [choice for choice in choices if has.isdisjoint(choice)]
    said = [" ".join(missing)] if missing else []
    said += [f"one of {' '.join(choice)}" for choice in open_choices]
    several = len(missing) + len(open_choices) > 1
    enough = {*every, *(choice[0] for choice in choices)}  # the first complete choice: a client needs one, not all
    return forbidden(
        f"Missing scope{'s' if several else ''}: {', '.join(said)}",
        caller,
        b', scope="%s"' % " ".join(sorted(enough)).encode(),
    )
