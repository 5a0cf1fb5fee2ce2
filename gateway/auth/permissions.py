"""Decides whether a caller may use a route with this method: every listed scope is required."""

import re
from collections.abc import Callable, Iterable, Mapping

from gateway.auth.providers import REALM
from gateway.errors import Refused
from gateway.exchange import Caller

Permit = Callable[[str, Caller], None]
"""Takes method and caller; raises Refused (403)."""

ANY_METHOD = "*"
"""Stands for every method without a list of its own."""

SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")
"""RFC 6749 section 3.3: no spaces, quotes or backslashes, so it can stand in a header as it is."""


def permit_by(scopes: Iterable[str] | Mapping[str, Iterable[str]]) -> Permit:
    """A route's permission: one list for every method, or a list per method.

    With lists per method, HEAD needs what GET needs, and a method that is not named what "*" needs, or nothing.
    Raises ValueError for a scope that no token could carry.
    """
    if isinstance(scopes, Mapping):
        needed = {method: _scopes(some) for method, some in scopes.items()}
        if "GET" in needed:
            needed.setdefault("HEAD", needed["GET"])
        otherwise = needed.pop(ANY_METHOD, frozenset())
    else:
        needed = {}
        otherwise = _scopes(scopes)

    def permit(method: str, caller: Caller) -> None:
        required = needed.get(method, otherwise)
        if not required <= caller.scopes:
            raise _forbidden(required, caller)

    return permit


def anyone(method: str, caller: Caller) -> None:
    """The permission of a route that asks for no scopes."""


def _scopes(scopes: Iterable[str]) -> frozenset[str]:
    found = frozenset(scopes)
    for scope in found:
        if SCOPE.fullmatch(scope) is None:
            raise ValueError(f"not a scope: {scope!r}")
    return found


def _forbidden(required: frozenset[str], caller: Caller) -> Refused:
    missing = sorted(required - caller.scopes)
    detail = f"Missing scope{'s' if len(missing) > 1 else ''}: {' '.join(missing)}"
    challenge = b'Bearer %s, error="insufficient_scope", scope="%s"' % (REALM, " ".join(sorted(required)).encode())
    return Refused("forbidden", 403, detail, headers=[(b"www-authenticate", challenge)])
