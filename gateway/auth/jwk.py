"""JSON Web Keys (RFC 7517, 7518, 8037): from the text of a set to keys, each with the algorithms it may verify.

A key is used when everything that its issuer says about it allows that: `use`, `key_ops` and `alg` are judged
here, because PyJWT looks at none of them. Others are left out one by one, with a reason, so that an issuer may
publish keys that are not for us. Secrets and private keys are left out, too: whoever can read the set has them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.auth import jws
from gateway.auth.keys import NamedKey, PublicKey, VerifyKey

SHORTEST_RSA, LONGEST_RSA = 2048, 8192
"""Bits. RFC 7518 section 3.3; and one signature of a longer key holds up everybody else for a millisecond."""

LARGEST_EXPONENT = 2**32
"""65537 is what everybody has; verifying takes longer with each bit."""

MOST_KEYS = 256
"""Large issuers publish a dozen."""

CURVES: Mapping[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
EDWARDS: Mapping[str, Callable[[bytes], PublicKey]] = {
    "Ed25519": ed25519.Ed25519PublicKey.from_public_bytes,
    "Ed448": ed448.Ed448PublicKey.from_public_bytes,
}


class JwkSet:
    """The usable keys of one set. Empty, and false, when there are none."""

    def __init__(self, keys: Iterable[tuple[str | None, NamedKey]], skipped: Iterable[str] = ()) -> None:
        """`keys` with their `kid`; `skipped` says why others are not among them."""
        self._found: dict[tuple[str | None, str], NamedKey | None] = {}  # None: more than one
        self.names: frozenset[bytes] = frozenset()
        self.skipped = ", ".join(f"{count} × {reason}" for reason, count in sorted(Counter(skipped).items()))
        for kid, key in keys:
            if key.name in self.names:
                continue  # the same key once more
            self.names |= {key.name}
            for algorithm in key.verifier.algorithms:
                # A token that names no key may be any one's: so each is found without its name, too.
                for name in {kid, None}:
                    self._found[name, algorithm] = None if (name, algorithm) in self._found else key

    def __bool__(self) -> bool:
        return bool(self.names)

    def find(self, kid: object, algorithm: str) -> NamedKey | None:
        """The one key that a token with this `kid` (None without) means; None also when it could be several."""
        return self._found.get((kid, algorithm)) if kid is None or isinstance(kid, str) else None


class FixedSet:
    """The keys of a set that does not change, for a provider."""

    def __init__(self, keys: JwkSet, algorithms: Iterable[str]) -> None:
        self.algorithms = frozenset(algorithms)
        self.names = keys.names
        self._keys = keys

    async def find(self, kid: object, algorithm: str) -> NamedKey | None:
        """As the set itself."""
        return self._keys.find(kid, algorithm)


def read_set(text: bytes, allowed: Iterable[str]) -> JwkSet:
    """The keys of a JWK set that can verify some of `allowed`. Raises ValueError when it is no set."""
    algorithms = frozenset(allowed)
    try:
        entries = jws.json_object(text).get("keys")
    except jws.MalformedError:
        raise ValueError("not JSON, or not one clear object") from None
    if not isinstance(entries, list):
        raise ValueError("not a JWK set: it has no list of keys")
    if len(entries) > MOST_KEYS:
        raise ValueError(f"it has more than {MOST_KEYS} keys")
    keys, skipped = [], []
    for entry in entries:
        try:
            keys.append(read_key(entry, algorithms))
        except ValueError as error:
            skipped.append(str(error))
    return JwkSet(keys, skipped)


def read_key(jwk: object, allowed: frozenset[str]) -> tuple[str | None, NamedKey]:
    """One key with its `kid`, to verify what `allowed`, its type and its own `alg` agree on. Raises ValueError."""
    if not isinstance(jwk, dict):
        raise ValueError("not an object")
    kid, alg = jwk.get("kid"), jwk.get("alg")
    if not isinstance(kid, str | None):
        raise ValueError("a kid that is not text")
    if jwk.get("use", "sig") != "sig":
        raise ValueError("not for signatures (use)")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("not for verifying (key_ops)")
    if alg is not None:
        allowed &= {alg} if isinstance(alg, str) else frozenset()
    public = _public_key(jwk)
    verifier = VerifyKey(public, allowed)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    told = json.dumps([kid, sorted(verifier.algorithms)]).encode()
    return kid, NamedKey(hashlib.sha256(told + der).digest(), verifier)


def _public_key(jwk: Mapping[str, Any]) -> PublicKey:
    kind = jwk.get("kty")
    if kind == "oct":
        raise ValueError("a secret, which is none once it is published")
    if "d" in jwk:
        raise ValueError("a private key, which everybody has who can read the set")
    try:
        match kind:
            case "RSA":
                return _rsa(_number(jwk, "n"), _number(jwk, "e"))
            case "EC" if (curve := CURVES.get(str(jwk.get("crv")))) is not None:
                return _on_curve(curve, _bytes(jwk, "x"), _bytes(jwk, "y"))
            case "OKP" if (load := EDWARDS.get(str(jwk.get("crv")))) is not None:
                return load(_bytes(jwk, "x"))
    except jws.MalformedError:
        raise ValueError("malformed") from None
    except UnsupportedAlgorithm:
        raise ValueError("of a kind that this system's OpenSSL does not know") from None
    raise ValueError("of a type or curve that is not supported")


def _rsa(modulus: int, exponent: int) -> PublicKey:
    if not SHORTEST_RSA <= modulus.bit_length() <= LONGEST_RSA:
        raise ValueError(f"an RSA key that has not {SHORTEST_RSA} to {LONGEST_RSA} bits")
    if exponent >= LARGEST_EXPONENT:
        raise ValueError("an RSA key with a huge exponent")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _on_curve(curve: ec.EllipticCurve, x: bytes, y: bytes) -> PublicKey:
    size = (curve.key_size + 7) // 8
    if len(x) != size or len(y) != size:  # RFC 7518 section 6.2.1.2: leading zeros are written
        raise ValueError("malformed")
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), curve)
    return numbers.public_key()  # checks that the point is on the curve


def _bytes(jwk: Mapping[str, Any], name: str) -> bytes:
    value = jwk.get(name)
    if not isinstance(value, str) or not value.isascii():
        raise jws.MalformedError(name)
    return jws.decode(value.encode())


def _number(jwk: Mapping[str, Any], name: str) -> int:
    return int.from_bytes(_bytes(jwk, name))
