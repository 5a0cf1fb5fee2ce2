"""`cors`, `allow_ip` and `deny_ip`: what can be said, and what cannot be."""

from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.config.addresses import Networks, shut_out, unmapped
from gateway.config.complaints import Substituted
from gateway.config.cors import Cors, origin


def faults(**settings: Any) -> list[tuple[str, str]]:
    """What is wrong, and where."""
    with pytest.raises(ValidationError) as caught:
        Cors.model_validate(settings)
    return [
        (".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, "))
        for error in caught.value.errors()
        if error["type"] != "too_short"  # a list whose only entry is wrong
    ]


def fault(**settings: Any) -> tuple[str, str]:
    (only,) = faults(**settings)
    return only


def test_it_says_only_what_it_has_to() -> None:
    plain = Cors.model_validate({"origins": "https://app.example.com"})
    assert plain.origins == ("https://app.example.com",)
    assert (plain.methods, plain.headers, plain.expose, plain.max_age) == (None, ("*",), (), None)
    assert (plain.credentials, plain.private_network) == (False, False)


def test_it_can_say_all_of_it() -> None:
    full = Cors.model_validate(
        {
            "origins": ["https://app.example.com", "https://*.example.com"],
            "methods": ["GET", "POST"],
            "headers": ["Authorization"],
            "expose": ["X-Request-Id"],
            "credentials": True,
            "max_age": "1h",
            "private_network": True,
        }
    )
    assert (full.methods, full.headers, full.expose, full.max_age) == (
        ("GET", "POST"), ("Authorization",), ("X-Request-Id",), 3600.0,
    )  # fmt: skip
    assert full.credentials
    assert full.private_network


@pytest.mark.parametrize(
    "written",
    [
        "*",
        "null",
        "https://app.example.com",
        "http://localhost:3000",
        "https://app.example.com:8443",
        "http://example.com:443",
        "https://*.example.com",
        "https://*.example.com:8443",
        "http://192.0.2.7:8080",
        "http://[2001:db8::1]:8080",
        "https://xn--bcher-kva.example",
        "capacitor://localhost",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    ],
)
def test_origins_as_browsers_write_them(written: str) -> None:
    assert origin(written) == written


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://app.example.com/", "https://app.example.com"),
        ("https://app.example.com/login", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("https://App.Example.com", "https://app.example.com"),
        ("HTTPS://app.example.com", "https://app.example.com"),
        ("https://*.example.com/", "https://*.example.com"),
        ("https://app.example.com:08443", "https://app.example.com:8443"),
        ("http://[2001:DB8:0::1]", "http://[2001:db8::1]"),
    ],
)
def test_what_no_browser_would_send_is_an_error_that_knows_better(written: str, meant: str) -> None:
    with pytest.raises(ValueError, match=r"browsers send it|has a path") as caught:
        origin(written)
    assert f"did you mean {meant!r}" in str(caught.value)


@pytest.mark.parametrize(
    "written",
    [
        "", "app.example.com", "//app.example.com", "https://", "https://*", "https://*example.com", "https://a.*.com",
        "https://*.*.com", "https://*.192.0.2.7", "https://*.[::1]", "https://user@example.com", "https://example.com:",
        "https://example.com:65536", "https://example.com:*", "https://bücher.example", "https://::1", "https://a b",
        "https://example.com\n", "NULL", "https://999.1.1.1", "1http://a", "https://[::1%25eth0]", 7, None, ["https://a"],
    ],
)  # fmt: skip
def test_what_is_no_origin(written: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        origin(written)


def test_what_came_from_the_environment_is_not_printed() -> None:
    with pytest.raises(ValueError, match=r"\*\*\*") as caught:
        origin(Substituted("https://secret.example.com/"))
    assert "secret" not in str(caught.value)


def test_every_origin_with_credentials_is_an_error() -> None:
    where, what = fault(origins=["*"], credentials=True)
    assert where == "origins.0"
    assert "name the origins" in what


def test_null_with_credentials_is_an_error_as_every_page_can_be_null() -> None:
    where, what = fault(origins=["https://app.example.com", "null"], credentials=True)
    assert where == "origins.1"
    assert "sandboxed" in what
    assert Cors.model_validate({"origins": ["null"]}).origins == ("null",)


def test_exposing_everything_with_credentials_is_an_error() -> None:
    assert fault(origins=["https://a.example"], expose="*", credentials=True)[0] == "expose.0"
    assert Cors.model_validate({"origins": ["https://a.example"], "expose": "*"}).expose == ("*",)


@pytest.mark.parametrize("key", ["origins", "headers", "expose"])
def test_everything_stands_alone(key: str) -> None:
    other = "https://a.example" if key == "origins" else "X-A"
    where, what = fault(**{"origins": ["https://b.example"], key: [other, "*"]})
    assert (where, what) == (f"{key}.1", "'*' is everything already: it stands alone")


def test_all_that_is_wrong_is_said_at_once() -> None:
    wrong = faults(origins=["https://a.example/", "nonsense"], methods=["get"], headers=["a b"], max_age=5, extra=1)
    assert [where for where, _ in wrong] == [
        "origins.0", "origins.1", "methods.0", "headers.0", "max_age", "extra",
    ]  # fmt: skip


@pytest.mark.parametrize("settings", [{}, {"origins": []}, {"origins": ["*"], "methods": []}])
def test_lists_that_must_not_be_empty(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Cors.model_validate(settings)


def test_a_method_that_the_route_does_not_have_would_be_allowed_in_vain() -> None:
    settings = Cors.model_validate({"origins": "*", "methods": ["GET", "HEAD", "PUT"]})
    assert [where for where, _ in settings.unserved(("GET", "POST"))] == [("cors", "methods", 2)]
    assert not [*settings.unserved(None)]
    assert not [*Cors.model_validate({"origins": "*"}).unserved(("GET",))]


# -- addresses -----------------------------------------------------------------------------------------


def networks(*written: str) -> Any:
    return TypeAdapter(Networks).validate_python(written)


def test_one_range_may_stand_alone() -> None:
    assert TypeAdapter(Networks).validate_python("10.0.0.0/8") == networks("10.0.0.0/8")


@pytest.mark.parametrize("written", ["10.0.0.1/8", "example.com", "10.0.0.0/33", "", 7])
def test_what_is_no_range_of_addresses(written: Any) -> None:
    with pytest.raises(ValidationError):
        networks(written)


def test_mapped_ranges_are_those_of_ipv4() -> None:
    assert unmapped(ip_network("::ffff:10.0.0.0/104")) == ip_network("10.0.0.0/8")
    assert unmapped(ip_network("::ffff:192.0.2.7")) == ip_network("192.0.2.7")
    assert unmapped(ip_network("::ffff:0:0/96")) == ip_network("0.0.0.0/0")
    wider = ip_network("::/0")
    assert unmapped(wider) is wider


def test_what_is_denied_cannot_be_allowed() -> None:
    allow = networks("192.0.2.0/24", "10.1.0.0/16", "::ffff:10.2.0.0/112", "fd00::/16", "10.0.0.0/7")
    found = [*shut_out(allow, networks("10.0.0.0/8", "fd00::/8"))]
    assert [where for where, _ in found] == [("allow_ip", 1), ("allow_ip", 2), ("allow_ip", 3)]
    assert found[0][1] == "has no effect: deny_ip has 10.0.0.0/8, and what it denies stays denied"
    assert not [*shut_out((), networks("0.0.0.0/0"))]
