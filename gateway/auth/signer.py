"""Signs tokens of the gateway's own (JWT, RFC 7519): they tell one upstream who is calling, for a short time.

A signature costs 35 µs (ES256, EdDSA) to 250 µs (RS256, ES384), so a token is remembered for its caller and its
upstream until half of its life is over: then it costs 0.3 µs. It never outlives the credential that was shown.
"""

import base64
import hashlib
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import get_default_algorithms

from gateway.auth.keys import PublicKey, fitting
from gateway.config.auth import Signing
from gateway.config.model import Config
from gateway.exchange import NEVER, Caller

MOST_REMEMBERED = 10_000

REQUIRED = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
"""What a public key is made of (RFC 7638 section 3.2, RFC 8037 section 2), in the order of the thumbprint."""

SCOPE = re.compile(r"[!#-\[\]-~]+")
"""RFC 6749 section 3.3. A scope with a space in it would be two others once they stand side by side."""


class Signed(NamedTuple):
    """A token as a header line, and when it is the one to send."""

    line: bytes
    begins: float
    """Not before it was signed: a clock that has been set back makes a new one."""
    ends: float
    caller: Caller
    """Kept, so that its `id` stays its own."""


class Signer:
    """Signs with one private key. Callers are told apart as objects: providers remember theirs, too."""

    def __init__(
        self,
        key: bytes,
        algorithm: str,
        *,
        issuer: str,
        lifetime: float,
        clock: Callable[[], float] = time.time,
        size: int = MOST_REMEMBERED,
    ) -> None:
        """`key` is PEM, `lifetime` in seconds. Raises ValueError for a key that cannot sign with `algorithm`."""
        self._algorithm = get_default_algorithms()[algorithm]
        self._key, public = _pair(key)
        if algorithm not in fitting(public):
            raise ValueError(f"this key cannot sign with {algorithm}")
        told = self._algorithm.to_jwk(public, as_dict=True)
        members = {name: told[name] for name in REQUIRED[told["kty"]]}
        self.public: Mapping[str, str] = members | {"use": "sig", "alg": algorithm, "kid": thumbprint(members)}
        """The public half as a JWK (RFC 7517)."""
        header = {"alg": algorithm, "typ": "JWT", "kid": self.public["kid"]}
        self._header = _base64(orjson.dumps(header))
        self._issuer = issuer
        self._lifetime = lifetime
        self._clock = clock
        self._size = size
        # Ordered, because dropping the first key of a plain dict over and over scans its dead slots.
        self._signed: OrderedDict[tuple[int, str], Signed] = OrderedDict()

    def field(self, caller: Caller, audience: str) -> bytes:
        """The Authorization line that tells the upstream `audience` who is calling."""
        key = (id(caller), audience)
        signed = self._signed.get(key)
        if signed is not None and signed.begins <= self._clock() < signed.ends:
            return signed.line
        self._signed.pop(key, None)
        if len(self._signed) >= self._size:
            self._signed.popitem(last=False)
        signed = self._signed[key] = self._sign(caller, audience)
        return signed.line

    def _sign(self, caller: Caller, audience: str) -> Signed:
        now = int(self._clock())
        expires = min(now + self._lifetime, caller.expires)
        # A new one would end no later than this one where that is up to the caller's credential.
        renewed = NEVER if expires == caller.expires else now + self._lifetime / 2
        claims = {
            "iss": self._issuer,
            "sub": caller.consumer,
            "aud": audience,
            "iat": now,
            "exp": int(expires),
            "jti": os.urandom(12).hex(),
            "scope": " ".join(sorted(filter(SCOPE.fullmatch, caller.scopes))),
            "roles": sorted(caller.roles),
            "tier": caller.tier,
            "provider": caller.provider,
        }
        payload = orjson.dumps({name: value for name, value in claims.items() if value not in ("", [])})
        content = self._header + b"." + _base64(payload)
        signature = self._algorithm.sign(content, self._key)
        return Signed(b"authorization: Bearer %b.%b\r\n" % (content, _base64(signature)), now, renewed, caller)


def signer(settings: Signing) -> Signer:
    """The signer that the configuration asks for. Raises OSError, ValueError."""
    return Signer(settings.key.read_bytes(), settings.algorithm, issuer=settings.issuer, lifetime=settings.lifetime)


def public_jwks(signer: Signer) -> bytes:
    """The JWK set with which upstreams verify."""
    return orjson.dumps({"keys": [signer.public]})


def jwks(config: Config) -> bytes | None:
    """The JWK set that this configuration publishes, None when it signs nothing. Raises OSError, ValueError.

    Reads the key's file: to be asked when the configuration comes into force, because the workers sign with the key
    that was there then.
    """
    return None if config.auth.signing is None else public_jwks(signer(config.auth.signing))


def thumbprint(members: Mapping[str, str]) -> str:
    """The name of a public key, made of its required members alone (RFC 7638)."""
    return _base64(hashlib.sha256(orjson.dumps(members, option=orjson.OPT_SORT_KEYS)).digest()).decode()


def _pair(pem: bytes) -> tuple[Any, PublicKey]:
    """The private key in a PEM text, and its public half. Raises ValueError."""
    try:
        private = load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError("the private key needs a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a PEM private key") from None
    public = private.public_key()
    if not isinstance(public, PublicKey):
        raise ValueError("not an RSA, elliptic-curve or Edwards-curve key")
    return private, public


def _base64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
