"""A verification key, bound to the algorithms that fit its type.

A key never verifies an algorithm of another family: an RSA public key is never taken for an HMAC secret
(CVE-2015-9235, CVE-2026-39999), a P-256 key never verifies ES384. The signature itself is checked by PyJWT
and cryptography, which compare in constant time.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt.algorithms import Algorithm, get_default_algorithms
from jwt.exceptions import InvalidKeyError

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey

ALGORITHMS = (
    *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""RFC 7518 and RFC 8037. `none` is no algorithm."""

CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


def fitting(key: bytes | PublicKey) -> frozenset[str]:
    """The algorithms this type of key can verify."""
    match key:
        case bytes():
            return frozenset({"HS256", "HS384", "HS512"})
        case rsa.RSAPublicKey():
            return frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
        case ec.EllipticCurvePublicKey():
            return frozenset({CURVES[key.curve.name]} if key.curve.name in CURVES else ())
        case _:
            return frozenset({"EdDSA"})


EIGHTH = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
"""The y of two of the points of order 8 on edwards25519; that of the other two is its negative."""


def of_small_order(key: PublicKey) -> bool:
    """Whether an Edwards key is one of the few points with which anybody can sign: their signatures fit any message.

    RFC 8032 does not ask for this check, and OpenSSL does not make it. x and the spelling of y make no difference.
    """
    match key:
        case ed25519.Ed25519PublicKey():
            p, bits, more = 2**255 - 19, 255, {EIGHTH, 2**255 - 19 - EIGHTH}
        case ed448.Ed448PublicKey():
            p, bits, more = 2**448 - 2**224 - 1, 448, set()
        case _:
            return False
    y = int.from_bytes(key.public_bytes_raw(), "little") & (2**bits - 1)
    return y % p in {0, 1, p - 1} | more


class VerifyKey:
    """Verifies signatures made by the algorithms that were both allowed and fitting."""

    def __init__(self, key: bytes | PublicKey, allowed: Iterable[str]) -> None:
        """Raises ValueError when nothing fits, or when a secret is empty or really a public key."""
        if not isinstance(key, bytes) and of_small_order(key):
            raise ValueError("an Edwards key of small order, with which anybody can sign")
        known = get_default_algorithms()
        usable = sorted(fitting(key) & frozenset(allowed) & frozenset(ALGORITHMS))
        if not usable:
            fits = ", ".join(sorted(fitting(key))) or "no supported algorithm"
            raise ValueError(f"none of the allowed algorithms fits this key, which can verify {fits}")
        self._by_algorithm: dict[str, tuple[Algorithm, Any]] = {}
        for name in usable:
            try:
                self._by_algorithm[name] = (known[name], known[name].prepare_key(key))
            except InvalidKeyError as error:
                raise ValueError(str(error)) from None
        self.algorithms = frozenset(usable)
        # RFC 8017 section 8.1.2: as long as the modulus. OpenSSL lets a PSS signature without its leading zeros pass.
        self._length = (key.key_size + 7) // 8 if isinstance(key, rsa.RSAPublicKey) else None

    def verify(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `signed`; False for any algorithm not in `algorithms`."""
        found = self._by_algorithm.get(algorithm)
        if found is None or self._length not in (None, len(signature)):
            return False
        return found[0].verify(signed, found[1], signature)


class NamedKey(NamedTuple):
    """A key, and what sets it apart from every other: equal names mean that a token stays verified."""

    name: bytes
    verifier: VerifyKey


class KeySource(Protocol):
    """Where a provider's keys come from."""

    algorithms: frozenset[str]
    """What tokens may be signed with."""
    names: frozenset[bytes]
    """Of all keys in force. While this is the same object, they are the same keys."""

    async def find(self, kid: object, algorithm: str) -> NamedKey | None:
        """The key for tokens with this `kid` (None without), None when there is none.

        Raises Unavailable when that cannot be found out at the moment.
        """


class OneKey:
    """The one key of an issuer, whatever its tokens call it."""

    def __init__(self, key: VerifyKey) -> None:
        self.algorithms = key.algorithms
        self.names = frozenset((b"",))
        self._key = NamedKey(b"", key)

    async def find(self, kid: object, algorithm: str) -> NamedKey:
        """That key; it knows itself which algorithms it verifies."""
        return self._key


def load_public_key(pem: bytes) -> PublicKey:
    """The public key in a PEM text: a public key, a certificate, or a private key (whose public half is used).

    Raises ValueError.
    """
    try:
        if b"-----BEGIN CERTIFICATE-----" in pem:
            key: object = x509.load_pem_x509_certificate(pem).public_key()
        elif b"PRIVATE KEY-----" in pem:
            key = load_pem_private_key(pem, password=None).public_key()
        else:
            key = load_pem_public_key(pem)
    except TypeError:
        raise ValueError("the private key is encrypted; give the public key") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a PEM public key, certificate or private key") from None
    if not isinstance(key, PublicKey):
        raise ValueError("not an RSA, elliptic-curve or Edwards-curve key")
    return key
