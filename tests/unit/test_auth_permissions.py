"""Permissions: every listed scope, exactly as written; of a choice any one. Who is refused with 401, who with 403."""

from pathlib import Path
from typing import Any

import pytest

from gateway.auth.configured import permit
from gateway.auth.permissions import Permit, anyone, by_roles, by_scopes, in_turn
from gateway.auth.roles import matrix
from gateway.errors import Refused
from gateway.exchange import ANONYMOUS, Caller, header
from tests.configs import SECRET, loaded, route


def having(*scopes: str, **claims: object) -> Caller:
    """The bearer of a token."""
    return Caller(consumer="alice", provider="idp", label="idp", scopes=frozenset(scopes), claims={"exp": 1, **claims})


def refused(permit: Permit, caller: Caller, method: str = "GET") -> Refused:
    with pytest.raises(Refused) as caught:
        permit(method, caller)
    return caught.value


def challenge(error: Refused) -> bytes | None:
    return header(error.headers, b"www-authenticate")


def test_every_listed_scope_is_required() -> None:
    permit = by_scopes(["orders:read", "orders:write"])
    permit("GET", having("orders:write", "orders:read", "more"))
    error = refused(permit, having("orders:read"))
    assert (error.status, error.code, error.detail) == (403, "forbidden", "Missing scope: orders:write")
    assert challenge(error) == (b'Bearer realm="gateway", error="insufficient_scope", scope="orders:read orders:write"')


@pytest.mark.parametrize(
    "scope", ["", "orders", "orders:rea", "orders:read2", "Orders:Read", "ORDERS:READ", "*", "orders:*"]
)
def test_d15_a_prefix_or_another_case_is_another_scope(scope: str) -> None:
    assert refused(by_scopes(["orders:read"]), having(scope)).status == 403
    assert refused(by_scopes([("orders:read", "orders:list")]), having(scope)).status == 403


def test_d15_a_caller_without_scopes_is_told_all_of_them() -> None:
    assert refused(by_scopes(["b", "a"]), having()).detail == "Missing scopes: a b"


def test_of_a_choice_any_one_scope_is_enough() -> None:
    permit = by_scopes(["x", ("a", "b"), ("c", "d")])
    permit("GET", having("x", "b", "c"))
    permit("GET", having("x", "a", "b", "d"))
    for scopes, detail in {
        ("x", "a"): "Missing scope: one of c d",
        ("x",): "Missing scopes: one of a b, one of c d",
        ("a", "c"): "Missing scope: x",
        (): "Missing scopes: x, one of a b, one of c d",
    }.items():
        error = refused(permit, having(*scopes))
        assert (error.status, error.detail) == (403, detail)
        # The first complete choice, whatever the caller has: with that it would pass.
        assert challenge(error) == b'Bearer realm="gateway", error="insufficient_scope", scope="a c x"'


def test_a_choice_may_be_met_by_what_a_role_or_a_scope_includes() -> None:
    known = matrix({"viewer": ("orders:read",)}, {"orders:all": ("orders:*",)})
    permit = by_scopes([("orders:read", "audit")], known)
    permit("GET", Caller(provider="idp", roles=frozenset({"viewer"})))
    permit("GET", having("orders:all"))
    assert refused(permit, having("orders:*")).status == 403


def test_scopes_per_method_are_those_of_the_method() -> None:
    permit = by_scopes({"GET": ["read"], "POST": ["read", ("write", "own")]})
    permit("GET", having("read"))
    permit("POST", having("read", "own"))
    assert refused(permit, having("read"), "POST").detail == "Missing scope: one of write own"


@pytest.mark.parametrize("entry", ["read", ("read", "list")])
def test_head_needs_what_get_needs_unless_it_has_its_own(entry: str | tuple[str, ...]) -> None:
    assert "read" in refused(by_scopes({"GET": [entry]}), having(), "HEAD").detail
    by_scopes({"GET": [entry], "HEAD": []})("HEAD", having())


@pytest.mark.parametrize("entry", ["write", ("write", "own")])
def test_a_method_that_is_not_named_needs_what_a_star_says_or_nothing(entry: str | tuple[str, ...]) -> None:
    by_scopes({"POST": [entry]})("GET", having())
    assert refused(by_scopes({"POST": ["x"], "*": [entry]}), having("x"), "PUT").status == 403


def test_no_scopes_permit_anyone() -> None:
    by_scopes([])("GET", ANONYMOUS)
    anyone("GET", ANONYMOUS)
    in_turn()("GET", ANONYMOUS)


@pytest.mark.parametrize("scope", ["", "a b", 'a"b', "a\\b", "é", "a\r\n"])
def test_a_scope_that_no_token_can_carry_is_an_error_at_once(scope: str) -> None:
    for entry in (scope, ("a", scope)):
        with pytest.raises(ValueError, match="not a scope"):
            by_scopes({"GET": [entry]})


def test_a_choice_between_nothing_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="no scopes"):
        by_scopes([()])


def test_only_tokens_are_told_to_come_back_with_more() -> None:
    assert challenge(refused(by_scopes(["x"]), having())) == (
        b'Bearer realm="gateway", error="insufficient_scope", scope="x"'
    )
    assert challenge(refused(by_roles(["r"]), having())) == b'Bearer realm="gateway", error="insufficient_scope"'
    partner = Caller(consumer="acme", provider="partners", label="acme")
    for each in (by_scopes(["x"]), by_roles(["r"]), by_roles(["r"], every=True)):
        error = refused(each, partner)
        assert (error.status, error.headers) == (403, [])


# -- what a route asks for, as configured ------------------------------------------------------------

AUTH = f"""\
auth:
  providers:
    idp: {{type: jwt, secret: {SECRET}, algorithms: [HS256]}}
    partners: {{type: api_key, header: X-API-Key}}
  permissions: {{"orders:write": ["orders:read"]}}
"""


class Challenger:
    def __init__(self, challenge: bytes) -> None:
        self.challenge = challenge


PROVIDERS: Any = {"idp": Challenger(b'Bearer realm="gateway"'), "partners": Challenger(b'ApiKey realm="gateway"')}


def configured(folder: Path, auth: str) -> Permit:
    config = loaded(folder, AUTH + route(f"auth: {{providers: [idp, partners], {auth}}}"))
    known = matrix(config.auth.roles, config.auth.permissions)
    return permit(config.routes[0].auth, known, PROVIDERS, clock=lambda: 1000.0)


REQUIREMENTS = [
    "scopes: ['orders:read']",
    "scopes: {GET: [{any: ['orders:read', audit]}]}",
    "roles: [editor]",
    "roles: {all: [editor, auditor]}",
    "claims: {tenant: acme}",
    "claims: {acr: gold}",
    "max_age: 15m",
]


@pytest.mark.parametrize("required", REQUIREMENTS)
def test_an_anonymous_caller_who_lacks_something_is_asked_who_it_is(tmp_path: Path, required: str) -> None:
    error = refused(configured(tmp_path, f"optional: true, {required}"), ANONYMOUS)
    assert (error.status, error.code, error.detail) == (401, "unauthenticated", "This request needs credentials.")
    assert error.headers == [
        (b"www-authenticate", b'Bearer realm="gateway"'),
        (b"www-authenticate", b'ApiKey realm="gateway"'),
    ]


@pytest.mark.parametrize("required", REQUIREMENTS)
@pytest.mark.parametrize("optional", ["true", "false"])
def test_a_known_caller_who_lacks_something_is_forbidden(tmp_path: Path, required: str, optional: str) -> None:
    partner = Caller(consumer="acme", provider="partners", label="acme", scopes=frozenset({"other"}))
    error = refused(configured(tmp_path, f"optional: {optional}, {required}"), partner)
    assert (error.status, error.code, error.headers) == (403, "forbidden", [])


def test_an_anonymous_caller_may_do_what_needs_nothing(tmp_path: Path) -> None:
    permit = configured(tmp_path, "optional: true, scopes: {POST: ['orders:write']}")
    permit("GET", ANONYMOUS)
    assert refused(permit, ANONYMOUS, "POST").status == 401
    assert refused(permit, having("orders:read"), "POST").status == 403


def test_everything_that_is_required_must_be_there(tmp_path: Path) -> None:
    permit = configured(
        tmp_path, "scopes: ['orders:read', {any: [a, b]}], roles: {all: [x, y]}, claims: {tenant: acme}"
    )

    def caller(*scopes: str, roles: str = "xy", **claims: str) -> Caller:
        return Caller(provider="idp", scopes=frozenset(scopes), roles=frozenset(roles), claims={"exp": 1, **claims})

    permit("GET", caller("orders:write", "b", tenant="acme"))
    assert refused(permit, caller("b", tenant="acme")).detail == "Missing scope: orders:read"
    assert refused(permit, caller("orders:read", tenant="acme")).detail == "Missing scope: one of a b"
    assert refused(permit, caller("orders:read", "a", roles="x", tenant="acme")).detail == "Missing role: y"
    assert refused(permit, caller("orders:read", "a", tenant="other")).detail == "Missing claim: tenant acme"


def test_an_open_route_asks_for_nothing() -> None:
    assert permit(None, matrix({}), PROVIDERS) is anyone
