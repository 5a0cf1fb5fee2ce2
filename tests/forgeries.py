"""Signatures and what is forged of them, whatever the algorithm: see `wycheproof.py`."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from gateway.auth.keys import PublicKey
from tests.tokens import SECRET, ec_key, ed_key, rsa_key, signature

ALGORITHMS = (
    *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "EdDSA on Ed448"),
)
"""Every algorithm of the gateway, EdDSA once for each curve."""

CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
HASHES: Mapping[str, type[hashes.HashAlgorithm]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
    "1": hashes.SHA1,
}


@cache
def private_key(algorithm: str) -> Any:
    """The key that signs by `algorithm`; a secret for HS…"""
    match algorithm[:2], algorithm:
        case "HS", _:
            return SECRET * 2  # as long as the longest hash, or else PyJWT warns
        case (("RS" | "PS"), _):
            return rsa_key()
        case _, "ES256":
            return ec_key()
        case "ES", _:
            return ec.generate_private_key(CURVES[algorithm])
        case _, "EdDSA":
            return ed_key()
    return ed448.Ed448PrivateKey.generate()


def public_key(algorithm: str) -> bytes | PublicKey:
    """What verifies it."""
    key = private_key(algorithm)
    if isinstance(key, bytes):
        return key
    public: PublicKey = key.public_key()
    return public


@dataclass(frozen=True, slots=True)
class Case:
    """A message, and its good signature."""

    algorithm: str
    signed: bytes
    good: bytes

    @property
    def key(self) -> Any:
        """The private one, or the secret."""
        return private_key(self.algorithm)

    @property
    def bits(self) -> str:
        """Those of the hash."""
        return self.algorithm[2:5]

    def digest(self, bits: str = "") -> bytes:
        return hashlib.new("sha" + (bits or self.bits), self.signed).digest()


def case(algorithm: str, signed: bytes) -> Case:
    return Case(algorithm, signed, signature(signed, private_key(algorithm), algorithm.partition(" ")[0]))


def another_hash(case: Case) -> str:
    """The name of one that does not belong to the algorithm."""
    return {"256": "384", "384": "512", "512": "256"}[case.bits]


Forge = Callable[[Case], bytes]

# -- every algorithm

GENERAL: dict[str, Forge] = {
    "no signature": lambda case: b"",
    "one zero byte": lambda case: b"\0",
    "as many zeros": lambda case: bytes(len(case.good)),
    "as many ones": lambda case: b"\xff" * len(case.good),
    "the last byte missing": lambda case: case.good[:-1],
    "the first byte missing": lambda case: case.good[1:],
    "the first half": lambda case: case.good[: len(case.good) // 2],
    "a zero appended": lambda case: case.good + b"\0",
    "a zero in front": lambda case: b"\0" + case.good,
    "twice": lambda case: case.good * 2,
    "backwards": lambda case: case.good[::-1],
    "in hexadecimal": lambda case: case.good.hex().encode(),
    "of another message": lambda case: _signature(case, case.signed + b"A"),
    "of the message without its dot": lambda case: _signature(case, case.signed.replace(b".", b"")),
    "of the digest of the message": lambda case: _signature(case, hashlib.sha256(case.signed).digest()),
    "of nothing": lambda case: _signature(case, b""),
    "by another key": lambda case: _by_a_stranger(case),
    "the message itself": lambda case: case.signed,
    "a digest of the message": lambda case: hashlib.sha512(case.signed).digest()[: len(case.good)],
}


def _signature(case: Case, message: bytes) -> bytes:
    return signature(message, case.key, case.algorithm.partition(" ")[0])


def _by_a_stranger(case: Case) -> bytes:
    algorithm = case.algorithm.partition(" ")[0]
    return signature(case.signed, _stranger(case.algorithm), algorithm)


@cache
def _stranger(algorithm: str) -> Any:
    match private_key(algorithm):
        case bytes() as secret:
            return secret[::-1]
        case rsa.RSAPrivateKey():
            return rsa.generate_private_key(65537, 2048)
        case ec.EllipticCurvePrivateKey() as key:
            return ec.generate_private_key(key.curve)
        case ed448.Ed448PrivateKey():
            return ed448.Ed448PrivateKey.generate()
    return ed25519.Ed25519PrivateKey.generate()
