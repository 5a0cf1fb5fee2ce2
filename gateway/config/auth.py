"""`auth`: who vouches for callers. What a key can do is checked here, so that no token meets a wrong key."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator

from gateway.config.fields import (
    Claim,
    DurationOrZero,
    Fault,
    File,
    IdentityHeader,
    Name,
    OrOne,
    Section,
    Text,
    one_or_more,
    refuse,
)
from gateway.config.keys import why_not

SHORTEST_SECRET = 32
"""Bytes. RFC 7518 section 3.2: a key as long as the hash; shorter ones are found by trying."""

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip


LONGEST_LEEWAY = 60.0
"""Seconds. More is not clock skew any more but a longer life for every token."""


def _no_more_than_skew(seconds: float) -> float:
    if seconds > LONGEST_LEEWAY:
        raise ValueError("must be 60s at most: more would lengthen the life of every token")
    return seconds


class Claims(Section):
    """Which claims say who the caller is; dots reach into nested claims."""

    consumer: Claim = "sub"
    scopes: Claim = "scope"
    """A list, or text with spaces between the scopes."""
    roles: Claim = "roles"
    tier: Claim = "tier"


class JwtProvider(Section):
    """Vouches for callers by signed tokens (JWT). Exactly one of `secret` and `key`."""

    type: Literal["jwt"]
    issuer: Text | None = None
    """The `iss` a token must have; without it any."""
    audience: Annotated[tuple[Text, ...], BeforeValidator(one_or_more), OrOne()] = ()
    """A token's `aud` must name one of these; without them any."""
    secret: SecretStr | None = None
    """For HS…: at least 32 bytes. Keep it out of the file: ${NAME} or ${file:path}."""
    key: File | None = None
    """For RS…, PS…, ES… and EdDSA: a PEM file, relative to this one, with the public key (or the private one)."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)]
    """What a token may be signed with. `none` is never accepted."""
    leeway: Annotated[DurationOrZero, AfterValidator(_no_more_than_skew)] = 30.0
    """How far clocks may be apart."""
    claims: Claims = Claims()
    forward: dict[IdentityHeader, Claim] = Field(default_factory=dict)
    """Headers for the upstream, each with the claim that it carries."""

    @field_validator("secret", mode="after")
    @classmethod
    def _long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret and len(secret.get_secret_value().encode()) < SHORTEST_SECRET:
            raise ValueError(f"is shorter than {SHORTEST_SECRET} bytes")
        return secret

    @field_validator("forward", mode="after")
    @classmethod
    def _each_once(cls, forward: dict[str, str]) -> dict[str, str]:
        return each_header_once(forward)

    @model_validator(mode="after")
    def _fitting_key(self) -> Self:
        if (self.secret is None) == (self.key is None):
            refuse([((), "needs exactly one of secret and key")])
        faults: list[Fault] = []
        for index, algorithm in enumerate(self.algorithms):
            if self.secret is not None and not algorithm.startswith("HS"):
                faults.append((("algorithms", index), "needs a key, not a secret"))
            elif self.key is not None and algorithm.startswith("HS"):
                faults.append((("algorithms", index), "needs a secret, not a key"))
            elif self.key is not None and (reason := why_not(self.key, algorithm)):
                faults.append((("algorithms", index), reason))
        refuse(faults)
        return self


class Auth(Section):
    """Who vouches for callers."""

    providers: dict[Name, JwtProvider] = Field(default_factory=dict)
    """By the name that routes use."""


def each_header_once(headers: dict[str, str]) -> dict[str, str]:
    """`headers`, unless two of their names differ by case alone. Raises ValueError."""
    seen = set()
    for name in headers:
        if name.lower() in seen:
            raise ValueError(f"{name} is here twice: case makes no difference")
        seen.add(name.lower())
    return headers
