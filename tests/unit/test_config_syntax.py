import ipaddress
from collections.abc import Callable
from contextlib import suppress

import pytest

from gateway.config import syntax
from gateway.config.complaints import Substituted
from gateway.config.syntax import Address


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:80", Address("::1", 80)),
        ("unix:run/gateway.sock", Address("", 0, "run/gateway.sock")),
    ],
)
def test_addresses_and_back(written: str, address: Address) -> None:
    assert syntax.address(written) == address
    assert str(address) == written


@pytest.mark.parametrize(
    ("written", "pattern"),
    [
        ("API.Example.com", "api.example.com"),
        ("*.Example.com", "*.example.com"),
        ("10.0.0.1", "10.0.0.1"),
        ("[::1]", "[::1]"),
    ],
)
def test_host_patterns_are_lowercase(written: str, pattern: str) -> None:
    assert syntax.host_pattern(written) == pattern


def test_networks_may_be_single_addresses() -> None:
    assert syntax.network("10.0.0.0/8") == ipaddress.ip_network("10.0.0.0/8")
    assert syntax.network("::1") == ipaddress.ip_network("::1/128")


def test_authorities_are_split() -> None:
    assert syntax.split_authority("a.b") == ("a.b", None)
    assert syntax.split_authority("[fd00::1]:9") == ("fd00::1", 9)


WRONG: list[tuple[Callable[[object], object], list[object], str]] = [
    (syntax.text, [5, True, None], "must be text"),
    (syntax.name, ["", "a b", "ü", "-a", "x" * 101, "a\n", "{a}", 'a"b'], "is not a name"),
    (syntax.method, ["get", "", "GET ", "G/T", "ÄÖ"], "is not a method"),
    (syntax.scope, ["", "a b", 'a"', "a\\", "ü"], "is not a scope"),
    (syntax.header_name, ["", "a b", "a:", "ü", "a\r\n"], "is not a header name"),
    (
        syntax.settable_header,
        ["Connection", "content-length", "Transfer-Encoding", "HOST", "te"],
        "belongs to the conn",
    ),
    (syntax.identity_header, ["X-Forwarded-For", "via", "X-Request-Id"], "is written by the gateway"),
    (syntax.identity_header, ["Upgrade"], "belongs to the connection"),
    (syntax.header_value, ["a\r\nb", "\x00", "\u20ac"], "is not a header value"),
    (syntax.claim, ["", ".", "a.", "a..b"], "is not the name of a claim"),
    (syntax.hostname, ["", "a b", "-a", "a..b", "a_.-", "ü.de", "x" * 64, "*.a", "*"], "is not a host name"),
    (syntax.hostname, ["a:80", "[::1]:80"], "is not a host name: "),
    (syntax.hostname, ["1.2.3", "1.2.3.400"], "is not an IPv4 address"),
    (syntax.hostname, ["::1", "[::g]"], "is not a host name"),
    (syntax.host_pattern, ["*", "a.*", "*.", "*.*.a", "a*"], "is not a host name"),
    (syntax.host_pattern, ["*.a:80"], "leave the port out"),
    (syntax.address, ["localhost", "[::1]"], "has no port"),
    (syntax.address, [":80", "*:80"], "names no address"),
    (syntax.address, ["a:", "a:b", "a:65536", "a:999999", "a:-1", "a:٨"], "port|host name"),
    (syntax.address, ["::1:80", "a b:80", "[::1:80"], "is not a host name"),
    (syntax.address, ["unix:", "unix:" + "x" * 108, "unix:a\0"], "a unix socket has a path"),
    (syntax.network, ["10.0.0.1/8"], "did you mean '10.0.0.0/8'"),
    (syntax.network, ["", "x", "10.0.0.0/33", "10/8"], "is not a range of addresses"),
]


@pytest.mark.parametrize(
    ("read", "written", "reason"), [(read, value, why) for read, values, why in WRONG for value in values]
)
def test_what_is_not_well_formed_is_refused(read: Callable[[object], object], written: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read(written)


READERS = [
    syntax.name, syntax.method, syntax.scope, syntax.header_name, syntax.identity_header, syntax.header_value,
    syntax.hostname, syntax.host_pattern, syntax.address, syntax.network,
]  # fmt: skip


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("secret", ["hunter2 ü\n", "*.hunter2 ü", "hunter2:hunter2"])
def test_what_came_from_the_environment_is_not_quoted(read: Callable[[object], object], secret: str) -> None:
    with suppress(ValueError):
        read(secret)  # not every reader refuses every one of them
        return
    with pytest.raises(ValueError, match="is") as caught:
        read(Substituted(secret))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("read", [syntax.plain_text, syntax.name, syntax.claim, syntax.hostname, syntax.header_name])
def test_values_lose_their_mark_once_they_are_checked(read: Callable[[object], object]) -> None:
    assert type(read(Substituted("a"))) is str
