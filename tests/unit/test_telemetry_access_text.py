"""What of a client's own words the access log shows: which path, which headers, and what stays secret."""

import pytest

from gateway.exchange import Call, Fields, Peer, Request
from gateway.logs.text import LoggedHeaders, path_of


def refused(target: bytes) -> Call:
    """Before anything was matched."""
    return Call(Request("GET", target, Fields([]), Peer("192.0.2.7", 1)), "id-1")


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (b"/users/ada@example.com?token=secret", b"/users/ada@example.com"),
        (b"/a?b@c", b"/a"),
        (b"http://ada:secret@host/x@y", b"y"),  # whatever may be a credential is not shown
        (b"http://host/x", b"http://host/x"),
    ],
)
def test_of_a_refused_target_the_path_is_shown_without_query_and_credentials(target: bytes, shown: bytes) -> None:
    assert path_of(refused(target)) == shown


def test_d21_a_referer_that_is_logged_by_request_has_no_query() -> None:
    """D21: where the page had a token in its address, the header has it, too."""
    shown = LoggedHeaders(["Referer", "X-Other"], ())
    fields = Fields([(b"referer", b"https://a.example/cart?token=secret#x"), (b"x-other", b"a?b#c")])
    assert shown(fields) == {"referer": "https://a.example/cart", "x-other": "a?b#c"}
    twice = Fields([(b"referer", b"https://a.example/x?secret"), (b"referer", b"https://b.example/?secret")])
    assert shown(twice)["referer"] == "https://a.example/x, https://b.example/"
