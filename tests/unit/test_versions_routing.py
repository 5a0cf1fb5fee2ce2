"""Versions in the path: which rule takes them, what is forwarded, and that none leads round another route."""

import pytest

from gateway.errors import Refused
from gateway.routing.explain import why
from gateway.routing.finder import Finder
from gateway.routing.path import normalise
from gateway.routing.router import LOOKALIKE, OTHER_ROUTE, Router, Rule, VersionSegment
from gateway.routing.version_names import UNKNOWN, Names

NAMES = Names(["v1", "v2"], {"latest": "v2"})


def plain(path, *methods, name="", headers=()):
    return Rule(path, frozenset(methods) or None, None, headers, (), name or path, name or path)


def versioned(path, *methods, cut=True, names=NAMES, headers=()):
    """The two rules of a route."""
    first = VersionSegment(names.read, cut)
    one = plain(path, *methods, headers=headers)
    return [one, Rule("/*" + path, one.methods, None, headers, (), path, path, first)]


def found(rules, target, method="GET", headers=()):
    """Route, version and forwarded path; or status and detail of the refusal."""
    try:
        path, _, match = Finder(Router(rules)).find(method, target, b"h", b"h", list(headers))
    except Refused as refusal:
        return refusal.status, refusal.detail
    return match.target, match.version, path


ORDERS = versioned("/orders/**")


@pytest.mark.parametrize(
    ("target", "version", "path"),
    [
        (b"/v2/orders/7", "v2", b"/orders/7"),
        (b"/v1/orders", "v1", b"/orders"),
        (b"/v1/orders/", "v1", b"/orders/"),
        (b"/latest/orders/7?a=b", "v2", b"/orders/7"),
        (b"/orders/7", "", b"/orders/7"),
        (b"/orders/v2", "", b"/orders/v2"),
        (b"/v3/orders", UNKNOWN, b"/orders"),
        (b"/V2/orders", UNKNOWN, b"/orders"),
        (b"/v2./orders", UNKNOWN, b"/orders"),
        (b"/v2;x=1/orders", "v2", b"/orders"),
        (b"/%76%32/orders/%7E", "v2", b"/orders/~"),
        (b"/x/../v2/./orders", "v2", b"/orders"),
    ],
)
def test_the_first_segment_names_the_version_and_ends_here(target, version, path):
    assert found(ORDERS, target) == ("/orders/**", version, path)


@pytest.mark.parametrize(
    "target", [b"/v2", b"/v2/invoices", b"/x/orders", b"/v2/v2/orders", b"/v2/v1/orders", b"/a/v2/orders"]
)
def test_what_is_no_version_is_as_if_the_rule_were_not_there(target):
    assert found(ORDERS, target) == (404, "")
    assert found([*ORDERS, plain("/**")], target) == ("/**", "", target)


def test_the_version_may_go_on_to_the_upstream():
    rules = versioned("/orders/{id}", cut=False)
    assert found(rules, b"/v2/orders/7") == ("/orders/{id}", "v2", b"/v2/orders/7")


def test_parameters_are_where_they_were():
    match = Router(versioned("/orders/{id}/items/{item}")).match(
        "GET", b"h", normalise(b"/v2/orders/7/items/8", b"h"), []
    )
    assert match.params == {"id": "7", "item": "8"}
    assert (match.version, match.rule.name) == ("v2", "/orders/{id}/items/{item}")


def test_a_route_for_every_path_has_versions_too():
    rules = versioned("/**")
    assert found(rules, b"/v2") == ("/**", "v2", b"/")
    assert found(rules, b"/v2/a") == ("/**", "v2", b"/a")
    assert found(rules, b"/a") == ("/**", "", b"/a")
    assert found(rules, b"/v2/v1/a") == (404, OTHER_ROUTE)
    assert found(rules, b"/v1" * 2000) == (404, OTHER_ROUTE)


def test_a_literal_comes_before_a_version_and_a_version_before_any_one_segment():
    rules = [plain("/v2/orders/**", name="own"), plain("/{tenant}/orders/**", name="tenant"), *ORDERS]
    for order in (rules, rules[::-1]):
        assert found(order, b"/v2/orders/7") == ("own", "", b"/v2/orders/7")
        assert found(order, b"/v1/orders/7") == ("/orders/**", "v1", b"/orders/7")
        assert found(order, b"/v9/orders/7") == ("/orders/**", UNKNOWN, b"/orders/7")
        assert found(order, b"/acme/orders/7") == ("tenant", "", b"/acme/orders/7")


def test_methods_are_refused_with_versions_as_without():
    rules = versioned("/orders/**", "GET")
    for target in (b"/orders/7", b"/v2/orders/7"):
        assert found(rules, target, "DELETE")[0] == 405
    assert found(rules, b"/x/orders/7", "DELETE")[0] == 404


PROTECTED = [*versioned("/**"), plain("/admin/**", name="admin")]


@pytest.mark.parametrize(
    "target",
    [
        b"/v2/admin",
        b"/v2/admin/users",
        b"/v2/%61dmin/users",
        b"/v2/Admin/users",
        b"/v2/admin./users",
        b"/v2/admin%20/users",
        b"/V2/admin/users",
        b"/latest/ADMIN",
        b"/v9/admin",
        b"/v2;x/admin",
        b"/v2/;x/admin",
        b"/v2/v2/admin",
        b"/;x=1/v2/admin",
        b"/.../v2/admin",
        b"/v2/.../admin",
        b"/v2//admin",
        b"/./v2/x/../admin",
    ],
)
def test_no_version_leads_round_the_route_of_the_path_without_it(target):
    status = found(PROTECTED, target)[0]
    assert status == 404, found(PROTECTED, target)


def test_what_would_be_cut_off_is_what_was_read():
    """`/;x` is no segment to match by, but it is one to cut: /v2 would be forwarded."""
    assert found(ORDERS, b"/;x=1/v2/orders") == (404, OTHER_ROUTE)
    assert found(ORDERS, b"/;x=1/orders") == ("/orders/**", "", b"/;x=1/orders")


def test_a_protected_route_with_versions_has_no_lookalikes_either():
    rules = [plain("/**", name="open"), *versioned("/admin/**")]
    for target in (b"/v2/Admin", b"/V2./admin.", b"/v2/admin%20/x", b"/v2/.../admin"):
        answer = found(rules, target)
        assert answer == (404, LOOKALIKE) or answer[0] == "/admin/**", answer
    assert found(rules, b"/x/admin") == ("open", "", b"/x/admin")


def test_a_condition_holds_for_both_rules():
    rules = [*versioned("/orders", headers=((b"x-beta", b"1"),)), plain("/orders", name="rest")]
    assert found(rules, b"/v2/orders", headers=[(b"x-beta", b"1")]) == ("/orders", "v2", b"/orders")
    assert found(rules, b"/v2/orders") == (404, "")
    assert found(rules, b"/orders") == ("rest", "", b"/orders")


def test_the_memory_keeps_versions_apart():
    finder = Finder(Router(ORDERS))
    for _ in range(2):
        for target, version in (
            (b"/v1/orders", "v1"),
            (b"/v2/orders", "v2"),
            (b"/orders", ""),
            (b"/v3/orders", UNKNOWN),
        ):
            path, _, match = finder.find("GET", target, b"h", b"h", [])
            assert (path, match.version) == (b"/orders", version)


@pytest.mark.parametrize(
    ("target", "reasons"),
    [
        (b"/v2/orders", ["path differs at segment 1: 'v2' is not 'orders'", "matches"]),
        (
            b"/x/orders",
            ["path differs at segment 1: 'x' is not 'orders'", "path does not begin with one of its versions: 'x'"],
        ),
    ],
)
def test_explain_tells_versions(target, reasons):
    said = why(Router(ORDERS), "GET", b"h", normalise(target, b"h"), [])
    assert [reason.reason for reason in said] == reasons


def test_explain_tells_why_a_version_goes_astray():
    said = why(Router(PROTECTED), "GET", b"h", normalise(b"/v2/admin", b"h"), [])
    assert said[1].reason == "refused, the path without its version is for another route"
    assert not any(reason.matched for reason in said)
    said = why(Router([plain("/*/orders/**"), *ORDERS]), "GET", b"h", normalise(b"/v2/orders", b"h"), [])
    assert said[0].reason == "outranked by /orders/**: its path begins with a version"
