"""The path and the query with which a request goes on."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.exchange import Call, Caller
from gateway.routing.path import normalise
from gateway.transform.fields import CallFields
from gateway.transform.paths import CURE, Edit, Rewrite, add_prefix, linear, strip_prefix
from gateway.transform.query import query_edit
from gateway.transform.template import PATH, compile_text
from tests.fakes import make_call

FIELDS = CallFields(frozenset({"id"}))


def call(path: bytes = b"/", query: bytes = b"", consumer: str = "alice") -> Call:
    made = make_call()
    made.path, made.query, made.params, made.caller = path, query, {"id": "7"}, Caller(consumer)
    return made


def after(edit: Edit, path: bytes, consumer: str = "alice") -> bytes:
    of = call(path, consumer=consumer)
    edit(of)
    return of.path


# -- prefixes


@pytest.mark.parametrize(
    ("path", "left"),
    [
        (b"/api/orders", b"/orders"),
        (b"/api/orders/", b"/orders/"),
        (b"/api", b"/"),
        (b"/api/", b"/"),
        (b"/api/api/x", b"/api/x"),
        (b"/apis/orders", b"/apis/orders"),
        (b"/ap", b"/ap"),
        (b"/x/api/orders", b"/x/api/orders"),
        (b"/API/orders", b"/API/orders"),
        (b"/api/a%20b", b"/a%20b"),
        (b"/api;v=1/orders;w=2", b"/orders;w=2"),
        (b"/;v=1/api/orders", b"/orders"),
        (b"/;v=1", b"/;v=1"),
        (b"/api%3Bx/orders", b"/api%3Bx/orders"),
    ],
)
def test_b12_whole_segments_are_taken_away(path: bytes, left: bytes) -> None:
    assert after(strip_prefix("/api"), path) == left


@pytest.mark.parametrize(
    ("prefix", "path", "left"),
    [
        ("/größe/a", b"/gr%C3%B6%C3%9Fe/a/b", b"/b"),
        ("/a$b", b"/a%24b/c%24", b"/c%24"),  # the same segment, escaped without need
        ("/a$b", b"/a$b/c", b"/c"),
        ("/a b/c", b"/a%20b/c/%E2%82%AC", b"/%E2%82%AC"),
        ("/a/b", b"/a", b"/a"),
        ("/a/b", b"/a%20/b/c", b"/a%20/b/c"),
    ],
)
def test_b12_what_is_matched_decoded_is_cut_where_it_stands(prefix: str, path: bytes, left: bytes) -> None:
    assert after(strip_prefix(prefix), path) == left


@given(st.lists(st.sampled_from(["api", "a%20b", ";x=1", "api;y", "%C3%B6", "x"]), max_size=5), st.booleans())
def test_what_is_left_of_a_normal_path_is_a_normal_path(segments: list[str], slash: bool) -> None:
    path = normalise(f"/{'/'.join(segments)}{'/' * slash}".encode(), b"").path
    left = after(strip_prefix("/api"), path)
    assert normalise(left, b"").path == left
    assert path.endswith(left) or left == b"/"


def test_a_prefix_is_added() -> None:
    assert after(add_prefix(b"/v1"), b"/orders") == b"/v1/orders"
    assert after(add_prefix(b"/v1"), b"/") == b"/v1/"


@pytest.mark.parametrize(
    ("consumer", "path"), [("acme", b"/t/acme/o"), ("a b?c#d", b"/t/a%20b%3Fc%23d/o"), ("ö", b"/t/%C3%B6/o")]
)
def test_a_field_in_a_prefix_is_one_segment(consumer: str, path: bytes) -> None:
    assert after(add_prefix(compile_text("/t/{consumer}", FIELDS, PATH)), b"/o", consumer) == path


@pytest.mark.parametrize("consumer", ["", ".", "..", "a/b", "../admin", "a\\b", "a\r\nb", "..;x", "\0", "\ud800/"])
def test_b1_a_field_that_would_lead_elsewhere_is_refused(consumer: str) -> None:
    with pytest.raises(Refused) as caught:
        after(add_prefix(compile_text("/t/{consumer}", FIELDS, PATH)), b"/o", consumer)
    assert (caught.value.status, caught.value.code) == (400, "bad_request")
    assert "rewritten" in caught.value.detail


# -- expressions


@pytest.mark.parametrize(
    ("pattern", "to", "path", "becomes"),
    [
        ("^/orders/(?P<id>[0-9]+)$", "/o/{id}", b"/orders/42", b"/o/42"),
        ("^/orders/([0-9]+)$", r"/o/\1", b"/orders/42", b"/o/42"),
        ("^/orders/([0-9]+)$", "/o/{1}/{consumer}/{param.id}", b"/orders/42", b"/o/42/alice/7"),
        ("^/orders/([0-9]+)$", "/o", b"/orders/x", b"/orders/x"),
        ("^/old(?P<rest>/.*)?$", "/new{rest}", b"/old/a%20b/;c", b"/new/a%20b/;c"),
        ("^/old(?P<rest>/.*)?$", "/new{rest}", b"/old", b"/new"),
        ("^/(?P<path>.*)$", "/x/{path}", b"/a", b"/x/a"),
        ("b+", "c", b"/abb/b", b"/ac/b"),
        ("^/a$", "/größe", b"/a", b"/gr%C3%B6%C3%9Fe"),
        (r"\.php$", "", b"/a.php", b"/a"),
        ("a", "%", b"/a", b"/%25"),  # written as a character, hence escaped
        (r"^/a$", "/{{x}}", b"/a", b"/%7Bx%7D"),
    ],
)
def test_what_an_expression_matches_first_is_replaced(pattern: str, to: str, path: bytes, becomes: bytes) -> None:
    assert after(Rewrite(pattern, to, FIELDS), path) == becomes


@pytest.mark.parametrize(
    ("pattern", "to", "path"),
    [
        ("^/a/(.*)$", r"/\1/..", b"/a/x"),
        ("^/a(.*)$", r"\1", b"/a"),
        ("^/a(.*)$", r"/\1", b"/a/x"),
        ("^/a/(.)$", r"/\1\1", b"/a/."),
        ("^/a(%..)$", r"/\1;", b"/a%zz"),
    ],
)
def test_a_rewritten_path_that_is_none_is_refused(pattern: str, to: str, path: bytes) -> None:
    rewrite = Rewrite(pattern, to, FIELDS)
    with pytest.raises(Refused, match="rewritten"):
        after(rewrite, path)


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "((a{1000}){1000}){1000}", "*", "a{2,1}"])
def test_an_expression_that_re2_does_not_know_is_an_error(pattern: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="is not an expression of RE2: "):
        linear(pattern)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("to", [r"/\2", "/{2}", "/{nme}", "/{", r"/\n", "/{param.x}"])
def test_what_is_put_in_its_place_knows_its_groups(to: str) -> None:
    with pytest.raises(ValueError, match=r"is no field|is written twice|number of a group"):
        Rewrite("^/(?P<name>.*)$", to, FIELDS)


def test_no_path_makes_an_expression_slow() -> None:
    """It would take years of an engine that tries all ways."""
    rewrite = Rewrite("^/(a+)+$", "/x", FIELDS)
    path = b"/" + b"a" * 8000 + b"!"
    assert after(rewrite, path) == path


def test_without_re2_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(ValueError, match="pip install") as caught:
        linear("a")
    assert str(caught.value) == CURE


# -- the query


@pytest.mark.parametrize(
    ("query", "becomes"),
    [
        (b"", b"?s=1&t=alice&a=2"),
        (b"?x=1", b"?x=1&s=1&t=alice&a=2"),
        (b"?s=0&x=%2f&s&a=1", b"?x=%2f&a=1&s=1&t=alice&a=2"),
        (b"?%73=0&r=1&x=1&&y;z", b"?x=1&&y;z&s=1&t=alice&a=2"),
        (b"?ss=0&S=1", b"?ss=0&S=1&s=1&t=alice&a=2"),
        (b"?r+r=0&r%20r=1&r=2", b"?s=1&t=alice&a=2"),
    ],
)
def test_parameters_are_set_added_and_removed_and_the_others_stay(query: bytes, becomes: bytes) -> None:
    of = call(query=query)
    query_edit({"s": "1", "t": "{consumer}"}, {"a": "2"}, ["r", "r r"], FIELDS)(of)
    assert of.query == becomes


def test_a_query_of_which_nothing_is_left_is_none() -> None:
    of = call(query=b"?debug=1")
    query_edit({}, {}, ["debug"], FIELDS)(of)
    assert of.query == b""


def test_names_and_values_are_escaped() -> None:
    of = call(consumer="a&b=c#d +%ö")
    query_edit({"na me": "{consumer}", "x": "1&2"}, {}, [], FIELDS)(of)
    assert of.query == b"?na%20me=a%26b%3Dc%23d%20%2B%25%C3%B6&x=1%262"
