"""The normal form of request targets. B1–B15 are the lines of the attack catalogue that it decides."""

import time

import pytest

from gateway.errors import Refused
from gateway.routing.path import normalise


def path_of(target: bytes) -> bytes:
    return normalise(target, b"example.com").path


def refused(target: bytes, host: bytes = b"example.com") -> bool:
    with pytest.raises(Refused) as caught:
        normalise(target, host)
    assert (caught.value.code, caught.value.status) == ("bad_request", 400)
    assert caught.value.detail
    return True


def test_a_plain_target_stays_as_it_is() -> None:
    assert normalise(b"/orders/123?x=1", b"h") == (b"/orders/123", b"?x=1", ["orders", "123"])


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/?", b"/", b"?"),
        (b"/a/", b"/a/", b""),
        (b"/.well-known/x.json", b"/.well-known/x.json", b""),
        (b"/a...b/...", b"/a...b/...", b""),
        (b"/a!$&'()*+,=:@~_-", b"/a!$&'()*+,=:@~_-", b""),
        (b"/a?b/c?d:@", b"/a", b"?b/c?d:@"),
        (b"/a?/../b//c", b"/a", b"?/../b//c"),
    ],
)
def test_legal_targets_are_forwarded_byte_for_byte(target: bytes, path: bytes, query: bytes) -> None:
    assert normalise(target, b"h")[:2] == (path, query)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/x/../admin", b"/admin"),
        (b"/x/%2e%2e/admin", b"/admin"),
        (b"/x/.%2e/admin", b"/admin"),
        (b"/x/%2E./admin", b"/admin"),
        (b"/x/./admin", b"/x/admin"),
        (b"/x/%2e/admin", b"/x/admin"),
        (b"/a/b/..", b"/a/"),
        (b"/a/.", b"/a/"),
        (b"/a/..", b"/"),
        (b"/a/b/c/./../../g", b"/a/g"),
        (b"/mid/content=5/../6", b"/mid/6"),
    ],
)
def test_b1_dot_segments_are_removed_before_anything_is_matched(target: bytes, path: bytes) -> None:
    normal = normalise(target, b"h")
    assert normal.path == path
    assert normal.segments == [s.decode() for s in path.split(b"/") if s]


@pytest.mark.parametrize("target", [b"/..", b"/../admin", b"/a/../../admin", b"/%2e%2e/admin", b"//../x"])
def test_b1_a_path_that_climbs_above_the_root_is_refused(target: bytes) -> None:
    assert refused(target)


@pytest.mark.parametrize("target", [b"/a%2fb", b"/a%2Fb", b"/a%5cb", b"/a%5Cb", b"/%2f", b"/x/..%2fadmin"])
def test_b2_escaped_slashes_and_backslashes_are_refused(target: bytes) -> None:
    assert refused(target)


@pytest.mark.parametrize("target", [b"/a%00", b"/%00/b", b"/a%00?x"])
def test_b3_an_escaped_nul_is_refused(target: bytes) -> None:
    assert refused(target)


@pytest.mark.parametrize(
    ("target", "path", "last"),
    [
        (b"/x/%252e%252e/admin", b"/x/%252e%252e/admin", "%2e%2e"),
        (b"/x/%252Fadmin", b"/x/%252Fadmin", "%2Fadmin"),
        (b"/x/%2561", b"/x/%2561", "%61"),
    ],
)
def test_b4_double_encoding_is_never_decoded_twice(target: bytes, path: bytes, last: str) -> None:
    normal = normalise(target, b"h")
    assert normal.path == path
    assert last in normal.segments


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"//admin", b"/admin"),
        (b"//evil.example/admin", b"/evil.example/admin"),
        (b"/a//b///c", b"/a/b/c"),
        (b"/a//", b"/a/"),
        (b"//", b"/"),
        (b"/a//../b", b"/b"),
    ],
)
def test_b5_duplicate_slashes_are_merged_and_never_an_authority(target: bytes, path: bytes) -> None:
    assert path_of(target) == path


@pytest.mark.parametrize(
    "target", [b"/admin/..;/x", b"/admin/.;/x", b"/x/..;a=b/y", b"/%2e%2e;/x", b"/x/..%3b/y", b"/..;", b"/%2e%3B"]
)
def test_b6_dot_segments_with_parameters_are_refused(target: bytes) -> None:
    assert refused(target)


@pytest.mark.parametrize(
    ("target", "segments"),
    [
        (b"/admin;a=b", ["admin"]),
        (b"/admin;a=b/users;c", ["admin", "users"]),
        (b"/;a=b/admin", ["admin"]),
        (b"/;", []),
    ],
)
def test_b6_parameters_are_forwarded_but_not_matched(target: bytes, segments: list[str]) -> None:
    normal = normalise(target, b"h")
    assert normal.path == target
    assert normal.segments == segments


@pytest.mark.parametrize("target", [b"/a\\b", b"\\admin", b"/x/..\\admin"])
def test_b7_raw_backslashes_are_refused(target: bytes) -> None:
    assert refused(target)


@pytest.mark.parametrize("target", [b"/a#b", b"/a?b#c", b"#", b"/#", b"http://example.com/#x"])
def test_b8_fragments_are_refused(target: bytes) -> None:
    assert refused(target)


@pytest.mark.parametrize(
    "target",
    [
        b"/caf\xc3\xa9",  # raw UTF-8
        b"/a?b=\xe9",
        b"/%c0%ae%c0%ae/admin",  # overlong dots
        b"/%c0%af",  # overlong slash
        b"/%e0%80%af",
        b"/%ed%a0%80",  # a surrogate
        b"/%f5%80%80%80",  # above U+10FFFF
        b"/%ff",
        b"/%c3",
        b"/%c3/%a9",  # one character torn in two by a slash
        b"/%c3;%a9",
        b"/%zz",
        b"/%",
        b"/%4",
        b"/%2%35",
        b"/%u002e",
        b"/a?b=%zz",
        b"/a?%",
        b"/a?b=%4",
    ],
)
def test_b9_non_ascii_bytes_and_bad_escapes_are_refused(target: bytes) -> None:
    assert refused(target)


def test_b9_escaped_utf_8_is_kept_in_upper_case_and_matched_decoded() -> None:
    normal = normalise(b"/caf%c3%a9/a%20b", b"h")
    assert normal.path == b"/caf%C3%A9/a%20b"
    assert normal.segments == ["café", "a b"]


@pytest.mark.parametrize("target", [b"/a%0d%0aX-Evil:1", b"/%0A", b"/%09", b"/%1f", b"/%7f", b"/a\r\nb", b"/a\x7f"])
def test_b10_control_characters_raw_or_escaped_are_refused(target: bytes) -> None:
    assert refused(target)


@pytest.mark.parametrize("target", [b"/%61dmin", b"/%61%64%6d%69%6E", b"/admi%6e"])
def test_b11_escapes_of_unreserved_characters_are_decoded_once(target: bytes) -> None:
    assert normalise(target, b"h") == (b"/admin", b"", ["admin"])


def test_b11_the_case_of_a_path_is_kept() -> None:
    assert path_of(b"/Admin/%7Euser") == b"/Admin/~user"


@pytest.mark.parametrize("query", [b"?a=1;b=2", b"?a=1&a=2&&a", b"?", b"??", b"?a=%41%0d%ff", b"?%2e=+'()*!,:@/?~"])
def test_b15_a_legal_query_is_forwarded_byte_for_byte(query: bytes) -> None:
    assert normalise(b"/a" + query, b"h").query == query
    assert normalise(b"/a%20" + query, b"h").query == query


def test_what_browsers_send_raw_in_a_query_is_escaped() -> None:
    assert normalise(b'/a?[]|^{}"<>\\`', b"h").query == b"?%5B%5D%7C%5E%7B%7D%22%3C%3E%5C%60"


@pytest.mark.parametrize("char", [bytes((n,)) for n in b'[]|^{}"<>`'])
def test_characters_that_no_path_may_hold_are_refused(char: bytes) -> None:
    assert refused(b"/a" + char)


@pytest.mark.parametrize("target", [b"", b"*", b"a", b"?x", b"example.com:443", b"ftp://example.com/", b"/a b", b" /"])
def test_targets_in_no_known_form_are_refused(target: bytes) -> None:
    assert refused(target)


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        (b"http://example.com/a?b", b"example.com", b"/a", b"?b"),
        (b"HTTP://EXAMPLE.com/a", b"Example.COM", b"/a", b""),
        (b"http://example.com:80/a", b"example.com", b"/a", b""),
        (b"http://example.com:/a", b"example.com:80", b"/a", b""),
        (b"https://example.com/a", b"example.com:443", b"/a", b""),
        (b"http://example.com./a", b"example.com", b"/a", b""),
        (b"http://[::1]:8080/a", b"[::1]:8080", b"/a", b""),
        (b"http://example.com", b"example.com", b"/", b""),
        (b"http://example.com?x", b"example.com", b"/", b"?x"),
        (b"http://example.com//a/%2e", b"example.com", b"/a/", b""),
    ],
)
def test_the_absolute_form_of_this_host_is_its_path(target: bytes, host: bytes, path: bytes, query: bytes) -> None:
    assert normalise(target, host)[:2] == (path, query)


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"http://evil.example/a", b"example.com"),
        (b"http://example.com:81/a", b"example.com"),
        (b"https://example.com/a", b"example.com:80"),
        (b"http://evil@example.com/a", b"example.com"),
        (b"http://example.com@evil.example/a", b"example.com"),
        (b"http:///a", b"example.com"),
        (b"http:///a", b""),
        (b"http://[::1/a", b"[::1"),
        (b"http:/example.com/a", b"example.com"),
    ],
)
def test_an_absolute_form_for_another_host_or_with_userinfo_is_refused(target: bytes, host: bytes) -> None:
    assert refused(target, host)


@pytest.mark.parametrize(
    "target",
    [
        b"/" + b"a" * 100_000 + b"\\",
        b"/a" * 50_000 + b"\\",
        b"/" + b"%61" * 30_000 + b"%",
        b"/?" + b"a" * 100_000 + b"\x80",
        b"/" + b"/" * 100_000 + b"^",
        b"/" + b"a/../" * 20_000 + b"^",
    ],
)
def test_time_is_linear_in_a_hostile_target(target: bytes) -> None:
    started = time.process_time()
    assert refused(target)
    assert time.process_time() - started < 1.0  # milliseconds; a backtracking expression takes for ever
