"""The known callers of the configuration, and the Caller that each becomes once a provider has vouched.

A consumer is one caller, whichever of its credentials it shows: limits count it once, metrics show its name.
"""

from dataclasses import dataclass

from gateway.auth.passwords import Scrypt
from gateway.exchange import Caller, Hidden


@dataclass(frozen=True, slots=True)
class Consumer:
    """A known caller with its credentials; equal ones are interchangeable."""

    name: str
    keys: tuple[bytes, ...] = ()
    """SHA-256 of each of its API keys."""
    password: Scrypt | None = None
    certificate: str = ""
    """One of the names that certificates.py finds in a certificate; "" for none."""
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    tier: str = ""

    def caller(self, provider: str, hidden: Hidden | None = None, signed: bool = False) -> Caller:
        """Who it is when `provider` vouches; `hidden` and `signed` say what the upstream gets to see of it."""
        return Caller(
            consumer=self.name,
            provider=provider,
            label=self.name,
            scopes=self.scopes,
            roles=self.roles,
            tier=self.tier,
            hidden=hidden,
            signed=signed,
        )


def common_name(subject: str) -> str:
    """`CN=…` of a subject (RFC 4514), escaped as there; "" when there is none, or several: each reads another one."""
    from cryptography import x509  # 80 ms that only those who know certificates pay
    from cryptography.x509.oid import NameOID

    try:
        attributes = x509.Name.from_rfc4514_string(subject).get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:  # an attribute that the parser does not know
        return ""
    return attributes[0].rfc4514_string() if len(attributes) == 1 else ""
