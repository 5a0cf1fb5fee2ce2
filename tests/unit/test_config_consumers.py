"""Known callers, their credentials, and the permission matrix, as the file says them."""

from pathlib import Path

import pytest

from gateway.config.effective import effective
from gateway.config.schema import json_schema
from tests.configs import ROUTE, UPSTREAM, complaint, complaints, loaded

KEY = "sha256:" + "ab" * 32
PASSWORD = f"scrypt:16384:8:5:{'A' * 22}==:{'A' * 43}="


def consumers(*lines: str, more: str = "") -> str:
    """Consumers one per line, from line 3, column 5 on."""
    listed = "".join(f"    {line}\n" for line in lines)
    return f"auth:\n  consumers:\n{listed}{more}{UPSTREAM}{ROUTE}"


def roles(*lines: str) -> str:
    """Roles one per line, from line 3, column 5 on."""
    return "auth:\n  roles:\n" + "".join(f"    {line}\n" for line in lines) + UPSTREAM + ROUTE


def provider(settings: str) -> str:
    """A provider on line 3, its settings at column 9."""
    return f"auth:\n  providers:\n    p: {{{settings}}}\n{UPSTREAM}{ROUTE}"


def test_a_consumer_with_everything(tmp_path: Path) -> None:
    line = f"acme: {{keys: ['{KEY}'], password: '{PASSWORD}', certificate: 'CN=acme,O=Acme Ltd', scopes: [a, b], "
    line += "roles: [r], tier: gold}"
    config = loaded(tmp_path, consumers(line))
    acme = config.auth.consumers["acme"]
    assert (acme.keys, acme.certificate, acme.scopes, acme.roles, acme.tier) == (
        (KEY,), "CN=acme,O=Acme Ltd", ("a", "b"), ("r",), "gold",
    )  # fmt: skip
    assert acme.password is not None
    assert acme.password.get_secret_value() == PASSWORD
    shown = effective(config)["auth"]["consumers"]["acme"]
    assert (shown["password"], shown["keys"]) == ("***", [KEY])
    assert PASSWORD not in repr(config)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("keys: [abc]", "3:19: auth.consumers.acme.keys[0]: must be the hash that `gateway keys new` prints"),
        (f"keys: ['{KEY.upper()}']", "3:19: auth.consumers.acme.keys[0]: must be the hash"),
        ("password: hunter2", "3:22: auth.consumers.acme.password: must be scrypt:N:r:p:salt:hash"),
        (f"password: '{PASSWORD.replace('16384', '1024')}'", "3:22: auth.consumers.acme.password: is too cheap"),
        ("certificate: acme", "3:25: auth.consumers.acme.certificate: 'acme' is no subject such as"),
        ("certificate: 'DNS:'", "3:25: auth.consumers.acme.certificate: 'DNS:' is no subject"),
        ("certificate: ''", "3:25: auth.consumers.acme.certificate: '' is no subject"),
        ("scopes: [a b]", "3:21: auth.consumers.acme.scopes[0]: 'a b' is not a scope"),
        ("key: x", "3:12: auth.consumers.acme.key: unknown key (did you mean 'keys'?)"),
    ],
)
def test_credentials_that_cannot_be(tmp_path: Path, settings: str, expected: str) -> None:
    said = complaint(tmp_path, consumers(f"acme: {{{settings}}}"))
    assert said.startswith(expected)
    assert "hunter2" not in said
    assert "abc" not in said


def test_a_key_belongs_to_one_consumer_once(tmp_path: Path) -> None:
    assert complaints(tmp_path, consumers(f"a: {{keys: ['{KEY}', '{KEY}']}}", f"b: {{keys: ['{KEY}']}}")) == [
        "3:91: auth.consumers.a.keys[1]: is a key of 'a' already",
        "4:16: auth.consumers.b.keys[0]: is a key of 'a' already",
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CN=x", "CN=x"),
        ("CN=x,O=o", "CN=\\78,O=o"),
        ("DNS:x", "DNS:x"),
    ],
)
def test_a_certificate_belongs_to_one_consumer(tmp_path: Path, one: str, other: str) -> None:
    said = complaint(tmp_path, consumers(f"a: {{certificate: '{one}'}}", f"b: {{certificate: '{other}'}}"))
    assert said == "4:22: auth.consumers.b.certificate: can be the same certificate as that of 'a'"


@pytest.mark.parametrize(("one", "place"), [("CN=x", "4:22: auth.consumers.b"), ("CN=x,O=o", "3:22: auth.consumers.a")])
def test_a_common_name_and_a_subject_that_has_it_are_ambiguous(tmp_path: Path, one: str, place: str) -> None:
    other = {"CN=x": "CN=x,O=o", "CN=x,O=o": "CN=x"}[one]
    said = complaint(tmp_path, consumers(f"a: {{certificate: '{one}'}}", f"b: {{certificate: '{other}'}}"))
    assert said.startswith(f"{place}.certificate: can be the same certificate as that of ")


@pytest.mark.parametrize(("one", "other"), [("CN=x", "CN=y"), ("CN=x,O=a", "CN=x,O=b"), ("DNS:x", "URI:x")])
def test_certificates_that_cannot_be_confused_are_fine(tmp_path: Path, one: str, other: str) -> None:
    assert complaints(tmp_path, consumers(f"a: {{certificate: '{one}'}}", f"b: {{certificate: '{other}'}}")) == []


def test_a_consumer_cannot_have_the_name_of_a_provider(tmp_path: Path) -> None:
    said = complaint(tmp_path, consumers("p: {scopes: [a]}", more="  providers: {p: {type: basic}}\n"))
    assert said == "3:8: auth.consumers.p: has the name of a provider: metrics could not tell them apart"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a: [role:b]", "3:9: auth.roles.a[0]: there is no role 'b'"),
        ("a: [x, role:a]", "3:12: auth.roles.a[1]: 'a' includes 'a': roles go round in a circle"),
        ("a: [ord*]", "3:9: auth.roles.a[0]: '*' stands for a whole part between colons, as in orders:*"),
        ("a: [x y]", "3:9: auth.roles.a[0]: 'x y' is not a scope: no spaces, quotes or backslashes"),
        ("a: x", "3:8: auth.roles.a: must be a list, not 'x'"),
    ],
)
def test_roles_that_cannot_be(tmp_path: Path, line: str, expected: str) -> None:
    assert complaint(tmp_path, roles(line)) == expected


def test_roles_that_are_in_no_matrix(tmp_path: Path) -> None:
    matrix = "  roles: {viewer: [a], beta: []}\n"
    said = complaint(tmp_path, consumers("a: {roles: [beta, viewr]}", more=matrix))
    assert said == "3:23: auth.consumers.a.roles[1]: there is no role 'viewr'"
    guarded = "auth:\n  providers: {p: {type: basic}}\n" + matrix + UPSTREAM
    guarded += "routes:\n  - {name: r, match: {path: /r}, upstream: u, auth: {providers: [p], roles: [viewr, beta]}}\n"
    said = complaint(tmp_path, guarded)
    assert said.partition(": ")[2] == "routes[0].auth.roles[0]: there is no role 'viewr' (did you mean 'viewer'?)"
    assert complaints(tmp_path, guarded.replace(matrix, "")) == []
    assert "must have at least one entry" in complaint(tmp_path, guarded.replace("[viewr, beta]", "[]"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("type: api_key", "3:8: auth.providers.p: needs header or query: where the key stands"),
        ("type: api_key, header: Authorization", "3:32: auth.providers.p.header: 'Authorization' holds other cred"),
        ("type: api_key, header: x y", "3:32: auth.providers.p.header: 'x y' is not a header name"),
        ("type: api_key, header: Host", "3:32: auth.providers.p.header: 'Host' belongs to the connection"),
        ("type: api_key, query: ''", "3:31: auth.providers.p.query: is empty"),
        ("type: basic, header: X", "3:22: auth.providers.p.header: unknown key"),
        ("header: X", "3:8: auth.providers.p.type: is required"),
        (
            "type: client_certificate",
            "3:8: auth.providers.p: has no effect: without listen.https.client_ca no client shows one",
        ),
    ],
)
def test_providers_that_cannot_be(tmp_path: Path, settings: str, expected: str) -> None:
    assert complaint(tmp_path, provider(settings)).startswith(expected)


def test_a_provider_that_is_no_mapping(tmp_path: Path) -> None:
    text = f"auth:\n  providers:\n    p: basic\n{UPSTREAM}{ROUTE}"
    assert complaint(tmp_path, text) == "3:8: auth.providers.p: must be a mapping, not 'basic'"


def test_editors_are_told_of_every_type_of_provider() -> None:
    schema = json_schema()["$defs"]
    kinds = schema["Auth"]["properties"]["providers"]["patternProperties"].popitem()[1]["anyOf"]
    assert [kind["$ref"].rpartition("/")[2] for kind in kinds] == [
        "JwtProvider", "ApiKeyProvider", "BasicProvider", "IntrospectionProvider", "CertificateProvider",
    ]  # fmt: skip
    assert "user name is its name" in schema["Consumer"]["properties"]["password"]["description"]
