"""The gateway's own tokens: what they say, to whom, for how long, and that anybody can verify them."""

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.auth.jwk import FixedSet, read_set
from gateway.auth.signer import Signer, jwks, public_jwks, signer, thumbprint
from gateway.auth.tokens import JwtProvider
from gateway.exchange import NEVER, Caller
from tests.configs import ROUTE, UPSTREAM, loaded
from tests.fakes import Clock
from tests.tokens import NOW, accepted, ec_key, ed_key, rsa_key

KEYS: dict[str, Any] = {
    "RS256": rsa_key(),
    "RS384": rsa_key(),
    "RS512": rsa_key(),
    "PS256": rsa_key(),
    "PS384": rsa_key(),
    "PS512": rsa_key(),
    "ES256": ec_key(),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed_key(),
}
ALICE = Caller(
    consumer="alice",
    provider="idp",
    label="idp",
    scopes=frozenset({"orders:write", "orders:read"}),
    roles=frozenset({"editor", "admin"}),
    tier="gold",
    claims={"sub": "alice", "email": "alice@example.com", "nested": {"not": "hashable"}},
    signed=True,
)


def pem(key: Any, password: bytes = b"") -> bytes:
    locked = BestAvailableEncryption(password) if password else NoEncryption()
    made: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
    return made


def make(algorithm: str = "ES256", **changes: Any) -> Signer:
    usual: dict[str, Any] = {"issuer": "https://gateway.example.com", "lifetime": 60.0, "clock": Clock(NOW)}
    return Signer(pem(KEYS[algorithm]), algorithm, **(usual | changes))


def token(line: bytes) -> bytes:
    """The token of a header line, of which it must be the only one."""
    assert line.startswith(b"authorization: Bearer ")
    assert line.endswith(b"\r\n")
    found = line.removeprefix(b"authorization: Bearer ").removesuffix(b"\r\n")
    assert not set(found) & set(b" \r\n:,")
    return found


def claims(line: bytes) -> dict[str, Any]:
    read: dict[str, Any] = jwt.decode(token(line), options={"verify_signature": False})
    return read


def gateway_behind(keys: bytes, algorithm: str, **changes: Any) -> JwtProvider:
    """A second gateway's provider, which knows the first by what that publishes."""
    usual: dict[str, Any] = {"issuer": "https://gateway.example.com", "audience": ["orders"], "leeway": 0.0}
    known = FixedSet(read_set(keys, [algorithm]), [algorithm])
    return JwtProvider("gateway", key=known, clock=Clock(NOW), **(usual | changes))


# -- what a token says


def test_a_token_tells_the_upstream_who_is_calling() -> None:
    told = claims(make().field(ALICE, "orders"))
    assert len(told.pop("jti")) == 24
    assert told == {
        "iss": "https://gateway.example.com",
        "sub": "alice",
        "aud": "orders",
        "iat": NOW,
        "exp": NOW + 60,
        "scope": "orders:read orders:write",
        "roles": ["admin", "editor"],
        "tier": "gold",
        "provider": "idp",
    }


def test_its_times_are_whole_seconds() -> None:
    line = make(clock=Clock(NOW + 0.9), lifetime=30.0).field(ALICE, "orders")
    payload = jwt.decode_complete(token(line), options={"verify_signature": False})["payload"]
    assert (type(payload["iat"]), type(payload["exp"])) == (int, int)
    assert (payload["iat"], payload["exp"]) == (NOW, NOW + 30)


def test_what_there_is_nothing_of_is_left_out() -> None:
    told = claims(make().field(Caller(provider="idp", signed=True), "orders"))
    assert told.keys() == {"iss", "aud", "iat", "exp", "jti", "provider"}


@pytest.mark.parametrize("scope", ["orders:read admin", "a\tb", "a\u00a0b", "a\nb", "", 'a"b', "a\\b", "ä"])
def test_a_scope_that_others_could_read_as_several_is_not_told(scope: str) -> None:
    caller = Caller(consumer="alice", scopes=frozenset({scope, "orders:read"}), signed=True)
    assert claims(make().field(caller, "orders"))["scope"] == "orders:read"


@pytest.mark.parametrize("name", ["alice\r\nX-Evil: 1", "älice", '"}', "a" * 5000, "\x00", "\U0001f600"])
def test_whatever_a_caller_is_called_stays_inside_of_the_token(name: str) -> None:
    caller = Caller(consumer=name, provider="idp", roles=frozenset({name}), tier=name, signed=True)
    told = claims(make().field(caller, "orders"))
    assert (told["sub"], told["roles"], told["tier"]) == (name, [name], name)


# -- who can verify it


@pytest.mark.parametrize("algorithm", KEYS)
async def test_another_gateway_verifies_it_with_what_this_one_publishes(algorithm: str) -> None:
    signing = make(algorithm)
    sent = token(signing.field(ALICE, "orders"))
    assert jwt.get_unverified_header(sent) == {"alg": algorithm, "typ": "JWT", "kid": signing.public["kid"]}
    caller = await accepted(gateway_behind(public_jwks(signing), algorithm), sent)
    assert (caller.consumer, caller.scopes, caller.roles, caller.tier) == ("alice", ALICE.scopes, ALICE.roles, "gold")
    assert caller.expires == NOW + 60


async def test_it_is_good_for_one_upstream_alone() -> None:
    signing = make()
    behind = gateway_behind(public_jwks(signing), "ES256")
    assert (await accepted(behind, token(signing.field(ALICE, "orders")))).consumer == "alice"
    with pytest.raises(Exception, match="audience"):
        await accepted(behind, token(signing.field(ALICE, "billing")))


@pytest.mark.parametrize("algorithm", KEYS)
def test_nothing_private_is_published(algorithm: str) -> None:
    (key,) = json.loads(public_jwks(make(algorithm)))["keys"]
    public = {"RS": {"n", "e"}, "PS": {"n", "e"}, "ES": {"crv", "x", "y"}, "Ed": {"crv", "x"}}[algorithm[:2]]
    assert key.keys() == {"kty", "use", "alg", "kid"} | public
    assert (key["use"], key["alg"]) == ("sig", algorithm)


def test_a_key_is_called_by_its_thumbprint() -> None:
    # RFC 7638 section 3.1 and RFC 8037 appendix A.3; the order of the members makes no difference.
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3okn"
        "jhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qM"
        "QvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJz"
        "KnqDKgw"
    )
    assert thumbprint({"kty": "RSA", "n": modulus, "e": "AQAB"}) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    point = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert thumbprint({"x": point, "kty": "OKP", "crv": "Ed25519"}) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert make("EdDSA").public["kid"] != make("ES256").public["kid"]
    assert make("RS256").public["kid"] == make("PS512").public["kid"]


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (pem(KEYS["ES256"]), "ES384"),
        (pem(KEYS["ES384"]), "ES256"),
        (pem(KEYS["ES256"]), "RS256"),
        (pem(KEYS["RS256"]), "EdDSA"),
        (pem(KEYS["RS256"]), "HS256"),
        (pem(KEYS["ES256"], b"password"), "ES256"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "ES256"),
        (pem(x25519.X25519PrivateKey.generate()), "EdDSA"),
        (KEYS["ES256"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "ES256"),
        (b"", "ES256"),
        (b"s" * 32, "HS256"),
    ],
)
def test_a_key_that_cannot_sign_so_is_refused_at_once(key: bytes, algorithm: str) -> None:
    with pytest.raises(ValueError, match="key"):
        Signer(key, algorithm, issuer="https://gateway.example.com", lifetime=60.0)


async def test_both_edwards_curves_sign() -> None:
    signing = Signer(
        pem(ed448.Ed448PrivateKey.generate()),
        "EdDSA",
        issuer="https://gateway.example.com",
        lifetime=60.0,
        clock=Clock(NOW),
    )
    sent = token(signing.field(ALICE, "orders"))
    assert (await accepted(gateway_behind(public_jwks(signing), "EdDSA"), sent)).consumer == "alice"


# -- how long


def test_it_is_remembered_until_half_of_its_life_is_over() -> None:
    clock = Clock(NOW)
    signing = make(clock=clock)
    first = signing.field(ALICE, "orders")
    clock.advance(29.9)
    assert signing.field(ALICE, "orders") is first
    clock.advance(0.1)
    second = signing.field(ALICE, "orders")
    assert claims(second)["exp"] == NOW + 90
    assert claims(second)["jti"] != claims(first)["jti"]
    assert signing.field(ALICE, "orders") is second


def test_it_never_outlives_the_callers_credential() -> None:
    clock = Clock(NOW)
    signing = make(clock=clock)
    caller = Caller(consumer="alice", expires=NOW + 40.7, signed=True)
    first = signing.field(caller, "orders")
    assert claims(first)["exp"] == NOW + 40
    clock.advance(35)
    assert signing.field(caller, "orders") is first  # a new one would end at the same time
    lasting = Caller(consumer="alice", expires=NEVER, signed=True)
    assert claims(signing.field(lasting, "orders"))["exp"] == NOW + 95


def test_a_credential_that_lives_on_leeway_gets_a_token_that_has_ended_too() -> None:
    caller = Caller(consumer="alice", expires=NOW - 10, signed=True)
    assert claims(make().field(caller, "orders"))["exp"] == NOW - 10


def test_a_clock_that_is_set_back_makes_a_new_one() -> None:
    clock = Clock(NOW + 3600)
    signing = make(clock=clock)
    signing.field(ALICE, "orders")
    clock.now = NOW
    assert claims(signing.field(ALICE, "orders"))["iat"] == NOW


# -- what is remembered


def test_each_caller_and_each_upstream_has_its_own() -> None:
    signing = make()
    bob = Caller(consumer="bob", signed=True)
    lines = [signing.field(caller, upstream) for caller in (ALICE, bob) for upstream in ("orders", "billing")]
    assert [(claims(line)["sub"], claims(line)["aud"]) for line in lines] == [
        ("alice", "orders"),
        ("alice", "billing"),
        ("bob", "orders"),
        ("bob", "billing"),
    ]
    assert signing.field(ALICE, "billing") is lines[1]


def test_one_caller_is_never_taken_for_another_that_has_gone() -> None:
    signing = make(size=50)
    for number in range(500):  # each is freed when it is pushed out: only then may another have its id
        line = signing.field(Caller(consumer=f"caller {number}", signed=True), "orders")
        assert claims(line)["sub"] == f"caller {number}"


def test_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    signing = make(size=2)
    callers = [Caller(consumer=str(number), signed=True) for number in range(3)]
    first, second, third = (signing.field(caller, "orders") for caller in callers)
    assert signing.field(callers[1], "orders") is second
    assert signing.field(callers[2], "orders") is third
    assert signing.field(callers[0], "orders") is not first


def test_one_that_was_renewed_is_not_the_oldest() -> None:
    clock = Clock(NOW)
    signing = make(clock=clock, size=3)
    callers = [Caller(consumer=str(number), signed=True) for number in range(4)]
    signing.field(callers[0], "orders")
    clock.advance(20)
    second = signing.field(callers[1], "orders")
    clock.advance(10)
    renewed = signing.field(callers[0], "orders")
    for caller in callers[2:]:
        signing.field(caller, "orders")
    assert signing.field(callers[0], "orders") is renewed
    assert signing.field(callers[1], "orders") is not second


# -- from the configuration

SIGNING = """
auth:
  signing: {key: gateway.pem, algorithm: ES256, issuer: https://gateway.example.com, lifetime: 90s}
  providers: {legacy: {type: basic, credential: sign}}
"""


def test_the_configuration_signs_and_publishes_with_the_same_key(tmp_path: Path) -> None:
    (tmp_path / "gateway.pem").write_bytes(pem(KEYS["ES256"]))
    config = loaded(tmp_path, SIGNING + UPSTREAM + ROUTE)
    assert config.auth.signing is not None
    line = signer(config.auth.signing).field(ALICE, "orders")
    told = claims(line)
    assert (told["iss"], told["exp"] - told["iat"]) == ("https://gateway.example.com", 90)
    published = jwks(config)
    assert published is not None
    key = jwt.PyJWKSet.from_json(published.decode())[jwt.get_unverified_header(token(line))["kid"]]
    assert jwt.decode(token(line), key, algorithms=["ES256"], audience="orders")["sub"] == "alice"


def test_without_signing_nothing_is_published(tmp_path: Path) -> None:
    assert jwks(loaded(tmp_path, UPSTREAM + ROUTE)) is None
