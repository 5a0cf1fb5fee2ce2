"""Whether a file holds a key that an algorithm can use: a PEM file, or a JWK set (RFC 7517, RFC 7518, RFC 8037).

cryptography is imported when the first key is met: 80 ms that a gateway without keys does not pay.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from gateway.config.complaints import cut
from gateway.config.fields import existing_file
from gateway.config.syntax import split_authority, text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
SHORTEST_RSA = 2048
"""Bits, RFC 7518 sections 3.3 and 3.5."""

URL = re.compile(r"https?://([^/?#\s]+)[^#\s]*")


def is_url(value: str) -> bool:
    return value.startswith(("https://", "http://"))


def url(value: object) -> str:
    """A URL that can be asked. Raises ValueError, which does not quote it: there may be a secret in it."""
    found = URL.fullmatch(text(value))
    if found is None or "@" in found[1]:
        raise ValueError("is not a URL with http or https, without spaces, a user's name, a password and a fragment")
    split_authority(cut(text(value), found[1]))
    return str(value)


def _file_or_url(value: object, info: ValidationInfo) -> Path | str:
    return url(value) if is_url(text(value)) else existing_file(value, info)


FileOrUrl = Annotated[Path | str, PlainValidator(_file_or_url), WithJsonSchema({"type": "string"})]


def why_no_set(path: Path, algorithms: Iterable[str]) -> str:
    """Why none of `algorithms` can be verified with the JWK set in `path`; "" when some can."""
    from gateway.auth.jwk import read_set

    try:
        keys = read_set(path.read_bytes(), algorithms)
    except (OSError, ValueError) as error:
        return f"cannot be used: {error}"
    return "" if keys else f"has no key for these algorithms ({keys.skipped or 'it is empty'})"


def why_not(path: Path, algorithm: str) -> str:
    """Why the key in `path` cannot verify `algorithm`; "" when it can."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    from gateway.auth.keys import of_small_order

    try:
        key = public_key(path.read_bytes())
    except (OSError, ValueError):
        return "needs a key, but the file is not PEM with a public key, nor with a private one without a password"
    if algorithm == "EdDSA":
        if not isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
            return "needs an Ed25519 key"
        return "needs another key: with this one, of small order, anybody can sign" if of_small_order(key) else ""
    if algorithm in CURVES:
        fits = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == CURVES[algorithm]
        return "" if fits else f"needs an EC key on curve {CURVES[algorithm]}"
    if not isinstance(key, rsa.RSAPublicKey):
        return "needs an RSA key"
    return "" if key.key_size >= SHORTEST_RSA else f"needs an RSA key of at least {SHORTEST_RSA} bits"


def why_not_signing(path: Path, algorithm: str) -> str:
    """Why the key in `path` cannot sign with `algorithm`; "" when it can."""
    try:
        private = b"PRIVATE KEY" in path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return why_not(path, algorithm) if private else "is not a private key, with which alone one can sign"


@lru_cache(maxsize=16)
def public_key(pem: bytes) -> "PublicKeyTypes":
    """The public key in `pem`, or the one that belongs to the private key there. Raises ValueError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

    try:
        if b"PRIVATE KEY" in pem:
            return load_pem_private_key(pem, None).public_key()
        return load_pem_public_key(pem)
    except (TypeError, UnsupportedAlgorithm):
        raise ValueError("needs a password, or is of an unknown kind") from None
