"""`auth.providers`: who vouches for callers. What a key can do is checked here, so that no token meets a wrong key."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
    field_validator,
    model_validator,
)

from gateway.config.complaints import show
from gateway.config.fields import (
    Claim,
    DurationOrZero,
    Fault,
    File,
    Flag,
    HeaderName,
    IdentityHeader,
    OrOne,
    Section,
    Text,
    one_or_more,
    refuse,
)
from gateway.config.keys import FileOrUrl, url, why_no_set, why_not
from gateway.config.syntax import each_header_once, identity_header, plain_text, split_authority, text

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


def _key_header(value: object) -> str:
    name = identity_header(value)
    if name.lower() in ("authorization", "cookie"):
        raise ValueError(f"{show(value)} holds other credentials, too: it would be dropped for all")
    return name


def _parameter(value: object) -> str:
    if not plain_text(value):
        raise ValueError("is empty: it must be the name of a query parameter")
    return plain_text(value)


Parameter = Annotated[str, PlainValidator(_parameter), WithJsonSchema({"type": "string", "minLength": 1})]


def _origin(value: object) -> str:
    written = text(value).lower()
    scheme, separator, rest = written.partition("://")
    if scheme not in ("http", "https") or not separator:
        raise ValueError(f"{show(value)} is not an origin such as https://app.example.com")
    _, port = split_authority(rest)
    standard = port == (443 if scheme == "https" else 80)  # browsers leave it out
    return written.rpartition(":")[0] if standard else written


Origin = Annotated[str, PlainValidator(_origin), WithJsonSchema({"type": "string", "pattern": "^https?://[^/]+$"})]
KeyHeader = Annotated[str, PlainValidator(_key_header), WithJsonSchema({"type": "string"})]


def _is_place(issuer: str | None) -> bool:
    try:
        return bool(issuer and url(issuer)) and "?" not in str(issuer)
    except ValueError:
        return False


class Claims(Section):
    """Which claims say who the caller is; dots reach into nested claims."""

    consumer: Claim = "sub"
    scopes: Claim = "scope"
    """A list, or text with spaces between the scopes."""
    roles: Claim = "roles"
    tier: Claim = "tier"


class BearerProvider(Section):
    """What providers of bearer tokens have in common (RFC 6750)."""

    issuer: Text | None = None
    """The `iss` a token must have; without it any."""
    audience: Annotated[tuple[Text, ...], BeforeValidator(one_or_more), OrOne()] = ()
    """A token's `aud` must name one of these; without them any."""
    leeway: Annotated[DurationOrZero, AfterValidator(_no_more_than_skew)] = 30.0
    """How far clocks may be apart."""
    header: KeyHeader | None = None
    """A header that may hold the token, with or without `Bearer` in front, besides Authorization."""
    cookie: HeaderName | None = None
    """A cookie that may hold the token. What changes something then needs an Origin among `origins`."""
    query: Parameter | None = None
    """A query parameter that may hold the token. It is cut out before the request is forwarded."""
    origins: tuple[Origin, ...] = ()
    """Whose pages may use the cookie, as https://app.example.com; without them those of the host that is asked."""
    claims: Claims = Claims()
    forward: Annotated[dict[IdentityHeader, Claim], AfterValidator(each_header_once)] = Field(default_factory=dict)
    """Headers for the upstream, each with the claim that it carries."""
    credential: Literal["forward", "drop", "sign"] = "forward"
    """What the upstream gets of the token: itself, nothing, or one signed by the gateway (auth.signing)."""

    @model_validator(mode="after")
    def _origins_of_cookies(self) -> Self:
        if self.origins and self.cookie is None:
            refuse([(("origins",), "has no effect without cookie")])
        return self


class JwtProvider(BearerProvider):
    """Vouches for callers by signed tokens (JWT). Exactly one of `secret`, `key`, `jwks` and `discovery`."""

    type: Literal["jwt"]
    secret: SecretStr | None = None
    """For HS…: at least 32 bytes. Keep it out of the file: ${NAME} or ${file:path}."""
    key: File | None = None
    """For RS…, PS…, ES… and EdDSA: a PEM file, relative to this one, with the public key (or the private one)."""
    jwks: FileOrUrl | None = None
    """The issuer's keys: the URL of a JWK set, or a file with one."""
    discovery: Flag = False
    """The keys are where the issuer, which is a URL, says (OpenID Connect Discovery)."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)]
    """What a token may be signed with. `none` is never accepted."""
    typ: Text | None = None
    """The `typ` a token must have, such as at+jwt (RFC 9068); without it any."""
    expiry: Literal["required", "optional"] = "required"
    """Whether a token must say when it ends (`exp`)."""

    @property
    def published(self) -> bool:
        """The keys have to be fetched from the issuer."""
        return self.discovery or isinstance(self.jwks, str)

    @field_validator("secret", mode="after")
    @classmethod
    def _long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret and len(secret.get_secret_value().encode()) < SHORTEST_SECRET:
            raise ValueError(f"is shorter than {SHORTEST_SECRET} bytes")
        return secret

    @model_validator(mode="after")
    def _fitting_key(self) -> Self:
        if [self.secret is None, self.key is None, self.jwks is None, not self.discovery].count(False) != 1:
            refuse([((), "needs exactly one of secret, key, jwks and discovery")])
        refuse(self._faults())
        return self

    def _faults(self) -> list[Fault]:
        faults: list[Fault] = []
        for index, algorithm in enumerate(self.algorithms):
            if self.secret is not None and not algorithm.startswith("HS"):
                faults.append((("algorithms", index), "needs a key, not a secret"))
            elif self.secret is None and algorithm.startswith("HS"):
                faults.append((("algorithms", index), "needs a secret, not a key"))
            elif self.key is not None and (reason := why_not(self.key, algorithm)):
                faults.append((("algorithms", index), reason))
        if not faults and isinstance(self.jwks, Path) and (reason := why_no_set(self.jwks, self.algorithms)):
            faults.append((("jwks",), reason))
        if self.discovery and not _is_place(self.issuer):
            faults.append((("discovery",), "needs an issuer that is a URL with http or https"))
        return faults


class IntrospectionProvider(BearerProvider):
    """Vouches for callers by tokens that only their issuer can read: it is asked about each (RFC 7662)."""

    type: Literal["introspection"]
    url: Annotated[str, PlainValidator(url), WithJsonSchema({"type": "string"})]
    """The issuer's introspection endpoint."""
    client_id: Text
    """The name under which the gateway asks (HTTP Basic)."""
    client_secret: SecretStr
    """Keep it out of the file: ${NAME} or ${file:path}."""
    cache: DurationOrZero = 30.0
    """How long an answer counts; never longer than the token. A token that was withdrawn is good for so long."""


class ApiKeyProvider(Section):
    """Vouches for consumers by their API keys. At least one of `header` and `query`."""

    type: Literal["api_key"]
    header: KeyHeader | None = None
    """The header that holds the key. It never reaches an upstream."""
    query: Parameter | None = None
    """The query parameter that holds the key. It is cut out before the request is forwarded."""
    credential: Literal["drop", "sign"] = "drop"
    """What the upstream gets instead of the key: nothing, or a token signed by the gateway (auth.signing)."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.header is None and self.query is None:
            refuse([((), "needs header or query: where the key stands")])
        return self


class BasicProvider(Section):
    """Vouches for consumers by user name (the consumer's) and password, RFC 7617."""

    type: Literal["basic"]
    credential: Literal["forward", "drop", "sign"] = "drop"
    """What the upstream gets of the password: itself, nothing, or a token signed by the gateway (auth.signing)."""


class CertificateProvider(Section):
    """Vouches for consumers by the client certificate of their TLS connection."""

    type: Literal["client_certificate"]
    credential: Literal["drop", "sign"] = "drop"
    """What the upstream gets instead of the certificate: nothing, or a token signed by the gateway (auth.signing)."""


class Kind(BaseModel):
    """What has to be right first: the other keys depend on it."""

    type: Literal["jwt", "api_key", "basic", "introspection", "client_certificate"]


PROVIDERS: dict[str, type[Section]] = {
    "jwt": JwtProvider,
    "api_key": ApiKeyProvider,
    "basic": BasicProvider,
    "introspection": IntrospectionProvider,
    "client_certificate": CertificateProvider,
}


def _by_type(value: object, otherwise: ModelWrapValidatorHandler[Section], info: ValidationInfo) -> Section:
    """Only the model of the type that is written complains: a union would let each of its members speak."""
    if not isinstance(value, dict):
        return JwtProvider.model_validate(value) if not isinstance(value, Section) else value
    return PROVIDERS[Kind.model_validate(value).type].model_validate(value, context=info.context)


Provider = Annotated[
    JwtProvider | ApiKeyProvider | BasicProvider | IntrospectionProvider | CertificateProvider,
    WrapValidator(_by_type),
]
