"""The permission matrix: what roles grant, what scopes include, and which roles another one has."""

import pytest

from gateway.auth.permissions import by_roles, by_scopes, in_turn
from gateway.auth.roles import REMEMBERED, covers, faults, matrix, pattern, permission_faults
from gateway.errors import Refused
from gateway.exchange import Caller

SHOP = {
    "viewer": ("orders:read",),
    "editor": ("role:viewer", "orders:write"),
    "admin": ("orders:*", "role:editor"),
    "root": ("*",),
}


def having(*roles: str, scopes: tuple[str, ...] = ()) -> Caller:
    return Caller(consumer="alice", provider="idp", scopes=frozenset(scopes), roles=frozenset(roles))


@pytest.mark.parametrize(
    ("permission", "scope", "covered"),
    [
        ("orders:read", "orders:read", True),
        ("orders:read", "orders:reads", False),
        ("orders:*", "orders:read", True),
        ("orders:*", "orders:read:all", True),
        ("orders:*", "orders", False),
        ("orders:*", "ordersx:read", False),
        ("orders:*", "Orders:read", False),
        ("*", "anything", True),
        ("*", "orders:read:all", True),
        ("*:read", "orders:read", True),
        ("*:read", "orders:write", False),
        ("*:read", "a:b:read", False),
        ("orders:*:own", "orders:read:own", True),
        ("orders:*:own", "orders:read", False),
        ("orders:*:own", "orders:read:own:x", False),
        ("orders:read", "orders:*", False),
    ],
)
def test_a_star_is_one_part_and_as_the_last_all_that_follow(permission: str, scope: str, covered: bool) -> None:
    assert covers(permission, scope) == covered


@pytest.mark.parametrize("permission", ["order*", "*s:read", "orders:re*", "**"])
def test_a_star_within_a_part_is_refused(permission: str) -> None:
    with pytest.raises(ValueError, match="whole part"):
        pattern(permission)


@pytest.mark.parametrize("role", ["viewer", "editor", "admin", "root"])
def test_a_role_grants_what_the_matrix_says_and_what_it_includes(role: str) -> None:
    by_scopes(["orders:read"], matrix(SHOP))("GET", having(role))


def test_scopes_of_the_caller_and_of_its_roles_count_together() -> None:
    permit = by_scopes(["orders:write", "refunds"], matrix(SHOP))
    permit("GET", having("editor", scopes=("refunds",)))
    with pytest.raises(Refused) as caught:
        permit("GET", having("viewer", scopes=("refunds",)))
    assert caught.value.detail == "Missing scope: orders:write"


def test_a_star_in_a_token_is_a_scope_like_any_other() -> None:
    permit = by_scopes(["orders:read"], matrix(SHOP))
    for scope in ("orders:*", "*", "role:admin"):
        with pytest.raises(Refused):
            permit("GET", having(scopes=(scope,)))


def test_a_role_that_the_matrix_does_not_know_grants_nothing() -> None:
    permit = by_scopes(["orders:read"], matrix(SHOP))
    for role in ("Viewer", "role:viewer", "*", "orders:read", "owner"):
        with pytest.raises(Refused):
            permit("GET", having(role))


def test_a_permission_to_include_is_no_scope() -> None:
    with pytest.raises(Refused):
        by_scopes(["role:viewer"], matrix(SHOP))("GET", having("editor"))


def test_any_one_of_the_roles_will_do_besides_the_scopes() -> None:
    permit = in_turn(by_scopes(["x"], matrix(SHOP)), by_roles(["editor", "auditor"], matrix(SHOP)))
    permit("GET", having("auditor", scopes=("x",)))
    permit("GET", having("editor", scopes=("x",)))
    permit("GET", having("admin", scopes=("x",)))  # which includes editor
    with pytest.raises(Refused, match="Missing role: auditor or editor") as caught:
        permit("GET", having("viewer", scopes=("x",)))
    assert (caught.value.status, caught.value.code) == (403, "forbidden")
    with pytest.raises(Refused, match="Missing scope: x"):
        permit("GET", having("editor"))
    with pytest.raises(Refused, match="Missing role"):
        permit("GET", having(scopes=("x",)))


def test_every_one_of_the_roles_may_be_required() -> None:
    permit = by_roles(["viewer", "auditor", "editor"], matrix(SHOP), every=True)
    permit("GET", having("auditor", "admin"))  # which includes editor and viewer
    with pytest.raises(Refused) as caught:
        permit("GET", having("admin"))
    assert (caught.value.status, caught.value.detail) == (403, "Missing role: auditor")
    with pytest.raises(Refused) as caught:
        permit("GET", having("viewer"))
    assert caught.value.detail == "Missing roles: auditor editor"


def test_roles_count_without_a_matrix_too() -> None:
    by_roles(["beta"])("GET", having("beta"))
    with pytest.raises(Refused):
        by_roles(["beta"])("GET", having("alpha"))


def test_unknown_roles_and_circles_are_told_by_their_place() -> None:
    assert [place for place, _ in faults({"a": ("x", "role:b"), "b": ()})] == []
    assert [place for place, _ in faults({"a": ("x", "role:c")})] == [("a", 1)]
    assert [place for place, _ in faults({"a": ("role:a",)})] == [("a", 0)]
    circle = {"a": ("role:b",), "b": ("role:c",), "c": ("role:a",), "d": ("role:a",)}
    assert [place for place, _ in faults(circle)] == [("a", 0), ("b", 0), ("c", 0)]
    with pytest.raises(ValueError, match="circle"):
        matrix(circle)


def test_two_ways_to_the_same_role_are_no_circle() -> None:
    assert faults({"a": ("role:b", "role:c"), "b": ("role:d",), "c": ("role:d",), "d": ("x",)}) == []


SCOPES = {
    "orders:write": ("orders:read",),
    "orders:own": ("orders:write", "returns:*"),
    "returns:write": ("mail:send",),
    "orders:admin": ("orders:*",),
}


@pytest.mark.parametrize(
    ("scope", "granted"),
    [
        ("orders:write", {"orders:read"}),
        ("orders:own", {"orders:write", "orders:read", "returns:write", "mail:send"}),
        ("orders:admin", {"orders:write", "orders:read", "orders:own", "returns:write", "mail:send"}),
        ("orders:read", {"orders:read"}),
        ("orders:*", set()),
        ("*", set()),
        ("orders", set()),
    ],
)
def test_a_scope_includes_others_directly_or_not(scope: str, granted: set[str]) -> None:
    asked = frozenset({"orders:read", "orders:write", "orders:own", "returns:write", "mail:send", "other"})
    found = matrix({}, SCOPES).granted(frozenset({scope}), frozenset(), asked)
    assert found - {scope} == granted - {scope}
    for each in asked:
        permit = by_scopes([each], matrix({}, SCOPES))
        if each in granted | {scope}:
            permit("GET", having(scopes=(scope,)))
        else:
            with pytest.raises(Refused):
                permit("GET", having(scopes=(scope,)))


@pytest.mark.parametrize("role", ["clerk", "chief", "head"])
def test_what_a_role_grants_includes_others_too(role: str) -> None:
    roles = {"clerk": ("orders:own",), "chief": ("role:clerk",), "head": ("orders:*",)}
    permit = by_scopes(["orders:read", "mail:send"], matrix(roles, SCOPES))
    permit("GET", having(role))
    with pytest.raises(Refused, match="Missing scopes: mail:send orders:read"):
        by_scopes(["orders:read", "mail:send"], matrix({role: roles["clerk"]}))("GET", having(role))


def test_without_a_word_in_the_matrix_no_scope_includes_another() -> None:
    with pytest.raises(Refused):
        by_scopes(["orders:read"], matrix({}, SCOPES))("GET", having(scopes=("orders:writer", "Orders:write")))


def test_scopes_that_cannot_include_others_are_told_by_their_place() -> None:
    assert permission_faults(SCOPES) == []
    assert permission_faults({"a": ("*",), "b": ("*",)}) == []  # a pattern closes no circle
    assert [place for place, _ in permission_faults({"a": ("x", "a")})] == [("a", 1)]
    circle = {"a": ("b",), "b": ("x", "c"), "c": ("a",), "d": ("a",)}
    assert [place for place, _ in permission_faults(circle)] == [("a", 0), ("b", 1), ("c", 0)]
    assert [place for place, _ in permission_faults({"a": ("x", "role:r")})] == [("a", 1)]
    assert [place for place, _ in permission_faults({"a:*": ("x",), "role:r": ("x",)})] == [("a:*",), ("role:r",)]
    with pytest.raises(ValueError, match="circle"):
        matrix({}, circle)


def test_it_is_known_through_what_a_scope_comes() -> None:
    through = matrix(SHOP, SCOPES).through
    assert through("orders:read", frozenset(), frozenset({"viewer"})) == "role viewer"
    assert through("orders:read", frozenset(), frozenset({"zz", "root"})) == "role root"
    assert through("mail:send", frozenset({"a", "orders:own"}), frozenset({"root"})) == "orders:own"
    assert through("orders:read", frozenset({"orders:*"}), frozenset({"role:viewer"})) == ""


def test_a_flood_of_role_and_scope_sets_is_not_kept() -> None:
    granted = matrix(SHOP, SCOPES).granted
    asked = frozenset({"orders:read"})
    for number in range(REMEMBERED + 100):
        roles, scopes = frozenset({f"r{number}", "viewer"}), frozenset({f"s{number}"})
        assert granted(scopes, roles, asked) == asked
    assert granted.cache_info().currsize == REMEMBERED  # type: ignore[attr-defined]
