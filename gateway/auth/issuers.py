"""From the configuration of an issuer of tokens to its provider, with the keys that are at hand or published."""

from pathlib import Path

from pydantic import SecretStr

from gateway.auth.configured import hidden_of, places
from gateway.auth.jwk import FixedSet, read_set
from gateway.auth.keys import KeySource, PublicKey, load_public_key
from gateway.auth.keyset import KeySet
from gateway.auth.tokens import JwtProvider
from gateway.config.model import JwtProvider as JwtSettings
from gateway.parts import Parts


def jwt_provider(name: str, settings: JwtSettings, parts: Parts) -> JwtProvider:
    """A provider for the tokens of one issuer; its keys outlive a reload. Raises OSError, ValueError."""
    material = _key_material(settings)
    hidden, signed = hidden_of(settings)

    def make() -> JwtProvider:
        return JwtProvider(
            name,
            key=_keys(name, settings, material, parts),
            algorithms=settings.algorithms,
            places=places(settings),
            issuer=settings.issuer,
            audience=settings.audience,
            typ=settings.typ,
            endless=settings.expiry == "optional",
            leeway=settings.leeway,
            claims=settings.claims.model_dump(),
            forward=[(header.lower().encode(), claim) for header, claim in settings.forward.items()],
            hidden=hidden,
            signed=signed,
        )

    return parts.get(("provider", name, material, settings.model_dump_json()), make)


def _key_material(settings: JwtSettings) -> bytes:
    """What is at hand of a provider's keys: nothing of those that its issuer publishes. Raises OSError."""
    match settings:
        case JwtSettings(secret=SecretStr() as secret):
            return secret.get_secret_value().encode()
        case JwtSettings(key=Path() as file) | JwtSettings(jwks=Path() as file):
            return file.read_bytes()
    return b""


def _keys(name: str, settings: JwtSettings, material: bytes, parts: Parts) -> bytes | PublicKey | KeySource:
    algorithms = frozenset(settings.algorithms)
    if settings.secret is not None:
        return material
    if settings.key is not None:
        return load_public_key(material)
    if isinstance(settings.jwks, Path):
        return FixedSet(read_set(material, algorithms), algorithms)
    jwks, issuer = settings.jwks or "", (settings.issuer or "") if settings.discovery else ""

    def make() -> KeySet:
        # Here, not at the top: without such a provider no worker needs aiohttp, which takes 0.2 s to import.
        from gateway.auth.jwks_client import JwksClient

        return KeySet(name, JwksClient(algorithms, jwks=jwks, issuer=issuer).fetch, algorithms)

    # A part of its own, so that keys stay when claims or the audience change.
    return parts.get(("keys", name, jwks, issuer, algorithms), make)
