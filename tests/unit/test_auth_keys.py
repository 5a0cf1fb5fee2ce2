"""Keys: what a PEM text may hold, and what a key may verify."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.auth.keys import VerifyKey, fitting, load_public_key
from tests.tokens import SECRET, ec_key, ed_key, rsa_key, signature

SPKI = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "idp")])
    start = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, rsa_key().public_key(), 1, start, start + datetime.timedelta(1))
    return builder.sign(rsa_key(), SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "pem",
    [
        lambda: rsa_key().public_key().public_bytes(*SPKI),
        lambda: rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        lambda: rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        lambda: rsa_key().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        certificate,
    ],
    ids=["public", "pkcs1", "private", "traditional private", "certificate"],
)
def test_the_public_key_is_found_in_every_usual_file(pem) -> None:
    assert load_public_key(pem()) == rsa_key().public_key()


@pytest.mark.parametrize("key", [ec_key, ed_key])
def test_keys_of_curves_are_loaded(key) -> None:
    assert load_public_key(key().public_key().public_bytes(*SPKI)) == key().public_key()


@pytest.mark.parametrize(
    "pem",
    [
        lambda: b"",
        lambda: b"secret",
        lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        lambda: x25519.X25519PrivateKey.generate().public_key().public_bytes(*SPKI),
        lambda: dsa.generate_private_key(1024).public_key().public_bytes(*SPKI),
    ],
    ids=["empty", "secret", "broken", "broken certificate", "x25519", "dsa"],
)
def test_what_holds_no_usable_key_is_an_error(pem) -> None:
    with pytest.raises(ValueError, match="not a"):
        load_public_key(pem())


def test_an_encrypted_private_key_is_an_error_that_says_so() -> None:
    pem = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass"))
    with pytest.raises(ValueError, match="encrypted"):
        load_public_key(pem)


def test_each_key_verifies_only_algorithms_of_its_own_type() -> None:
    assert fitting(SECRET) == {"HS256", "HS384", "HS512"}
    assert fitting(rsa_key().public_key()) == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    assert fitting(ec_key().public_key()) == {"ES256"}
    assert fitting(ec.generate_private_key(ec.SECP384R1()).public_key()) == {"ES384"}
    assert fitting(ec.generate_private_key(ec.SECP521R1()).public_key()) == {"ES512"}
    assert fitting(ec.generate_private_key(ec.SECP256K1()).public_key()) == set()
    assert fitting(ed_key().public_key()) == {"EdDSA"}
    assert fitting(ed448.Ed448PrivateKey.generate().public_key()) == {"EdDSA"}


@pytest.mark.parametrize("secret", [b"", rsa_key().public_key().public_bytes(*SPKI), b'{"kty":"oct","k":"AAAA"}'])
def test_a_secret_that_is_empty_or_really_a_key_file_is_an_error(secret: bytes) -> None:
    with pytest.raises(ValueError, match="key"):
        VerifyKey(secret, ["HS256"])


def test_a_key_verifies_nothing_by_an_algorithm_that_was_not_allowed() -> None:
    key = VerifyKey(SECRET, ["HS256", "RS256"])
    assert key.algorithms == {"HS256"}
    assert key.verify("HS256", b"text", signature(b"text", SECRET, "HS256"))
    assert not key.verify("HS256", b"texT", signature(b"text", SECRET, "HS256"))
    for algorithm in ("HS512", "RS256", "none", ""):
        assert not key.verify(algorithm, b"text", signature(b"text", SECRET, "HS512"))
