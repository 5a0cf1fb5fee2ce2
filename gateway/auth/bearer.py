"""Finds the bearer token in the Authorization header (RFC 6750), and the name under which what it says is remembered.

Other places where a token may stand are in places.py.
"""

import re
from hashlib import sha256
from typing import Protocol

from gateway.auth.providers import Reason
from gateway.exchange import Call, Fields, header_values

SCHEME = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr](?![!#$%&'*+.^_`|~0-9A-Za-z-])")
"""In any case (RFC 9110 section 11.1), and no longer word that begins like it."""

TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
"""What RFC 6750 section 2.1 lets a token consist of."""

CREDENTIAL = re.compile(rb"[A-Za-z]{6} (%b)" % TOKEN.pattern)
"""Scheme, exactly one space, token."""

LONGEST = 8 * 1024
"""Bytes of a token. Real ones are under 4 KiB: most servers cap the whole head at 8 KiB."""

DIGEST = "sha256 of authorization"
"""The name under which a head keeps the digest of its Authorization."""


class TokenError(ValueError):
    """There is something that is no token, or more than one; the text is for the client."""

    def __init__(self, detail: str, reason: Reason) -> None:
        super().__init__(detail)
        self.reason: Reason = reason


class Places(Protocol):
    """Where a provider's tokens stand."""

    def digest(self, call: Call) -> bytes | None:
        """What stands for the token and its place, None when there cannot be one.

        Raises TokenError, and Refused (403) for a token that its sender may not use so.
        """

    def token(self, call: Call) -> bytes | None:
        """The token itself, None when there is none after all. Only after `digest`. Raises TokenError."""


class Bearer:
    """The token in the Authorization header, and nowhere else."""

    def digest(self, call: Call) -> bytes | None:
        """SHA-256 of the whole header, None without one. Raises TokenError."""
        fields = call.request.fields
        digest = fields.derived.get(DIGEST)  # of a head that was seen before on this connection
        return self._digest(fields) if digest is None else digest

    def token(self, call: Call) -> bytes | None:
        """The token itself, None for another scheme. Raises TokenError."""
        return token_of(call.request.fields.index[b"authorization"])

    def _digest(self, fields: Fields) -> bytes | None:
        credential = authorization(fields)
        if credential is None:
            return None
        digest = fields.derived[DIGEST] = sha256(credential).digest()
        return digest


def authorization(fields: Fields) -> bytes | None:
    """The Authorization header, None where it can hold no token. Raises TokenError for two, or a token too large."""
    credential = fields.index.get(b"authorization")
    if credential is None:
        return None
    if fields.repeated and len(header_values(fields.headers, b"authorization")) > 1:
        # Whoever comes after us may read the other one.
        raise TokenError("There is more than one Authorization header.", "ambiguous")
    if len(credential) > LONGEST + len(b"Bearer "):
        if SCHEME.match(credential) is None:
            return None
        raise TokenError("The token is too large.", "too_large")
    return credential


def token_of(credential: bytes, place: str = "Authorization header") -> bytes | None:
    """The token of a credential, None for one of another scheme. Raises TokenError."""
    if SCHEME.match(credential) is None:
        return None
    found = CREDENTIAL.fullmatch(credential)
    if found is None:
        raise TokenError(f"The {place} is malformed.", "malformed")
    return found[1]
