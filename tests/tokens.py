"""Tokens for tests, signed by hand so that every wrong shape can be made too, and calls that carry them."""

import base64
import hashlib
import hmac
import json
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from gateway.auth.providers import BadCredential, Provider
from gateway.auth.tokens import JwtProvider
from gateway.exchange import Call, Caller, Fields, Headers, Peer, Request, header
from tests.fakes import Clock

NOW = 1_750_000_000.0
SECRET = b"a secret of thirty-two bytes, ok"


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def b64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims with some changed; None takes one away."""
    usual = {"sub": "alice", "scope": "orders:read", "exp": NOW + 600, "iat": NOW}
    return {name: value for name, value in (usual | changes).items() if value is not None}


def sign(
    payload: dict[str, Any] | bytes,
    key: Any = SECRET,
    alg: Any = "HS256",
    header: dict[str, Any] | bytes | None = None,
    sign_as: str = "",
) -> bytes:
    """A token; `header` adds to the usual one or, as bytes, is it; `sign_as` signs by another algorithm."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    head = header if isinstance(header, bytes) else json.dumps({"alg": alg, "typ": "JWT"} | (header or {})).encode()
    signed = b64(head) + b"." + b64(body)
    return signed + b"." + b64(signature(signed, key, sign_as or alg))


def signature(signed: bytes, key: Any, alg: str) -> bytes:
    """By hand for HS*, which would otherwise refuse the very keys that the attacks use."""
    if alg.startswith("HS"):
        return hmac.new(key, signed, getattr(hashlib, "sha" + alg[2:])).digest()
    return get_default_algorithms()[alg].sign(signed, key)


def call_with(*headers: tuple[bytes, bytes], target: bytes = b"/") -> Call:
    """A call with these headers."""
    named: Headers = list(headers)
    return Call(Request("GET", target, Fields(named), Peer("192.0.2.1", 40000)), "id")


def bearer(token: bytes) -> Call:
    """A call with this Bearer token."""
    return call_with((b"authorization", b"Bearer " + token))


def provider(**changes: Any) -> JwtProvider:
    usual: dict[str, Any] = {"key": SECRET, "algorithms": ["HS256"], "clock": Clock(NOW)}
    return JwtProvider("idp", **(usual | changes))


async def refusal(provider: Provider, call: Call) -> BadCredential:
    """The refusal of this call, which must be a 401 that says how to authenticate."""
    with pytest.raises(BadCredential) as caught:
        await provider.identify(call)
    error = caught.value
    assert (error.status, error.code) == (401, "unauthenticated")
    challenge = header(error.headers, b"www-authenticate")
    assert challenge is not None
    assert challenge.startswith(b'Bearer realm="gateway", error="invalid_token"')
    assert error.detail
    return error


async def accepted(provider: JwtProvider, token: bytes) -> Caller:
    caller = await provider.identify(bearer(token))
    assert caller is not None
    return caller
