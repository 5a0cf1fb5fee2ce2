"""The permission matrix: what roles grant, and what they include."""

import pytest

from gateway.auth.permissions import permit_by
from gateway.auth.roles import REMEMBERED, covers, faults, matrix, pattern
from gateway.errors import Refused
from gateway.exchange import Caller, header

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
    permit_by(["orders:read"], matrix=matrix(SHOP))("GET", having(role))


def test_scopes_of_the_caller_and_of_its_roles_count_together() -> None:
    permit = permit_by(["orders:write", "refunds"], matrix=matrix(SHOP))
    permit("GET", having("editor", scopes=("refunds",)))
    with pytest.raises(Refused) as caught:
        permit("GET", having("viewer", scopes=("refunds",)))
    assert caught.value.detail == "Missing scope: orders:write"


def test_a_star_in_a_token_is_a_scope_like_any_other() -> None:
    permit = permit_by(["orders:read"], matrix=matrix(SHOP))
    for scope in ("orders:*", "*", "role:admin"):
        with pytest.raises(Refused):
            permit("GET", having(scopes=(scope,)))


def test_a_role_that_the_matrix_does_not_know_grants_nothing() -> None:
    permit = permit_by(["orders:read"], matrix=matrix(SHOP))
    for role in ("Viewer", "role:viewer", "*", "orders:read", "owner"):
        with pytest.raises(Refused):
            permit("GET", having(role))


def test_a_permission_to_include_is_no_scope() -> None:
    with pytest.raises(Refused):
        permit_by(["role:viewer"], matrix=matrix(SHOP))("GET", having("editor"))


def test_any_one_of_the_roles_will_do_besides_the_scopes() -> None:
    permit = permit_by(["x"], ["editor", "auditor"], matrix(SHOP))
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


def test_only_tokens_are_told_to_come_back_with_more() -> None:
    permit = permit_by(["x"], ["r"])
    of_a_token = Caller(consumer="alice", provider="idp", label="idp")
    with pytest.raises(Refused) as caught:
        permit("GET", of_a_token)
    assert header(caught.value.headers, b"www-authenticate") == (
        b'Bearer realm="gateway", error="insufficient_scope", scope="x"'
    )
    with pytest.raises(Refused) as caught:
        permit("GET", Caller(consumer="acme", provider="partners", label="acme"))
    assert caught.value.headers == []


def test_roles_count_without_a_matrix_too() -> None:
    permit_by([], ["beta"])("GET", having("beta"))
    with pytest.raises(Refused):
        permit_by([], ["beta"])("GET", having("alpha"))


def test_unknown_roles_and_circles_are_told_by_their_place() -> None:
    assert [(role, place) for role, place, _ in faults({"a": ("x", "role:b"), "b": ()})] == []
    assert [(role, place) for role, place, _ in faults({"a": ("x", "role:c")})] == [("a", 1)]
    assert [(role, place) for role, place, _ in faults({"a": ("role:a",)})] == [("a", 0)]
    circle = {"a": ("role:b",), "b": ("role:c",), "c": ("role:a",), "d": ("role:a",)}
    assert [(role, place) for role, place, _ in faults(circle)] == [("a", 0), ("b", 0), ("c", 0)]
    with pytest.raises(ValueError, match="circle"):
        matrix(circle)


def test_two_ways_to_the_same_role_are_no_circle() -> None:
    assert faults({"a": ("role:b", "role:c"), "b": ("role:d",), "c": ("role:d",), "d": ("x",)}) == []


def test_a_flood_of_role_sets_is_not_kept() -> None:
    granted, _ = matrix(SHOP)
    for number in range(REMEMBERED + 100):
        assert granted(frozenset({f"r{number}", "viewer"}), frozenset({"orders:read"})) == {"orders:read"}
    assert granted.cache_info().currsize == REMEMBERED  # type: ignore[attr-defined]
