"""What a provider is: something that can vouch for one kind of credential."""

from __future__ import annotations

from typing import Literal, Protocol

from gateway.errors import Refused, Shed
from gateway.exchange import Call, Caller

REALM = b'realm="gateway"'

Reason = Literal[
    "ambiguous",
    "malformed",
    "too_large",
    "algorithm",
    "unknown_key",
    "signature",
    "expired",
    "not_yet_valid",
    "issuer",
    "audience",
    "type",
    "claims",
    "unknown",
    "inactive",
    "revoked",
]
"""Why a credential is not valid: for metrics, which besides these know ok, missing, unavailable and throttled."""


class Provider(Protocol):
    """Vouches for callers by one kind of credential: a signed token, a key, a password, …"""

    name: str
    challenge: bytes
    """The WWW-Authenticate value for a caller who sent nothing, e.g. `Bearer realm="gateway"`."""

    async def identify(self, call: Call) -> Caller | None:
        """The caller; None when the request carries no credential of this kind.

        Raises BadCredential for one that is there and not valid, Unavailable when that cannot be told now.
        """

    def refusal(self, detail: str, reason: Reason) -> BadCredential:
        """The 401 for a credential of this kind that is not valid."""


class BadCredential(Refused):
    """401: a credential was sent, and it is not valid. `reason` says for metrics in which way."""

    status = 401
    code = "unauthenticated"

    def __init__(self, detail: str, challenge: bytes, reason: Reason, provider: str) -> None:
        super().__init__(detail=detail, headers=[(b"www-authenticate", challenge)])
        self.reason = reason
        self.provider = provider


class Unavailable(Shed):
    """503: whether a credential is valid cannot be told at the moment."""

    code = "identity_unavailable"

    def __init__(self, provider: str, retry_after: float = 1.0) -> None:
        super().__init__(retry_after=retry_after)
        self.provider = provider
