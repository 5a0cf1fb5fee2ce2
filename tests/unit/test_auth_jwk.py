"""JSON Web Keys: which of a set are used, for which algorithms, and by which name they are found."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

from gateway.auth.jwk import LONGEST_RSA, MOST_KEYS, JwkSet, read_key, read_set
from gateway.auth.keys import ALGORITHMS
from tests.jwks import Private, jwk, jwks
from tests.tokens import b64, ec_key, ed_key, rsa_key, signature

ALL = frozenset(ALGORITHMS)
RSA = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


def read(*keys: object, allowed: frozenset[str] = ALL) -> JwkSet:
    return read_set(jwks(*keys), allowed)


def algorithms(key: object, allowed: frozenset[str] = ALL) -> frozenset[str]:
    return read_key(key, allowed)[1].verifier.algorithms


# --- what is used ---


@pytest.mark.parametrize(
    ("key", "able"),
    [
        (rsa_key(), RSA),
        (ec_key(), {"ES256"}),
        (ec.generate_private_key(ec.SECP384R1()), {"ES384"}),
        (ec.generate_private_key(ec.SECP521R1()), {"ES512"}),
        (ed_key(), {"EdDSA"}),
        (ed448.Ed448PrivateKey.generate(), {"EdDSA"}),
    ],
)
def test_a_key_verifies_the_algorithms_of_its_type_and_no_others(key: Private, able: set[str]) -> None:
    found = read(jwk(key, "a"))
    assert {algorithm for algorithm in ALGORITHMS if found.find("a", algorithm)} == able
    for algorithm in able:
        verifier = found.find("a", algorithm)
        assert verifier is not None
        assert verifier.verifier.verify(algorithm, b"x.y", signature(b"x.y", key, algorithm))
        assert not verifier.verifier.verify(algorithm, b"x.z", signature(b"x.y", key, algorithm))


def test_the_example_of_rfc_7517_is_read() -> None:
    # Appendix A.1: an EC key for encryption, which is left out, and an RSA key that is bound to RS256.
    text = """{"keys": [
      {"kty":"EC", "crv":"P-256", "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
       "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM", "use":"enc", "kid":"1"},
      {"kty":"RSA", "n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1
L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4
QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbO
pbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csF
Cur-kEgU8awapJzKnqDKgw", "e":"AQAB", "alg":"RS256", "kid":"2011-04-29"}]}"""
    found = read_set(text.replace("\n", "").encode(), ALL)
    assert {algorithm for algorithm in ALGORITHMS if found.find("2011-04-29", algorithm)} == {"RS256"}
    assert found.find("1", "ES256") is None
    assert found.skipped == "1 × not for signatures (use)"


def test_the_configuration_binds_a_key_and_so_does_its_own_alg() -> None:
    assert algorithms(jwk(rsa_key()), frozenset({"RS256", "ES256"})) == {"RS256"}
    assert algorithms(jwk(rsa_key(), alg="PS256")) == {"PS256"}
    with pytest.raises(ValueError, match="none of the allowed"):
        algorithms(jwk(rsa_key(), alg="PS256"), frozenset({"RS256"}))


@pytest.mark.parametrize("more", [{"use": "sig"}, {"key_ops": ["verify"]}, {"x5t": "ignored", "x5u": "https://a"}])
def test_a_key_that_is_for_verifying_is_used(more: dict[str, Any]) -> None:
    assert algorithms(jwk(rsa_key(), **more)) == RSA


# --- what is left out (attack D18 and others) ---


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (jwk(rsa_key(), use="enc"), "use"),
        (jwk(rsa_key(), use="SIG"), "use"),
        (jwk(rsa_key(), use=["sig"]), "use"),
        (jwk(rsa_key(), key_ops=["sign"]), "key_ops"),
        (jwk(rsa_key(), key_ops=["encrypt", "wrapKey"]), "key_ops"),
        (jwk(rsa_key(), key_ops=[]), "key_ops"),
        (jwk(rsa_key(), key_ops="verify"), "key_ops"),
        (jwk(rsa_key(), use="sig", key_ops=["encrypt"]), "key_ops"),
        (jwk(rsa_key(), alg="RSA-OAEP"), "none of the allowed"),
        (jwk(rsa_key(), alg="none"), "none of the allowed"),
        (jwk(rsa_key(), alg="HS256"), "none of the allowed"),
        (jwk(rsa_key(), alg="ES256"), "none of the allowed"),
        (jwk(rsa_key(), alg=["RS256"]), "none of the allowed"),
        (jwk(rsa_key(), d="AQAB"), "a private key"),
        (jwk(ec_key(), d="AQAB"), "a private key"),
        (jwk(ed_key(), d="AQAB"), "a private key"),
        ({"kty": "oct", "k": "c2VjcmV0" * 8}, "a secret"),
        (jwk(rsa_key()) | {"kid": 7}, "kid"),
        (jwk(rsa.generate_private_key(65537, 1024)), "2048 to"),
        (jwk(rsa_key(), n=b64(b"\xff" * (LONGEST_RSA // 8 + 1)).decode()), "2048 to"),
        (jwk(rsa_key(), e=b64(b"\xff" * 9).decode()), "exponent"),
        (jwk(rsa_key(), e="AQ"), "e must be"),
        (jwk(rsa_key(), e="AQAA"), "e must be"),
        (jwk(rsa_key(), e="AQAB="), "malformed"),
        (jwk(rsa_key(), n="+/+/"), "malformed"),
        (jwk(rsa_key(), n=7), "malformed"),
        (jwk(rsa_key(), n="ä"), "malformed"),
        (jwk(rsa_key(), n=None), "malformed"),
        (jwk(ec_key(), x=b64(bytes(32)).decode()), "(?i)curve"),
        (jwk(ec_key(), x=b64(bytes(31)).decode()), "malformed"),
        (jwk(ec_key(), crv="P-384"), "malformed"),
        (jwk(ec_key(), crv="secp256k1"), "not supported"),
        (jwk(ec_key(), crv=["P-256"]), "not supported"),
        (jwk(ed_key(), crv="X25519"), "not supported"),
        (jwk(ed_key(), x="AAAA"), "32 bytes"),
        (jwk(rsa_key(), kty="rsa"), "not supported"),
        (jwk(rsa_key(), kty=None), "not supported"),
        ("text", "not an object"),
        (None, "not an object"),
    ],
)
def test_a_key_that_is_not_for_us_is_left_out_and_the_others_stay(key: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_key(key, ALL)
    found = read(key, jwk(ec_key(), "good"))
    assert len(found.names) == 1
    assert found.find("good", "ES256")
    assert found.skipped.startswith("1 × ")


def test_no_reason_repeats_what_the_key_holds() -> None:
    assert "c2VjcmV0" not in read({"kty": "oct", "k": "c2VjcmV0"}).skipped


# --- what is no set ---


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>",
        b"[]",
        b'"keys"',
        b"{}",
        b'{"keys": {}}',
        b'{"keys": null}',
        b'{"keys": [], "keys": []}',
        b'{"keys": [NaN]}',
        b"\xff\xfe",
        b'{"keys": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        json.dumps({"keys": [{}] * (MOST_KEYS + 1)}).encode(),
    ],
    ids=range(12),
)
def test_what_is_no_set_is_refused_as_a_whole(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|JWK set|more than"):
        read_set(text, ALL)


def test_a_set_without_usable_keys_is_empty() -> None:
    assert not read()
    assert not read({"kty": "oct", "k": "AAAA"})
    assert not read(jwk(rsa_key()), allowed=frozenset({"ES256"}))


# --- by which name a key is found ---


def test_a_key_is_found_by_its_kid() -> None:
    found = read(jwk(rsa_key(), "a"), jwk(ec_key(), "b"))
    assert found.find("a", "RS256")
    assert found.find("b", "RS256") is None
    for kid in ("A", "", "../a", "a' OR 1=1", "k" * 7000, 7, ["a"], {"a": 1}):
        assert found.find(kid, "RS256") is None


def test_a_token_without_kid_means_the_only_key_that_fits() -> None:
    other = rsa.generate_private_key(65537, 2048)
    assert read(jwk(rsa_key(), "a"), jwk(ec_key(), "b")).find(None, "RS256")
    assert read(jwk(rsa_key()), jwk(ec_key())).find(None, "ES256")
    assert read(jwk(rsa_key(), "a"), jwk(other, "b")).find(None, "RS256") is None
    assert read(jwk(rsa_key(), "a", alg="RS256"), jwk(other, "b", alg="RS512")).find(None, "RS256")


def test_two_keys_of_one_kid_are_told_apart_by_algorithm_or_not_at_all() -> None:
    other = rsa.generate_private_key(65537, 2048)
    found = read(jwk(rsa_key(), "a"), jwk(ec_key(), "a"))
    assert found.find("a", "RS256")
    assert found.find("a", "ES256")
    for third in (jwk(other, "a"), jwk(other, "a", alg="RS256")):
        assert read(jwk(rsa_key(), "a"), third).find("a", "RS256") is None
    three = read(jwk(rsa_key(), "a"), jwk(other, "a"), jwk(rsa.generate_private_key(65537, 2048), "a"))
    assert three.find("a", "RS256") is None


def test_the_same_key_once_more_is_no_other_key() -> None:
    assert read(jwk(rsa_key(), "a"), jwk(rsa_key(), "a", use="sig")).find(None, "RS256")


def test_a_key_keeps_its_name_as_long_as_it_is_the_same() -> None:
    (name,) = read(jwk(rsa_key(), "a")).names
    assert read(jwk(rsa_key(), "a", use="sig", x5t="new")).names == {name}
    for other in (jwk(rsa_key(), "b"), jwk(rsa_key()), jwk(rsa_key(), "a", alg="RS256"), jwk(ec_key(), "a")):
        assert read(other).names.isdisjoint({name})
