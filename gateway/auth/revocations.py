"""Decides which callers are revoked, for every authenticated request: by look-ups, with a clock only after a hit.

A revocation covers a caller when each field that it gives does. Those that name a token are found by its `jti`, those
that name a consumer by that; the few that give neither ("all that was issued before noon") are tried one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.auth.records import Revocation
    from gateway.exchange import Caller


class Revocations:
    """A list of them, which does not change."""

    __slots__ = ("_by_consumer", "_by_jti", "_general")

    def __init__(self, listed: Iterable[Revocation]) -> None:
        self._by_jti: dict[str, list[Revocation]] = {}
        self._by_consumer: dict[str, list[Revocation]] = {}
        self._general: list[Revocation] = []
        for each in listed:
            if each.jti:
                self._by_jti.setdefault(each.jti, []).append(each)
            elif each.consumer:
                self._by_consumer.setdefault(each.consumer, []).append(each)
            else:
                self._general.append(each)

    def cover(self, caller: Caller, clock: Callable[[], float]) -> bool:
        """Whether one that has not expired covers the caller. `clock` tells the wall-clock second."""
        found = self._by_consumer.get(caller.consumer)
        if found is not None and _any(found, caller, clock):
            return True
        if self._by_jti:
            jti = caller.claims.get("jti")
            # The type first: a list could not even be looked up.
            if isinstance(jti, str) and (found := self._by_jti.get(jti)) is not None and _any(found, caller, clock):
                return True
        return bool(self._general) and _any(self._general, caller, clock)


def _any(found: list[Revocation], caller: Caller, clock: Callable[[], float]) -> bool:
    """Whether one of those that were found for the caller's jti or consumer covers it in all else, too."""
    for each in found:
        if (
            (not each.provider or each.provider == caller.provider)
            and (not each.consumer or each.consumer == caller.consumer)
            and (each.issued_before is None or _issued(caller.claims, each.issued_before))
            and (each.expires is None or each.expires > clock())
        ):
            return True
    return False


def _issued(claims: Mapping[str, object], before: float) -> bool:
    """Whether a token with these claims was issued before; one that does not say when may well have been.

    Without claims there was no token: API keys, passwords and certificates are not issued anew every hour.
    """
    iat = claims.get("iat")
    if isinstance(iat, int) and not isinstance(iat, bool):
        return iat < before
    if isinstance(iat, float) and isfinite(iat):
        return iat < before
    return bool(claims)
