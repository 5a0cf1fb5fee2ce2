"""Which rule wins, what is refused, and that neither depends on how many rules there are."""

import itertools
import timeit

import pytest

from gateway.errors import Refused
from gateway.exchange import Headers
from gateway.routing.path import normalise
from gateway.routing.pattern import parse_host
from gateway.routing.router import Match, Router, Rule


def rule(
    path: str,
    *methods: str,
    host: str | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    query: tuple[tuple[str, str], ...] = (),
    name: str = "",
) -> Rule[str]:
    return Rule(path, frozenset(methods) or None, host, headers, query, (name or path).upper(), name or path)


def match(
    rules: list[Rule[str]], target: bytes, method: str = "GET", host: bytes = b"h", headers: Headers | None = None
) -> Match[str]:
    return Router(rules).match(method, host, normalise(target, host), headers or [])


def winner(rules: list[Rule[str]], target: bytes, method: str = "GET", host: bytes = b"h", *headers: bytes) -> str:
    """Name of the rule that takes the request, or the code of the refusal."""
    pairs = [(name, value) for name, _, value in (line.partition(b": ") for line in headers)]
    try:
        return match(rules, target, method, host, pairs).rule.name
    except Refused as refusal:
        return refusal.code


def test_a_match_carries_the_target_the_parameters_and_the_rule() -> None:
    orders = rule("/orders/{id}/items/{item}")
    found = match([orders], b"/orders/7/items/a%20b")
    assert found == ("/ORDERS/{ID}/ITEMS/{ITEM}", {"id": "7", "item": "a b"}, orders, "")
    assert match([rule("/orders/{id}")], b"/orders/caf%C3%A9").params == {"id": "café"}
    assert match([rule("/orders")], b"/orders").params == {}


@pytest.mark.parametrize("target", [b"/orders", b"/orders/", b"/orders/1", b"/orders/1/items/2"])
def test_two_stars_take_zero_or_more_segments(target: bytes) -> None:
    assert winner([rule("/orders/**")], target) == "/orders/**"


def test_two_stars_take_whole_segments_only() -> None:
    assert winner([rule("/orders/**")], b"/orders2") == "no_route"


@pytest.mark.parametrize("path", ["/orders/*", "/orders/{id}"])
def test_a_placeholder_takes_exactly_one_segment(path: str) -> None:
    assert winner([rule(path)], b"/orders/1") == path
    assert winner([rule(path)], b"/orders/1/") == path
    assert winner([rule(path)], b"/orders") == "no_route"
    assert winner([rule(path)], b"/orders/") == "no_route"
    assert winner([rule(path)], b"/orders/1/2") == "no_route"


def test_the_root_is_a_path_like_any_other() -> None:
    assert winner([rule("/"), rule("/**")], b"/") == "/"
    assert winner([rule("/"), rule("/**")], b"/a") == "/**"
    assert winner([rule("/")], b"/a") == "no_route"


@pytest.mark.parametrize("backwards", [False, True])
def test_the_more_specific_path_wins_segment_by_segment(backwards: bool) -> None:
    rules = [rule(p) for p in ("/a/b", "/a/{x}", "/a/**", "/{x}/b", "/{x}/{y}", "/**")]
    rules = rules[::-1] if backwards else rules
    assert winner(rules, b"/a/b") == "/a/b"
    assert winner(rules, b"/a/c") == "/a/{x}"
    assert winner(rules, b"/a/c/d") == "/a/**"
    assert winner(rules, b"/a") == "/a/**"
    assert winner(rules, b"/z/b") == "/{x}/b"
    assert winner(rules, b"/z/z") == "/{x}/{y}"
    assert winner(rules, b"/z") == "/**"


def test_the_first_segment_counts_more_than_all_later_ones() -> None:
    assert winner([rule("/{x}/b/c/d"), rule("/a/**")], b"/a/b/c/d") == "/a/**"


def test_a_path_that_ends_is_more_specific_than_two_stars() -> None:
    assert winner([rule("/orders/**"), rule("/orders")], b"/orders") == "/orders"


def test_a_specific_branch_that_comes_to_nothing_is_left_again() -> None:
    rules = [rule("/a/b/c"), rule("/a/{x}/d"), rule("/{x}/b/e"), rule("/**")]
    assert winner(rules, b"/a/b/c") == "/a/b/c"
    assert winner(rules, b"/a/b/d") == "/a/{x}/d"
    assert winner(rules, b"/a/b/e") == "/{x}/b/e"
    assert winner(rules, b"/a/b/f") == "/**"


def test_a_branch_whose_conditions_fail_is_left_again() -> None:
    rules = [rule("/a/b", headers=((b"x", b"1"),)), rule("/a/{id}", "POST"), rule("/**")]
    assert winner(rules, b"/a/b", "GET", b"h", b"x: 1") == "/a/b"
    assert winner(rules, b"/a/b", "POST") == "/a/{id}"
    assert winner(rules, b"/a/b", "GET") == "/**"


def test_more_conditions_then_methods_then_file_order_decide_between_equal_paths() -> None:
    plain, second = rule("/a", name="plain"), rule("/a", name="second")
    get = rule("/a", "GET", name="get")
    beta = rule("/a", query=(("beta", "true"),), name="beta")
    mobile_beta = rule("/a", headers=((b"x", b"1"),), query=(("beta", "true"),), name="mobile beta")
    for rules in itertools.permutations([plain, get, beta, mobile_beta]):
        assert winner(list(rules), b"/a", "POST") == "plain"
        assert winner(list(rules), b"/a", "GET") == "get"
        assert winner(list(rules), b"/a?beta=true", "GET") == "beta"
        assert winner(list(rules), b"/a?beta=true", "GET", b"h", b"x: 1") == "mobile beta"
    assert winner([plain, second], b"/a") == "plain"
    assert winner([second, plain], b"/a") == "second"


def test_a_header_condition_sees_every_value() -> None:
    rules = [rule("/a", headers=((b"x-channel", b"mobile"),))]
    assert winner(rules, b"/a", "GET", b"h", b"x-channel: web", b"x-channel: mobile") == "/a"
    assert winner(rules, b"/a", "GET", b"h", b"x-channel: Mobile") == "no_route"
    assert winner(rules, b"/a", "GET", b"h", b"x-channel: mobile2") == "no_route"
    assert winner(rules, b"/a") == "no_route"


def test_a_cookie_is_a_condition_whatever_stands_beside_it() -> None:
    rules = [rule("/a", headers=((b"cookie", b"canary=1"),), name="canary"), rule("/a")]
    for line in (b"cookie: canary=1", b"cookie: sid=x; canary=1", b"cookie: canary=1;lang=de"):
        assert winner(rules, b"/a", "GET", b"h", line) == "canary"
    for line in (b"cookie: canary=10", b"cookie: not-canary=1", b"cookie: sid=a,canary=1", b"x-cookie: canary=1"):
        assert winner(rules, b"/a", "GET", b"h", line) == "/a"


@pytest.mark.parametrize("query", [b"?name=a+b", b"?name=a%20b", b"?n%61me=a%20b", b"?name=x&name=a+b", b"?z&name=a+b"])
def test_a_query_condition_sees_every_decoded_value(query: bytes) -> None:
    assert winner([rule("/q", query=(("name", "a b"),))], b"/q" + query) == "/q"


@pytest.mark.parametrize("query", [b"", b"?name", b"?name=a", b"?Name=a+b", b"?x=1;name=a+b", b"?name=a%2520b"])
def test_b15_a_query_condition_is_exact_and_splits_at_ampersands_only(query: bytes) -> None:
    assert winner([rule("/q", query=(("name", "a b"),))], b"/q" + query) == "no_route"


def test_an_empty_query_value_can_be_asked_for() -> None:
    assert winner([rule("/q", query=(("flag", ""),))], b"/q?flag") == "/q"
    assert winner([rule("/q", query=(("flag", ""),))], b"/q") == "no_route"


def test_a_header_cannot_stand_in_for_a_query_parameter() -> None:
    rules = [rule("/a", query=(("beta", "true"),))]
    assert winner(rules, b"/a", "GET", b"h", b"beta: true") == "no_route"


def test_the_host_decides_before_the_path() -> None:
    rules = [
        rule("/a", name="any"),
        rule("/**", host="*.example.com", name="example"),
        rule("/**", host="*.eu.example.com", name="eu"),
        rule("/**", host="api.eu.example.com", name="api"),
    ]
    assert winner(rules, b"/a", host=b"api.eu.example.com") == "api"
    assert winner(rules, b"/a", host=b"www.eu.example.com") == "eu"
    assert winner(rules, b"/a", host=b"a.b.example.com") == "example"
    assert winner(rules, b"/a", host=b"example.com") == "any"
    assert winner(rules, b"/a", host=b".example.com") == "any"
    assert winner(rules, b"/a", host=b"badexample.com") == "any"
    assert winner(rules, b"/b", host=b"other") == "no_route"


def test_a_host_without_a_rule_for_the_path_falls_back_to_wider_hosts() -> None:
    rules = [rule("/a", host="api.example.com"), rule("/b", host="*.example.com"), rule("/c")]
    assert winner(rules, b"/b", host=b"api.example.com") == "/b"
    assert winner(rules, b"/c", host=b"api.example.com") == "/c"


@pytest.mark.parametrize(
    "host",
    [b"api.example.com", b"API.Example.com", b"api.example.com.", b"api.example.com:8080", b"Api.example.com.:1"],
)
def test_b14_port_case_and_a_trailing_dot_do_not_change_the_host(host: bytes) -> None:
    rules = [rule("/a", host="api.example.com", name="api"), rule("/a", name="any")]
    assert winner(rules, b"/a", host=host) == "api"
    assert winner([rule("/a", host="API.example.com."), rule("/b")], b"/a", host=host) == "/a"


@pytest.mark.parametrize("host", [b"[::1]", b"[::1]:8080"])
def test_b14_an_ipv6_literal_is_a_host(host: bytes) -> None:
    assert winner([rule("/a", host="[::1]")], b"/a", host=host) == "/a"


def test_an_absurdly_long_host_matches_no_wildcard() -> None:
    rules = [rule("/a", host="*.example.com", name="example"), rule("/a", name="any")]
    assert winner(rules, b"/a", host=b"a." * 10_000 + b"example.com") == "any"


def test_a_method_that_no_matching_rule_has_is_405_with_all_that_would_do() -> None:
    rules = [rule("/a", "GET", "PUT"), rule("/{x}", "DELETE"), rule("/b", "POST"), rule("/a", "PATCH", host="other")]
    with pytest.raises(Refused) as caught:
        match(rules, b"/a", "POST")
    assert (caught.value.code, caught.value.status) == ("method_not_allowed", 405)
    assert caught.value.headers == [(b"allow", b"DELETE, GET, PUT")]
    assert caught.value.members == {"allowed": ["DELETE", "GET", "PUT"]}


def test_a_rule_whose_conditions_fail_does_not_add_to_allow() -> None:
    rules = [rule("/a", "GET", headers=((b"x", b"1"),))]
    assert winner(rules, b"/a", "POST") == "no_route"
    assert winner(rules, b"/a", "POST", b"h", b"x: 1") == "method_not_allowed"


def test_methods_are_literal_so_get_does_not_bring_head_along() -> None:
    assert winner([rule("/a", "GET")], b"/a", "HEAD") == "method_not_allowed"
    assert winner([rule("/a", "GET")], b"/a", "get") == "method_not_allowed"


def test_no_route_is_404() -> None:
    with pytest.raises(Refused) as caught:
        match([rule("/a")], b"/b")
    assert (caught.value.code, caught.value.status) == ("no_route", 404)


PROTECTED = [
    rule("/admin/**", name="protected"),
    rule("/api/{v}/keys", name="protected too"),
    rule("/**", name="public"),
]


@pytest.mark.parametrize(
    "target",
    [
        b"/x/../admin",
        b"/x/%2e%2e/admin",
        b"//admin",
        b"/./admin",
        b"/%61dmin",
        b"/admin;a=b",
        b"/admin/;x",
        b"/;x/admin",
    ],
)
def test_b1_b5_b6_no_spelling_of_a_protected_path_reaches_the_public_route(target: bytes) -> None:
    assert winner(PROTECTED, target) == "protected"


@pytest.mark.parametrize(
    "target",
    [
        b"/ADMIN",
        b"/Admin/users",
        b"/admin./users",
        b"/admin.",
        b"/admin..",
        b"/admin%20",
        b"/admin%3bx",
        b"/admin%3Bx/users",
        b"/.../admin",
        b"/api/V1/KEYS",
        b"/API/v1/keys",
        b"/api/v1/keys.",
        b"/api/v1/%E2%84%AAeys",  # the Kelvin sign folds to k
    ],
)
def test_b11_a_lookalike_of_a_protected_path_is_nobodys(target: bytes) -> None:
    assert winner(PROTECTED, target) == "no_route"


@pytest.mark.parametrize(
    "target", [b"/Users", b"/administrator", b"/users/ADMIN", b"/api/v1/KEYS2", b"/file.TXT", b"/A."]
)
def test_b11_other_paths_keep_their_case_and_dots(target: bytes) -> None:
    assert winner(PROTECTED, target) == "public"


def test_b11_capitals_in_a_rule_are_protected_likewise() -> None:
    rules = [rule("/Admin", name="protected"), rule("/**", name="public")]
    assert winner(rules, b"/Admin") == "protected"
    assert winner(rules, b"/admin") == "no_route"
    assert winner(rules, b"/other") == "public"


def test_b11_a_path_that_somebody_wrote_down_is_no_lookalike() -> None:
    rules = [rule("/Files"), rule("/files"), rule("/FILES/{id}"), rule("/files/{id}")]
    for name in ("/Files", "/files", "/FILES/{id}", "/files/{id}"):
        assert winner(rules, name.replace("{id}", "1").encode()) == name


def test_b11_a_trailing_slash_does_not_change_the_route() -> None:
    rules = [rule("/admin", name="protected"), rule("/**", name="public")]
    assert winner(rules, b"/admin/") == "protected"
    assert winner([rule("/admin/"), rule("/**")], b"/admin") == "/admin/"
    assert winner([rule("/admin/"), rule("/**")], b"/admin/") == "/admin/"


def test_an_adversarial_set_of_rules_and_a_long_path_cannot_blow_up_the_search() -> None:
    # Every mixture of "a" and "*" over 12 segments, none of which ends as the path does: each of the 8192 nodes
    # is tried once. A search that forgot where it had been would need 2**depth steps for the second path as well.
    rules = [rule("/" + "/".join(mix) + "/end") for mix in itertools.product("a*", repeat=12)]
    router = Router(rules)
    for target in (b"/a" * 12 + b"/other", b"/a" * 4000):
        normal = normalise(target, b"")
        with pytest.raises(Refused):
            router.match("GET", b"h", normal, [])
        best = min(timeit.repeat(lambda n=normal: router.best("GET", b"h", n, []), number=1, repeat=3))  # type: ignore[misc]
        assert best < 0.1, f"{best * 1e3:.1f} ms"


def test_ten_thousand_routes_cost_no_more_than_twice_what_ten_cost() -> None:
    def cost(count: int) -> float:
        rules = [rule("/orders/{id}", "GET"), rule("/**")]
        rules += [rule(f"/service{n}/v{n % 7}/{{id}}/items", "GET") for n in range(count - len(rules))]
        router, normal = Router(rules), normalise(b"/orders/123", b"")
        return min(timeit.repeat(lambda: router.match("GET", b"h", normal, []), number=2_000, repeat=15)) / 2_000 * 1e6

    few, many = cost(10), cost(10_000)
    assert many < 2 * few, f"10 routes: {few:.2f} µs, 10,000 routes: {many:.2f} µs"


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("orders", "starts with /"),
        ("/a//b", "no request has such a segment"),
        ("/a/../b", "no request has such a segment"),
        ("/a\\b", "no request has such a segment"),
        ("/a\0", "no request has such a segment"),
        ("/**/a", "only be the last"),
        ("/a*", "whole segment"),
        ("/x{id}", "whole segment"),
        ("/{}", "whole segment"),
        ("/{a-b}", "whole segment"),
        ("/{a}/{a}", "same name"),
        ("/a?b", "no query"),
        ("/a;b", "never match"),
        ("/a%20b", "the characters themselves"),
    ],
)
def test_a_pattern_that_could_never_do_what_it_says_is_a_value_error(path: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Router([rule(path)])


@pytest.mark.parametrize("host", ["", "*", "a.*.b", "*a.b", "a:80", "a b", "bücher.example", "http://a", "a..b"])
def test_a_host_that_no_request_could_have_is_a_value_error(host: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        Router([rule("/a", host=host)])


def test_a_complaint_names_the_route() -> None:
    with pytest.raises(ValueError, match="route broken: a path starts with /"):
        Router([rule("x", name="broken")])
    with pytest.raises(ValueError, match="matches nothing"):
        Router([Rule("/a", frozenset(), None, (), (), "", "a")])


def test_literals_are_text_and_requests_are_compared_decoded() -> None:
    assert winner([rule("/café/a b")], b"/caf%c3%a9/a%20b") == "/café/a b"
    assert winner([rule("/a+b")], b"/a%2Bb") == "/a+b"
    assert winner([rule("/a+b")], b"/a%20b") == "no_route"


def test_hosts_are_compared_in_lower_case_without_their_dot() -> None:
    assert parse_host("*.Example.COM.") == b"*.example.com"


@pytest.mark.parametrize("path", [b"/adm%C4%B1n", b"/ADM%C4%B0N", b"/%EF%BD%81dmin", b"/admin%EF%BC%9Bx"])
def test_b11_letters_that_only_look_different_are_no_way_round_a_route(path: bytes) -> None:
    assert winner([rule("/admin/**", name="protected"), rule("/**", name="open")], path) == "no_route"


def test_c07_a_condition_sees_each_element_of_a_line_with_commas() -> None:
    rules = [rule("/**", headers=((b"x-mode", b"admin"),), name="special"), rule("/**", name="open")]
    assert winner(rules, b"/", "GET", b"h", b"x-mode: x, admin") == "special"
    assert winner(rules, b"/", "GET", b"h", b"x-mode: x, administrator") == "open"
