"""Whether a PEM file holds a key that an algorithm can use (RFC 7518, RFC 8037).

cryptography is imported when the first key is met: 80 ms that a gateway without keys does not pay.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
SHORTEST_RSA = 2048
"""Bits, RFC 7518 sections 3.3 and 3.5."""


def why_not(path: Path, algorithm: str) -> str:
    """Why the key in `path` cannot verify `algorithm`; "" when it can."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    try:
        key = public_key(path.read_bytes())
    except (OSError, ValueError):
        return "needs a key, but the file is not PEM with a public key, nor with a private one without a password"
    if algorithm == "EdDSA":
        return "" if isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)) else "needs an Ed25519 key"
    if algorithm in CURVES:
        fits = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == CURVES[algorithm]
        return "" if fits else f"needs an EC key on curve {CURVES[algorithm]}"
    if not isinstance(key, rsa.RSAPublicKey):
        return "needs an RSA key"
    return "" if key.key_size >= SHORTEST_RSA else f"needs an RSA key of at least {SHORTEST_RSA} bits"


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
