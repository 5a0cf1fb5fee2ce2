"""What a verified token says: whether it counts now and here (RFC 7519 section 4.1), and who the caller is.

Claims have the type the RFC gives them or the token is refused: nothing is converted, because what one
reader converts the next reads otherwise.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.auth.providers import Reason
from gateway.exchange import NEVER, Caller, Hidden

LAST_SECOND = 253_402_300_799
"""The end of the year 9999: a time beyond it is a mistake or an attempt to never expire."""

CONSUMER, SCOPES, ROLES, TIER = "consumer", "scopes", "roles", "tier"
DEFAULTS: Mapping[str, str] = {CONSUMER: "sub", SCOPES: "scope", ROLES: "roles", TIER: "tier"}

ABSENT = object()
"""Told apart from every value a claim may have, null included."""


class ClaimError(ValueError):
    """Signed, but not good for us now; the text is for the client."""

    def __init__(self, detail: str, reason: Reason = "claims") -> None:
        super().__init__(detail)
        self.reason: Reason = reason


def check(
    claims: Mapping[str, Any],
    now: float,
    *,
    issuer: str | None,
    audience: frozenset[str],
    leeway: float,
    endless: bool = False,
) -> float:
    """Judge the registered claims; returns the second at which the token ends. Raises ClaimError.

    A token that does not say when it ends is refused, unless it may be `endless`.
    """
    expires = _time(claims, "exp")
    if expires is None:
        if not endless:
            raise ClaimError("The token has no expiry.")
        expires = NEVER
    if now >= expires + leeway:
        raise ClaimError("The token has expired.", "expired")
    for name in ("nbf", "iat"):
        begins = _time(claims, name)
        if begins is not None and now + leeway < begins:
            raise ClaimError("The token is not valid yet.", "not_yet_valid")
    if issuer is not None and claims.get("iss") != issuer:
        raise ClaimError("The token is from another issuer.", "issuer")
    if audience:
        meant_for = claims.get("aud")
        if audience.isdisjoint([meant_for] if isinstance(meant_for, str) else _strings(meant_for)):
            raise ClaimError("The token is for another audience.", "audience")
    return expires


def caller(
    claims: Mapping[str, Any],
    *,
    provider: str,
    paths: Mapping[str, str],
    forward: Sequence[tuple[bytes, str]],
    expires: float,
    hidden: Hidden | None = None,
    signed: bool = False,
) -> Caller:
    """The caller these claims describe. Raises ClaimError when a claim we use has the wrong type."""
    consumer = find(claims, paths[CONSUMER], "")
    if not isinstance(consumer, str) or (consumer == "" and find(claims, paths[CONSUMER]) is not None):
        raise ClaimError("The token does not name its subject properly.")
    tier = find(claims, paths[TIER])
    if tier is not None and not isinstance(tier, str):
        raise ClaimError("A claim of the token has the wrong type.")
    sent = ((name, header_value(find(claims, path))) for name, path in forward)
    return Caller(
        consumer=consumer,
        provider=provider,
        label=provider,
        scopes=_words(find(claims, paths[SCOPES])),
        roles=_words(find(claims, paths[ROLES])),
        tier=tier or "",
        claims=claims,
        forward=tuple((name, value) for name, value in sent if value is not None),
        expires=expires,
        hidden=hidden,
        signed=signed,
    )


def find(claims: Mapping[str, Any], path: str, missing: object = None) -> Any:
    """The claim at a dotted path.

    Names may have dots themselves (`https://example.com/roles`), so the longest beginning that is a name goes first.
    """
    if path in claims:
        return claims[path]
    end = path.rfind(".")
    while end > 0:
        within = claims.get(path[:end])
        if isinstance(within, dict):
            value = find(within, path[end + 1 :], ABSENT)
            if value is not ABSENT:
                return value
        end = path.rfind(".", 0, end)
    return missing


def header_value(value: object) -> bytes | None:
    """A claim as the value of a header for the upstream, or None: then the header is not sent.

    Strings, numbers, booleans, and lists of those joined by commas. Only printable ASCII without spaces at
    its ends is sent: a control byte could end the line, other bytes are read differently by each server, and
    half a value, or a list item with a comma in it, would be another value. So all or nothing.
    """
    match value:
        case str():
            text = value
        case bool():
            text = "true" if value else "false"
        case int() | float():
            text = str(value)
        case list() if all(isinstance(item, str | int | float) and "," not in str(item) for item in value):
            items = [header_value(item) for item in value]
            text = ",".join(item.decode() for item in items if item is not None) if None not in items else ""
        case _:
            return None
    if not text or not text.isascii() or not text.isprintable() or text != text.strip(" "):
        return None
    return text.encode()


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ClaimError(f"The token's {name} is not a number.")
    if not 0 <= value <= LAST_SECOND:  # false for NaN and infinity too
        raise ClaimError(f"The token's {name} is out of range.")
    return float(value)


def _strings(value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ClaimError("A claim of the token has the wrong type.")
    return value


def _words(value: object) -> frozenset[str]:
    """A list of strings, or one string with spaces between (RFC 8693 section 4.2)."""
    if isinstance(value, str):
        return frozenset(word for word in value.split(" ") if word)
    return frozenset(_strings(value))
