"""`auth`: who vouches for callers, which callers are known, and what they may do."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from gateway.config.consumers import Consumer, Grants, faults
from gateway.config.fields import Duration, Fault, File, Flag, Name, RateOf, Section, Text, refuse
from gateway.config.keys import why_not_signing
from gateway.config.providers import Provider

LONGEST_SIGNED = 3600.0
"""Seconds. A token that tells an upstream who is calling now is not meant to be kept."""


SHORTEST_SIGNED = 5.0
"""Times in tokens are whole seconds, and clocks of upstreams are apart."""


def _short(seconds: float) -> float:
    if seconds < SHORTEST_SIGNED:
        raise ValueError("must be 5s at least: clocks are not that exact")
    if seconds > LONGEST_SIGNED:
        raise ValueError("must be 1h at most: the gateway makes a new one whenever it is needed")
    return seconds


class Signing(Section):
    """Tokens of the gateway's own, for upstreams: who is calling, signed, for one upstream and a short time."""

    key: File
    """A PEM file with a private key. Upstreams find its public half at /.well-known/jwks.json of the admin listener."""
    algorithm: Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
    issuer: Text
    """The `iss` of these tokens."""
    lifetime: Annotated[Duration, AfterValidator(_short)] = 60.0

    @model_validator(mode="after")
    def _fitting_key(self) -> Self:
        if reason := why_not_signing(self.key, self.algorithm):
            refuse([(("key",), reason)])
        return self


class Auth(Section):
    """Who vouches for callers, which callers are known, and what roles grant."""

    providers: dict[Name, Provider] = Field(default_factory=dict)
    """By the name that routes use."""
    consumers: dict[Name, Consumer] = Field(default_factory=dict)
    """By name: the known callers of api_key, basic and client_certificate."""
    roles: Grants = Field(default_factory=dict)
    """Permissions by role: scopes, patterns of them (`orders:*`), and `role:NAME` for all that another role has."""
    permissions: Grants = Field(default_factory=dict)
    """By a scope, what it includes: other scopes, and patterns of them."""
    revocation: Flag = False
    """Refuse what `gateway revoke` has revoked."""
    failure_limit: RateOf | None = None
    """Wrong credentials from one address; beyond it 429 for a while, whatever is sent. Absent: any number."""
    signing: Signing | None = None
    """How the gateway signs tokens of its own, for providers with `credential: sign`."""

    @model_validator(mode="after")
    def _of_one_piece(self) -> Self:
        refuse([*faults(self.consumers, self.roles, self.permissions), *self._namesakes(), *self._unsigned()])
        return self

    def _namesakes(self) -> Iterator[Fault]:
        """In metrics and limits a consumer is known by its name, a caller with a token by its provider's."""
        for name in self.consumers:
            if name in self.providers:
                yield ("consumers", name), "has the name of a provider: metrics could not tell them apart"

    def _unsigned(self) -> Iterator[Fault]:
        signing = [name for name, each in self.providers.items() if each.credential == "sign"]
        if self.signing is None:
            for name in signing:
                yield ("providers", name, "credential"), "needs auth.signing: the key that the gateway signs with"
        elif not signing:
            yield ("signing",), "has no effect: no provider says credential: sign"
