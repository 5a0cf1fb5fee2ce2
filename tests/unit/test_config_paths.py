import re

import pytest

from gateway.config.complaints import Substituted
from gateway.config.paths import path_pattern, shape


@pytest.mark.parametrize(
    "path",
    [
        "/", "/**", "/**/", "/a b", "/*", "/orders", "/orders/", "/orders/**", "/orders/{id}",
        "/a/*/{b_1}/**", "/caf\u00e9/a.b~c",
        "/a@b:c=d,e&f", "/...", "/.well-known/x",
    ],
)  # fmt: skip
def test_paths(path: str) -> None:
    assert path_pattern(path) == path


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "must begin with /"),
        ("orders", "must begin with /"),
        ("*", "must begin with /"),
        (5, "must be text"),
        ("/a/**/b", "must be the last segment"),
        ("/**/a", "must be the last segment"),
        ("/a//b", "segment '' never reaches a route"),
        ("//", "segment '' never reaches a route"),
        ("/a*", "whole segments"),
        ("/***", "whole segments"),
        ("/{}", "is not a parameter"),
        ("/{1a}", "is not a parameter"),
        ("/{a}b", "is not a parameter"),
        ("/{\u00e9}", "is not a parameter"),
        ("/a}", "is not a parameter"),
        ("/{a-b}", "is not a parameter"),
        ("/{id}/x/{id}", "same parameter"),
        ("/a?b=1", "match.query"),
        ("/a#b", "match.query"),
        ("/a%2", "percent-encoded"),
        ("/a%ff", "percent-encoded"),
        ("/a%2Fb", "percent-encoded"),
        ("/%2e%2E", "percent-encoded"),
        ("/a%3Bv", "percent-encoded"),
        ("/a;v=1", "';'"),
        ("/a/../b", "never reaches a route"),
        ("/.", "never reaches a route"),
        ("/a\\b", "never reaches a route"),
        ("/a\n", "never reaches a route"),
    ],
)
def test_what_is_no_path_or_could_never_match_is_refused(path: object, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        path_pattern(path)


def test_a_path_from_the_environment_is_not_quoted() -> None:
    with pytest.raises(ValueError, match=r"segment \*\*\* ") as caught:
        path_pattern(Substituted("/hunter2%"))
    assert "hun" not in str(caught.value)


def test_paths_that_match_the_same_requests_have_the_same_shape() -> None:
    assert shape("/a/{x}/") == shape("/a/{y}") == shape("/a/*")
    assert shape("/a/{x}") != shape("/a/x")
    assert shape("/a/**") != shape("/a/*")
    assert shape("/*") != shape("/%2A")
    assert shape("/") != shape("/**")
