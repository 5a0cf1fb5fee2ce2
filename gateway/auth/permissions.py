"""Decides whether a caller may use a route with this method: every listed scope is required, and any listed role.

A scope is the caller's own, or granted by one of its roles (`roles.py`), which is asked only when it is not.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from gateway.auth.providers import REALM
from gateway.auth.roles import Matrix, matrix
from gateway.errors import Refused
from gateway.exchange import Caller

Permit = Callable[[str, Caller], None]
"""Takes method and caller; raises Refused (403)."""

ANY_METHOD = "*"
"""Stands for every method without a list of its own."""

NO_ROLES = matrix({})

SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")
"""RFC 6749 section 3.3: no spaces, quotes or backslashes, so it can stand in a header as it is."""


def permit_by(
    scopes: Iterable[str] | Mapping[str, Iterable[str]],
    roles: Iterable[str] = (),
    matrix: Matrix = NO_ROLES,
) -> Permit:
    """A route's permission: one list for every method, or a list per method.

    With lists per method, HEAD needs what GET needs, and a method that is not named what "*" needs, or nothing.
    With `roles` the caller must hold any one of them, too. Raises ValueError for a scope that no token could carry.
    """
    if isinstance(scopes, Mapping):
        needed = {method: _scopes(some) for method, some in scopes.items()}
        if "GET" in needed:
            needed.setdefault("HEAD", needed["GET"])
        otherwise = needed.pop(ANY_METHOD, frozenset())
    else:
        needed = {}
        otherwise = _scopes(scopes)
    granted = matrix.granted

    def permit(method: str, caller: Caller) -> None:
        required = needed.get(method, otherwise)
        if not required <= caller.scopes:
            missing = required - caller.scopes
            if caller.roles:
                missing -= granted(caller.roles, required)
            if missing:
                raise _without_scopes(required, missing, caller)

    return _and_any(frozenset(roles), matrix, permit)


def _and_any(roles: frozenset[str], matrix: Matrix, permit: Permit) -> Permit:
    if not roles:
        return permit
    held = matrix.held

    def permit_with_role(method: str, caller: Caller) -> None:
        permit(method, caller)
        if roles.isdisjoint(held(caller.roles)):
            raise _forbidden(f"Missing role: {' or '.join(sorted(roles))}", caller)

    return permit_with_role


def anyone(method: str, caller: Caller) -> None:
    """The permission of a route that asks for no scopes."""


def _scopes(scopes: Iterable[str]) -> frozenset[str]:
    found = frozenset(scopes)
    for scope in found:
        if SCOPE.fullmatch(scope) is None:
            raise ValueError(f"not a scope: {scope!r}")
    return found


def _without_scopes(required: frozenset[str], missing: frozenset[str], caller: Caller) -> Refused:
    detail = f"Missing scope{'s' if len(missing) > 1 else ''}: {' '.join(sorted(missing))}"
    return _forbidden(detail, caller, b', scope="%s"' % " ".join(sorted(required)).encode())


def _forbidden(detail: str, caller: Caller, scope: bytes = b"") -> Refused:
    known = caller.consumer and caller.label == caller.consumer
    # RFC 6750 section 3.1 is for tokens: a key or a password cannot come back with more scopes.
    challenge = [] if known else [(b"www-authenticate", b'Bearer %s, error="insufficient_scope"%b' % (REALM, scope))]
    return Refused("forbidden", 403, detail, headers=challenge)
