"""Each rule says in words why it does or does not take a request."""

from gateway.routing.explain import why
from gateway.routing.path import normalise
from gateway.routing.router import Router, Rule


def rule(
    path: str,
    *methods: str,
    host: str | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    query: tuple[tuple[str, str], ...] = (),
    name: str = "",
) -> Rule[None]:
    return Rule(path, frozenset(methods) or None, host, headers, query, None, name or path)


def reasons(
    rules: list[Rule[None]], target: bytes, method: str = "GET", host: bytes = b"h", *headers: bytes
) -> list[str]:
    pairs = [(name, value) for name, _, value in (line.partition(b": ") for line in headers)]
    found = why(Router(rules), method, host, normalise(target, host), pairs)
    assert [reason.rule for reason in found] == [each.name for each in rules]
    assert all(reason.matched == (reason.reason == "matches") for reason in found)
    assert all(reason.reason for reason in found)
    return [reason.reason for reason in found]


def test_the_rule_that_takes_the_request_matches() -> None:
    assert reasons([rule("/orders/{id}")], b"/orders/1") == ["matches"]


def test_a_path_that_differs_is_told_by_its_first_different_segment() -> None:
    rules = [rule("/orders/{id}/items"), rule("/orders"), rule("/orders/{id}/items/{item}"), rule("/orders/new/x/*/y")]
    assert reasons(rules, b"/orders/7/lines") == [
        "path differs at segment 3: 'lines' is not 'items'",
        "path goes on at segment 2: '7'",
        "path differs at segment 3: 'lines' is not 'items'",
        "path differs at segment 2: '7' is not 'new'",
    ]
    assert reasons(rules[2:], b"/orders") == ["path ends before segment 2", "path ends before segment 2, 'new'"]


def test_all_that_is_in_the_way_is_named_at_once() -> None:
    rules = [rule("/a", "POST", "PUT", host="api.example.com", headers=((b"x-a", b"1"),), query=(("q", "1"),))]
    assert reasons(rules, b"/b")[0].split("; ") == [
        "host 'h' is not api.example.com",
        "path differs at segment 1: 'b' is not 'a'",
        "method GET is not in POST, PUT",
        "header x-a is missing",
        "query parameter q is missing",
    ]


def test_a_condition_with_another_value_shows_what_came() -> None:
    rules = [rule("/a", headers=((b"x-a", b"1"),), query=(("q", "1"),))]
    assert reasons(rules, b"/a?q=3&q=2", "GET", b"h", b"x-a: 5", b"x-a: 6") == [
        "header x-a is '5' and '6', not '1'; query parameter q is '2' and '3', not '1'"
    ]


def test_a_rule_that_lost_names_the_winner_and_the_criterion() -> None:
    rules = [
        rule("/**", name="any"),
        rule("/a/{x}", name="wild"),
        rule("/a/b", host="h", name="winner", headers=((b"x", b"1"),)),
        rule("/a/b", host="h", name="plain"),
    ]
    assert reasons(rules, b"/a/b", "GET", b"h", b"x: 1") == [
        "outranked by winner: its host is more specific",
        "outranked by winner: its host is more specific",
        "matches",
        "outranked by winner: it has more header and query conditions",
    ]
    rules = [rule("/**", name="any"), rule("/a/**", name="a"), rule("/a/{x}", name="wild"), rule("/a/b", name="winner")]
    assert reasons(rules, b"/a/b") == [
        "outranked by winner: its path is more specific at segment 1",
        "outranked by winner: its path is more specific at segment 2",
        "outranked by winner: its path is more specific at segment 2",
        "matches",
    ]
    rules = [rule("/a", name="all"), rule("/a", "GET", name="winner"), rule("/a", "GET", name="later")]
    assert reasons(rules, b"/a") == [
        "outranked by winner: it names its methods",
        "matches",
        "outranked by winner: it comes earlier in the file",
    ]


def test_a_lookalike_tells_what_it_is_too_much_like() -> None:
    assert reasons([rule("/admin/**"), rule("/**")], b"/Admin/x") == [
        "path differs at segment 1: 'Admin' is not 'admin'",
        "refused, the path is too much like /admin/**",
    ]


def test_hosts_with_a_wildcard_are_explained_as_they_are_matched() -> None:
    rules = [rule("/a", host="*.example.com")]
    assert reasons(rules, b"/a", host=b"API.example.com:80") == ["matches"]
    assert reasons(rules, b"/a", host=b"example.com") == ["host 'example.com' is not *.example.com"]
    assert len(reasons(rules, b"/a", host=b"a." * 200 + b"example.com")) == 1
