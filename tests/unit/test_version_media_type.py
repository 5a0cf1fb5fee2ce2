"""Versions in Accept and Content-Type."""

import pytest

from gateway.routing.media_type import LONGEST, MOST_ELEMENTS, REMEMBERED, MediaType

VENDOR = "application/vnd.example.{version}+json"


@pytest.mark.parametrize(
    ("accept", "versions", "others"),
    [
        (b"application/vnd.example.v2+json", ("v2",), False),
        (b"Application/VND.example.v2+JSON", ("v2",), False),
        (b"application/vnd.example.v1.10+json", ("v1.10",), False),
        (b"application/vnd.example.v1+json;q=0.5, application/vnd.example.v2+json", ("v2", "v1"), False),
        (b"application/vnd.example.v1+json, application/vnd.example.v2+json", ("v1", "v2"), False),
        (b"application/vnd.example.v2+json;q=0, text/html", (), True),
        (b"application/vnd.example.v2+json, */*;q=0.1", ("v2",), True),
        (b"application/vnd.example.v2+json, */*;q=0", ("v2",), False),
        (b"application/vnd.example+json; version=v2", ("v2",), False),
        (b'application/vnd.example+json ; charset=utf-8;Version="v2"', ("v2",), False),
        (b"application/vnd.example.+json", (), True),
        (b"application/json; version=v2", (), True),
        (b"application/vnd.examplev2+json", (), True),
        (b"application/vnd.example.v2+xml", (), True),
        (b"*/*", (), True),
        (b"", (), True),
        (b",, ,application/vnd.example.v2+json,", ("v2",), False),
        (b"application/vnd.example.v2+json;q=nonsense", (), True),
        (b"application/vnd.example.\xff+json", ("ÿ",), False),
    ],
)
def test_what_an_accept_asks_for(accept, versions, others):
    assert MediaType(VENDOR).accepted(accept) == (versions, others)


def test_the_version_may_be_a_parameter():
    media_type = MediaType("application/json; api={version}")
    assert media_type.accepted(b"application/json;api=2").versions == ("2",)
    assert media_type.accepted(b"text/html, application/json; charset=utf-8; API=2").versions == ("2",)
    assert media_type.accepted(b"application/json").versions == ()
    assert media_type.accepted(b"text/json; api=2").versions == ()


def test_the_type_of_a_body_names_one_version():
    assert MediaType(VENDOR).of_body(b"application/vnd.example.v2+json; charset=utf-8") == "v2"
    assert MediaType(VENDOR).of_body(b"application/json") is None


@pytest.mark.parametrize(
    "template",
    [
        "application/json",
        "{version}",
        "a/{version}{version}",
        "a b/{version}",
        "{version}/json",
        "a/b;{version}",
        "a/b; v={version}x",
    ],
)
def test_a_template_that_cannot_be_read_by(template):
    with pytest.raises(ValueError, match="must"):
        MediaType(template)


def test_no_accept_is_read_without_an_end():
    media_type = MediaType(VENDOR)
    endless = b"text/html," * MOST_ELEMENTS + b"application/vnd.example.v2+json"
    assert media_type.accepted(endless) == ((), True)
    assert media_type.accepted(b"application/vnd.example.v2+json," * 5000).others
    for number in range(3 * REMEMBERED):
        media_type.accepted(b"text/%d" % number)
        media_type.accepted(b"text/%d" % number + b"x" * LONGEST)
    assert len(media_type._known) <= REMEMBERED
