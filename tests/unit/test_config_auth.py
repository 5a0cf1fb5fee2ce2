from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.config.providers import JwtProvider
from tests.configs import SECRET, complaint, complaints, loaded, provider
from tests.jwks import jwk, jwks

S = f"secret: {SECRET}"
RSA = rsa.generate_private_key(65537, 2048)


def write_public(key: PrivateKeyTypes, path: Path) -> None:
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def write_private(key: PrivateKeyTypes, path: Path, protection: KeySerializationEncryption | None = None) -> None:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection or NoEncryption()))


def test_a_provider_with_a_secret(tmp_path: Path) -> None:
    settings = f"secret: {SECRET}, algorithms: [HS256, HS512], issuer: i, audience: a, leeway: 0s"
    settings += ", claims: {roles: realm.roles}, forward: {X-User: sub}"
    given = loaded(tmp_path, provider(settings)).auth.providers["p"]
    assert (given.issuer, given.audience, given.leeway, given.algorithms) == ("i", ("a",), 0.0, ("HS256", "HS512"))
    assert (given.claims.consumer, given.claims.scopes, given.claims.roles, given.claims.tier) == (
        "sub", "scope", "realm.roles", "tier",
    )  # fmt: skip
    assert given.forward == {"X-User": "sub"}


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (RSA, ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
        (ec.generate_private_key(ec.SECP256R1()), ["ES256"]),
        (ec.generate_private_key(ec.SECP384R1()), ["ES384"]),
        (ec.generate_private_key(ec.SECP521R1()), ["ES512"]),
        (ed25519.Ed25519PrivateKey.generate(), ["EdDSA"]),
        (ed448.Ed448PrivateKey.generate(), ["EdDSA"]),
    ],
)
def test_keys_public_or_private_beside_the_configuration(
    tmp_path: Path, key: PrivateKeyTypes, algorithms: list[str]
) -> None:
    write_public(key, tmp_path / "public.pem")
    write_private(key, tmp_path / "private.pem")
    for name in ("public.pem", "private.pem"):
        given = loaded(tmp_path, provider(f"key: {name}, algorithms: [{', '.join(algorithms)}]")).auth.providers["p"]
        assert given.key == tmp_path / name


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256", "ES384", "EdDSA"])
def test_a_key_of_another_kind_is_refused(tmp_path: Path, algorithm: str) -> None:
    wrong = ec.generate_private_key(ec.SECP256K1()) if algorithm != "EdDSA" else RSA
    write_public(wrong, tmp_path / "k.pem")
    said = complaint(tmp_path, provider(f"key: k.pem, algorithms: [{algorithm}]"))
    assert said.startswith("3:45: auth.providers.p.algorithms[0]: needs an ")


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    write_public(rsa.generate_private_key(65537, 1024), tmp_path / "k.pem")
    assert "needs an RSA key of at least 2048 bits" in complaint(tmp_path, provider("key: k.pem, algorithms: [RS256]"))


def test_files_without_a_usable_key_are_refused(tmp_path: Path) -> None:
    write_private(RSA, tmp_path / "locked.pem", BestAvailableEncryption(b"password"))
    (tmp_path / "text.pem").write_text("not a key")
    (tmp_path / "broken.pem").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    (tmp_path / "binary.pem").write_bytes(b"\xff\x00")
    for name in ("locked", "text", "broken", "binary"):
        assert "the file is not PEM" in complaint(tmp_path, provider(f"key: {name}.pem, algorithms: [RS256]"))
    assert complaint(tmp_path, provider("key: nowhere.pem, algorithms: [RS256]")) == (
        "3:25: auth.providers.p.key: cannot read 'nowhere.pem': No such file or directory"
    )
    assert "cannot read '.': Is a directory" in complaint(tmp_path, provider("key: ., algorithms: [RS256]"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("algorithms: [HS256]", "3:8: auth.providers.p: needs exactly one of secret, key, jwks and discovery"),
        (S, "3:8: auth.providers.p.algorithms: is required"),
        (f"{S}, algorithms: []", "3:74: auth.providers.p.algorithms: must have at least one entry"),
        ("secret: short, algorithms: [HS256]", "3:28: auth.providers.p.secret: is shorter than 32 bytes"),
        (f"{S}, algorithms: [HS256, RS256]", "3:82: auth.providers.p.algorithms[1]: needs a key, not a secret"),
        (f"{S}, algorithms: [none]", "3:75: auth.providers.p.algorithms[0]: must be one of HS256, "),
        (f"{S}, algorithms: [hs256]", "3:75: auth.providers.p.algorithms[0]: must be one of HS256, "),
        (f"{S}, algorithms: HS256", "3:74: auth.providers.p.algorithms: must be a list, not 'HS256'"),
        (f"{S}, algorithms: [HS256], claims: {{scopes: a..b}}", "3:100: auth.providers.p.claims.scopes: 'a..b' is"),
        (f"{S}, algorithms: [HS256], forward: {{X Y: sub}}", "3:93: auth.providers.p.forward.'X Y': 'X Y' is not"),
        (f"{S}, algorithms: [HS256], forward: {{te: sub}}", "3:93: auth.providers.p.forward.te: 'te' belongs to"),
        (f"{S}, algorithms: [HS256], forward: {{a: x, A: y}}", "3:92: auth.providers.p.forward: A is here twice"),
        (f"{S}, algorithms: [HS256], leeway: 30", "3:91: auth.providers.p.leeway: 30 is not a duration"),
    ],
)
def test_providers_that_cannot_be(tmp_path: Path, settings: str, expected: str) -> None:
    assert complaint(tmp_path, provider(settings)).startswith(expected)


def test_a_secret_and_a_key_exclude_each_other(tmp_path: Path) -> None:
    write_public(RSA, tmp_path / "k.pem")
    said = complaints(tmp_path, provider(f"secret: {SECRET}, key: k.pem, algorithms: [HS256]"))
    assert said == ["3:8: auth.providers.p: needs exactly one of secret, key, jwks and discovery"]


def test_a_secret_can_be_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "jwt.secret").write_text(SECRET + "\n")
    secret = loaded(tmp_path, provider("secret: '${file:jwt.secret}', algorithms: [HS256]")).auth.providers["p"].secret
    assert secret is not None
    assert secret.get_secret_value() == SECRET


def test_a_provider_of_another_type_gets_one_complaint(tmp_path: Path) -> None:
    text = provider("x: 1").replace("type: jwt", "type: jwtt, url: https://idp")
    assert complaint(tmp_path, text) == (
        "3:15: auth.providers.p.type: must be one of jwt, api_key, basic, introspection, client_certificate, "
        "not 'jwtt' (did you mean 'jwt'?)"
    )


def test_a_leeway_is_for_clock_skew_not_for_longer_lives(tmp_path: Path) -> None:
    assert "60s at most" in complaint(tmp_path, provider(f"{S}, algorithms: [HS256], leeway: 61s"))
    assert complaints(tmp_path, provider(f"{S}, algorithms: [HS256], leeway: 60s")) == []


IDP = "https://idp.example/"


@pytest.mark.parametrize(
    ("settings", "published"),
    [
        ("jwks: 'https://idp.example:8443/keys?tenant=a'", True),
        ("jwks: 'http://127.0.0.1:8000/keys'", True),
        (f"discovery: true, issuer: '{IDP}'", True),
        ("jwks: keys.json", False),
        (f"discovery: false, secret: {SECRET}", False),
    ],
)
def test_keys_in_a_set(tmp_path: Path, settings: str, published: bool) -> None:
    (tmp_path / "keys.json").write_bytes(jwks(jwk(RSA, "a"), jwk(RSA, "b", use="enc")))
    algorithm = "HS256" if "secret" in settings else "RS256"
    given = loaded(tmp_path, provider(f"{settings}, algorithms: [{algorithm}]")).auth.providers["p"]
    assert isinstance(given, JwtProvider)
    assert given.published is published
    assert given.jwks in (None, tmp_path / "keys.json") or isinstance(given.jwks, str)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (f"{S}, jwks: '{IDP}', algorithms: [HS256]", "auth.providers.p: needs exactly one of"),
        (
            f"jwks: '{IDP}', issuer: '{IDP}', discovery: true, algorithms: [RS256]",
            "auth.providers.p: needs exactly one",
        ),
        ("discovery: false, algorithms: [RS256]", "auth.providers.p: needs exactly one of"),
        (f"jwks: '{IDP}', algorithms: [RS256, HS256]", "auth.providers.p.algorithms[1]: needs a secret, not a key"),
        (f"discovery: true, issuer: '{IDP}', algorithms: [HS256]", "auth.providers.p.algorithms[0]: needs a secret"),
        ("discovery: true, algorithms: [RS256]", "auth.providers.p.discovery: needs an issuer that is a URL"),
        ("discovery: true, issuer: idp, algorithms: [RS256]", "auth.providers.p.discovery: needs an issuer that is"),
        (f"discovery: true, issuer: '{IDP}?a', algorithms: [RS256]", "auth.providers.p.discovery: needs an issuer"),
        ("discovery: 1, algorithms: [RS256]", "auth.providers.p.discovery: must be true or false, not 1"),
        ("jwks: https://, algorithms: [RS256]", "auth.providers.p.jwks: is not a URL"),
        ("jwks: 'https://me:pw@idp/', algorithms: [RS256]", "auth.providers.p.jwks: is not a URL"),
        ("jwks: 'https://idp/#a', algorithms: [RS256]", "auth.providers.p.jwks: is not a URL"),
        ("jwks: 'https://idp:99999/', algorithms: [RS256]", "auth.providers.p.jwks: '99999' is not a port"),
        ("jwks: 'ftp://idp/', algorithms: [RS256]", "auth.providers.p.jwks: cannot read 'ftp://idp/': No such file"),
        ("jwks: nowhere.json, algorithms: [RS256]", "auth.providers.p.jwks: cannot read 'nowhere.json': No such file"),
        ("jwks: text.json, algorithms: [RS256]", "auth.providers.p.jwks: cannot be used: not JSON"),
        ("jwks: keys.json, algorithms: [ES256]", "auth.providers.p.jwks: has no key for these algorithms (1 × none of"),
        ("jwks: enc.json, algorithms: [RS256]", "auth.providers.p.jwks: has no key for these algorithms (1 × not for"),
        (
            "jwks: empty.json, algorithms: [RS256]",
            "auth.providers.p.jwks: has no key for these algorithms (it is empty)",
        ),
    ],
)
def test_sets_that_cannot_be(tmp_path: Path, settings: str, expected: str) -> None:
    (tmp_path / "keys.json").write_bytes(jwks(jwk(RSA, "a")))
    (tmp_path / "enc.json").write_bytes(jwks(jwk(RSA, "a", use="enc")))
    (tmp_path / "empty.json").write_bytes(jwks())
    (tmp_path / "text.json").write_text("no set")
    said = complaint(tmp_path, provider(settings)).partition(" ")[2]
    assert said.startswith(expected)
    assert "pw" not in said
