"""Permissions: every listed scope, exactly as written."""

import pytest

from gateway.auth.permissions import anyone, permit_by
from gateway.errors import Refused
from gateway.exchange import ANONYMOUS, Caller, header


def having(*scopes: str) -> Caller:
    return Caller(consumer="alice", provider="idp", scopes=frozenset(scopes))


def test_every_listed_scope_is_required() -> None:
    permit = permit_by(["orders:read", "orders:write"])
    permit("GET", having("orders:write", "orders:read", "more"))
    with pytest.raises(Refused) as caught:
        permit("GET", having("orders:read"))
    error = caught.value
    assert (error.status, error.code, error.detail) == (403, "forbidden", "Missing scope: orders:write")
    assert header(error.headers, b"www-authenticate") == (
        b'Bearer realm="gateway", error="insufficient_scope", scope="orders:read orders:write"'
    )


@pytest.mark.parametrize(
    "scope", ["", "orders", "orders:rea", "orders:read2", "Orders:Read", "ORDERS:READ", "*", "orders:*"]
)
def test_d15_a_prefix_or_another_case_is_another_scope(scope: str) -> None:
    with pytest.raises(Refused) as caught:
        permit_by(["orders:read"])("GET", having(scope))
    assert caught.value.status == 403


def test_d15_a_caller_without_scopes_is_told_all_of_them() -> None:
    with pytest.raises(Refused, match="Missing scopes: a b"):
        permit_by(["b", "a"])("GET", ANONYMOUS)


def test_scopes_per_method_are_those_of_the_method() -> None:
    permit = permit_by({"GET": ["read"], "POST": ["read", "write"]})
    permit("GET", having("read"))
    permit("POST", having("read", "write"))
    with pytest.raises(Refused, match="write"):
        permit("POST", having("read"))


def test_head_needs_what_get_needs_unless_it_has_its_own() -> None:
    with pytest.raises(Refused, match="read"):
        permit_by({"GET": ["read"]})("HEAD", ANONYMOUS)
    permit_by({"GET": ["read"], "HEAD": []})("HEAD", ANONYMOUS)


def test_a_method_that_is_not_named_needs_no_scope() -> None:
    permit_by({"POST": ["write"]})("GET", having())


def test_no_scopes_permit_anyone() -> None:
    permit_by([])("GET", ANONYMOUS)
    anyone("GET", ANONYMOUS)


@pytest.mark.parametrize("scope", ["", "a b", 'a"b', "a\\b", "é", "a\r\n"])
def test_a_scope_that_no_token_can_carry_is_an_error_at_once(scope: str) -> None:
    with pytest.raises(ValueError, match="not a scope"):
        permit_by({"GET": [scope]})
