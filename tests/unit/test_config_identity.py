"""`auth` beyond keys and consumers: introspection, where tokens stand, what upstreams get, signing, throttling."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.config.effective import effective
from gateway.config.providers import IntrospectionProvider, JwtProvider
from gateway.config.warnings import warnings
from tests.configs import ROUTE, SECRET, UPSTREAM, complaint, complaints, loaded, provider

JWT = f"secret: {SECRET}, algorithms: [HS256]"
ASKED = "url: https://idp.example/introspect, client_id: gateway, client_secret: hunter2"


def asking(settings: str) -> str:
    return provider(settings).replace("type: jwt", "type: introspection")


def signing(credential: str = "sign", **changes: str) -> str:
    settings = {"key": "private.pem", "algorithm": "ES256", "issuer": "https://gateway.example"} | changes
    written = ", ".join(f"{name}: {value}" for name, value in settings.items() if value)
    return provider(f"{JWT}, credential: {credential}").replace("auth:", f"auth:\n  signing: {{{written}}}")


def private(path: Path, key: PrivateKeyTypes) -> None:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def test_an_issuer_that_is_asked_about_tokens(tmp_path: Path) -> None:
    given = loaded(tmp_path, asking(f"{ASKED}, audience: api, claims: {{consumer: username}}")).auth.providers["p"]
    assert isinstance(given, IntrospectionProvider)
    assert (given.url, given.client_id, given.cache, given.leeway) == (
        "https://idp.example/introspect", "gateway", 30.0, 30.0,
    )  # fmt: skip
    assert (given.audience, given.claims.consumer, given.credential) == (("api",), "username", "forward")


def test_a_client_secret_is_never_shown(tmp_path: Path) -> None:
    config = loaded(tmp_path, asking(ASKED))
    assert effective(config)["auth"]["providers"]["p"]["client_secret"] == "***"
    assert "hunter2" not in repr(config)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("client_id: a, client_secret: b", "url: is required"),
        (ASKED.replace("https://", "ftp://"), "url: is not a URL with http or https"),
        (ASKED.replace("idp.example", "user:pass@idp.example"), "url: is not a URL with http or https"),
        (f"{ASKED}, cash: 3s", "cash: unknown key (did you mean 'cache'?)"),
        (f"{ASKED}, algorithms: [RS256]", "algorithms: unknown key"),
        (f"{ASKED}, leeway: 2m", "leeway: must be 60s at most"),
    ],
)
def test_mistakes_about_introspection(tmp_path: Path, settings: str, said: str) -> None:
    assert said in complaint(tmp_path, asking(settings))


def test_hints_are_those_of_the_type_that_is_written(tmp_path: Path) -> None:
    text = provider("headr: X-API-Key, query: k").replace("type: jwt", "type: api_key")
    assert complaint(tmp_path, text).endswith("headr: unknown key (did you mean 'header'?)")


def test_places_of_tokens(tmp_path: Path) -> None:
    more = "header: X-Token, cookie: session, query: access_token, origins: ['https://App.example.com:443']"
    given = loaded(tmp_path, provider(f"{JWT}, {more}, typ: at+jwt, expiry: optional")).auth.providers["p"]
    assert isinstance(given, JwtProvider)
    assert (given.header, given.cookie, given.query) == ("X-Token", "session", "access_token")
    assert given.origins == ("https://app.example.com",), "as browsers write it"
    assert (given.typ, given.expiry) == ("at+jwt", "optional")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("origins: ['https://a.example']", "origins: has no effect without cookie"),
        ("cookie: s, origins: [app.example]", "is not an origin such as https://app.example.com"),
        ("cookie: s, origins: ['https://app.example/x']", "is not a host name"),
        ("cookie: s, origins: ['*']", "is not an origin"),
        ("cookie: 'a b'", "cookie: 'a b' is not a"),
        ("header: Authorization", "holds other credentials, too"),
        ("query: ''", "query: is empty"),
        ("expiry: never", "expiry: must be one of required, optional"),
        ("credential: sing", "credential: must be one of forward, drop, sign, not 'sing'"),
    ],
)
def test_mistakes_about_places(tmp_path: Path, settings: str, said: str) -> None:
    assert said in complaint(tmp_path, provider(f"{JWT}, {settings}"))


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (rsa.generate_private_key(65537, 2048), "RS256"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
)
def test_the_gateways_own_key(tmp_path: Path, key: PrivateKeyTypes, algorithm: str) -> None:
    private(tmp_path / "private.pem", key)
    given = loaded(tmp_path, signing(algorithm=algorithm)).auth.signing
    assert given is not None
    assert (given.key, given.lifetime) == (tmp_path / "private.pem", 60.0)


def test_mistakes_about_signing(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private(tmp_path / "private.pem", key)
    (tmp_path / "public.pem").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    assert "key: is not a private key" in complaint(tmp_path, signing(key="public.pem"))
    assert "key: needs an RSA key" in complaint(tmp_path, signing(algorithm="RS256"))
    assert "algorithm: must be one of RS256" in complaint(tmp_path, signing(algorithm="HS256"))
    assert "lifetime: must be 1h at most" in complaint(tmp_path, signing(lifetime="2h"))
    assert "signing: has no effect: no provider says credential: sign" in complaint(tmp_path, signing("drop"))
    assert complaint(tmp_path, provider(f"{JWT}, credential: sign")).endswith(
        "credential: needs auth.signing: the key that the gateway signs with"
    )


def test_passwords_and_keys_end_at_the_gateway_unless_said_otherwise(tmp_path: Path) -> None:
    text = f"auth:\n  providers:\n    b: {{type: basic}}\n    k: {{type: api_key, header: X-Key}}\n{UPSTREAM}{ROUTE}"
    given = loaded(tmp_path, text).auth.providers
    assert {name: each.credential for name, each in given.items()} == {"b": "drop", "k": "drop"}
    assert "must be one of drop, sign" in complaint(tmp_path, text.replace("X-Key", "X-Key, credential: forward"))


def test_a_limit_for_failures_needs_the_store(tmp_path: Path) -> None:
    config = loaded(tmp_path, f"workers: 2\nauth: {{failure_limit: 20/minute}}\n{UPSTREAM}{ROUTE}")
    assert config.auth.failure_limit is not None
    assert (config.auth.failure_limit.limit, config.auth.failure_limit.window) == (20, 60.0)
    assert (config.limits, config.store_url) == (True, "embedded")
    assert effective(config)["auth"]["failure_limit"] == "20/60s"


@pytest.mark.parametrize(
    ("auth", "store", "keeps", "shares"),
    [
        ("{}", "memory", False, False),
        ("{}", "redis://h:1/0", False, False),
        ("{revocation: true}", "memory", True, False),
        ("{revocation: true}", "embedded", True, False),
        ("{revocation: true}", "redis://h:1/0", True, True),
        ("{providers: {p: {type: api_key, header: X-Key}}}", "rediss://h:1/0", True, True),
    ],
)
def test_where_keys_and_revocations_are_kept(tmp_path: Path, auth: str, store: str, keeps: bool, shares: bool) -> None:
    config = loaded(tmp_path, f"auth: {auth}\nstore: {{url: '{store}'}}\n{UPSTREAM}{ROUTE}")
    assert (config.keeps_records, config.shares_records) == (keeps, shares)


def test_introspection_over_http_is_warned_of_except_on_this_machine(tmp_path: Path) -> None:
    far = loaded(tmp_path, asking(ASKED.replace("https", "http")))
    assert [line.partition(":")[0] for line in warnings(far)] == ["auth.providers.p"]
    near = loaded(tmp_path, asking(ASKED.replace("https://idp.example", "http://127.0.0.1:1")))
    assert warnings(near) == []
    assert complaints(tmp_path, asking(ASKED)) == []
