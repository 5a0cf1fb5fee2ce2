"""What a provider is: something that can vouch for one kind of credential."""

from typing import Protocol

from gateway.errors import Refused
from gateway.exchange import Call, Caller

REALM = b'realm="gateway"'


class Provider(Protocol):
    """Vouches for callers by one kind of credential: a signed token, a key, a password, …"""

    name: str
    challenge: bytes
    """The WWW-Authenticate value for a caller who sent nothing, e.g. `Bearer realm="gateway"`."""

    async def identify(self, call: Call) -> Caller | None:
        """The caller; None when the request carries no credential of this kind.

        Raises BadCredential for one that is there and not valid.
        """


class BadCredential(Refused):
    """401: a credential was sent, and it is not valid. `outcome` says for metrics in which way."""

    status = 401
    code = "unauthenticated"

    def __init__(self, detail: str, challenge: bytes, outcome: str = "invalid") -> None:
        super().__init__(detail=detail, headers=[(b"www-authenticate", challenge)])
        self.outcome = outcome
