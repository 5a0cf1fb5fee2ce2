"""Claims that a route requires: which values count, and when a client is asked to have its user authenticate again."""

import re
from typing import Any

import pytest

from gateway.auth.claim_rules import AHEAD, by_claims
from gateway.auth.permissions import Permit
from gateway.errors import Refused
from gateway.exchange import Caller, header
from tests.tokens import NOW


def rules(max_age: float | None = None, **rules: Any) -> Permit:
    listed = {name: value if isinstance(value, list) else [value] for name, value in rules.items()}
    return by_claims(listed, max_age, clock=lambda: NOW)


def caller(**claims: Any) -> Caller:
    return Caller(consumer="alice", provider="idp", label="idp", claims={"sub": "alice", "exp": NOW + 60, **claims})


def permitted(permit: Permit, **claims: Any) -> bool:
    try:
        permit("GET", caller(**claims))
    except Refused:
        return False
    return True


def refusal(permit: Permit, **claims: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        permit("GET", caller(**claims))
    return caught.value


def challenge(error: Refused) -> str:
    (value,) = [value for name, value in error.headers if name == b"www-authenticate"]
    return value.decode()


@pytest.mark.parametrize(
    ("wanted", "said", "good"),
    [
        ("acme", "acme", True),
        ("acme", "Acme", False),
        ("acme", "acme ", False),
        ("acme", "acme beta", False),
        ("acme", "", False),
        ("acme", None, False),
        ("acme", ["beta", "acme"], True),
        ("acme", ["acmes"], False),
        ("acme", [["acme"]], False),
        ("acme", [], False),
        ("acme", {"acme": True}, False),
        ("acme", [{"acme": 1}, "acme"], True),
        (["acme", "beta"], "beta", True),
        (["acme", "beta"], ["gamma", "beta"], True),
        (["acme", "beta"], ["gamma"], False),
        (3, 3, True),
        (3, 3.0, True),
        (3, "3", False),
        ("3", 3, False),
        (1, True, False),
        (0, False, False),
        (True, 1, False),
        (True, 1.0, False),
        (True, "true", False),
        (True, True, True),
        (False, False, True),
        (False, 0, False),
        (False, None, False),
        (True, [False, True], True),
        ([1, True], True, True),
        (2.5, 2.5, True),
        (10**30, 10**30, True),
    ],
)
def test_a_claim_is_or_holds_one_of_the_values_of_the_same_type(wanted: Any, said: Any, good: bool) -> None:
    assert permitted(rules(tenant=wanted), tenant=said) == good


def test_a_claim_that_is_not_there_holds_nothing() -> None:
    assert not permitted(rules(tenant="acme"))
    assert not permitted(rules(tenant="acme"), tenants="acme", Tenant="acme")


def test_a_claim_is_found_by_its_path() -> None:
    permit = by_claims({"user.tenant.id": ["acme"], "https://example.com/plan": ["gold"]}, clock=lambda: NOW)
    plan = {"https://example.com/plan": "gold"}
    permit("GET", caller(user={"tenant": {"id": "acme"}}, **plan))
    permit("GET", caller(**{"user.tenant.id": "acme"}, **plan))
    assert not permitted(permit, user={"tenant": {"id": "beta"}}, **plan)
    assert not permitted(permit, user={"tenant": "acme"}, **plan)
    assert not permitted(permit, user=["tenant"], **plan)


def test_every_rule_must_hold() -> None:
    permit = rules(tenant="acme", plan=["gold", "silver"])
    assert permitted(permit, tenant="acme", plan="gold")
    assert not permitted(permit, tenant="acme", plan="bronze")
    assert not permitted(permit, plan="gold")


def test_a_missing_claim_is_403_and_says_what_is_missing_not_what_is_there() -> None:
    error = refusal(rules(tenant=["acme", "beta"], level=[3, True]), tenant="secret-customer", level=7)
    assert (error.status, error.code) == (403, "forbidden")
    assert error.detail == "Missing claims: tenant acme or beta, level 3 or true"
    assert challenge(error) == 'Bearer realm="gateway", error="insufficient_scope"'
    assert refusal(rules(tenant="acme", level=3), level=3).detail == "Missing claim: tenant acme"


def test_a_missing_level_is_the_challenge_of_rfc_9470() -> None:
    error = refusal(rules(acr=["gold", "silver"]), acr="bronze")
    assert (error.status, error.code, error.detail) == (401, "unauthenticated", "Missing claim: acr gold or silver")
    assert challenge(error) == (
        'Bearer realm="gateway", error="insufficient_user_authentication", '
        'error_description="The user has to authenticate in another way", acr_values="gold silver"'
    )


def test_levels_are_named_in_the_order_of_preference() -> None:
    assert 'acr_values="z a m"' in challenge(refusal(rules(acr=["z", "a", "m"])))


def test_a_missing_method_is_a_challenge_without_levels() -> None:
    error = refusal(rules(amr="mfa", acr="gold"), amr=["pwd"], acr="gold")
    assert (error.status, error.detail) == (401, "Missing claim: amr mfa")
    assert challenge(error) == (
        'Bearer realm="gateway", error="insufficient_user_authentication", '
        'error_description="The user has to authenticate in another way"'
    )


@pytest.mark.parametrize(
    ("authenticated", "good"),
    [
        (NOW, True),
        (NOW - 900, True),
        (int(NOW) - 899, True),
        (NOW - 900.5, False),
        (NOW - 901, False),
        (0, False),
        (-1, False),
        (NOW + AHEAD, True),
        (NOW + AHEAD + 1, False),
        (NOW * 1000, False),
        (10**400, False),
        (-(10**400), False),
        (float("nan"), False),
        (float("inf"), False),
        (str(int(NOW)), False),
        (True, False),
        (None, False),
        ([NOW], False),
        ({"auth_time": NOW}, False),
    ],
)
def test_an_authentication_counts_as_long_as_it_is_recent(authenticated: Any, good: bool) -> None:
    permit = rules(900.0)
    assert permitted(permit, auth_time=authenticated) == good
    if good:
        return
    error = refusal(permit, auth_time=authenticated)
    assert (error.status, error.code, error.detail) == (
        401, "unauthenticated", "Missing claim: auth_time of the last 900 s",
    )  # fmt: skip
    assert challenge(error) == (
        'Bearer realm="gateway", error="insufficient_user_authentication", '
        'error_description="The user has to authenticate again", max_age="900"'
    )


def test_the_time_is_that_of_each_request() -> None:
    now = [NOW]
    permit = by_claims({}, 10.0, clock=lambda: now[0])
    permit("GET", caller(auth_time=NOW))
    now[0] += 11
    with pytest.raises(Refused):
        permit("GET", caller(auth_time=NOW))


def test_a_token_that_does_not_tell_when_is_refused() -> None:
    assert refusal(rules(900.0)).status == 401
    assert refusal(rules(900.0), user={"auth_time": NOW}).status == 401


def test_a_client_is_told_at_once_how_recent_and_how_well() -> None:
    error = refusal(rules(60.0, acr="gold"), auth_time=NOW)
    assert challenge(error).endswith('another way", acr_values="gold", max_age="60"')
    error = refusal(rules(60.0, acr="gold"), acr="gold", auth_time=NOW - 100)
    assert challenge(error).endswith('again", max_age="60"')
    error = refusal(rules(60.0, acr="gold"))
    assert error.detail == "Missing claims: acr gold, auth_time of the last 60 s"
    assert challenge(error).endswith('another way", acr_values="gold", max_age="60"')


def test_nobody_has_to_authenticate_again_only_to_be_refused_for_something_else() -> None:
    error = refusal(rules(60.0, tenant="acme", acr="gold"))
    assert (error.status, error.code) == (403, "forbidden")
    assert error.detail == "Missing claims: tenant acme, acr gold, auth_time of the last 60 s"
    assert "insufficient_user_authentication" not in challenge(error)


@pytest.mark.parametrize("name", ["ACR", "user.acr", "https://example.com/acr", "acr2"])
def test_only_the_registered_names_ask_for_another_authentication(name: str) -> None:
    permit = by_claims({name: ["gold"]}, clock=lambda: NOW)
    assert refusal(permit, acr="gold").status == 403


@pytest.mark.parametrize("required", [{"acr": ["gold"]}, {"amr": ["mfa"]}, {"tenant": ["acme"]}, {}])
def test_who_has_no_claims_cannot_get_any_by_authenticating_again(required: dict[str, list[str]]) -> None:
    permit = by_claims(required, None if required else 900.0, clock=lambda: NOW)
    with pytest.raises(Refused) as caught:
        permit("GET", Caller(consumer="acme", provider="partners", label="acme"))
    assert (caught.value.status, caught.value.code) == (403, "forbidden")
    assert header(caught.value.headers, b"www-authenticate") is None


@pytest.mark.parametrize("level", ["", "a b", 'a"b', "a\\b", "é", "a\r\nX: y", 3, True])
def test_a_level_that_no_header_could_carry_is_an_error_at_once(level: Any) -> None:
    with pytest.raises(ValueError, match="acr"):
        rules(acr=["gold", level])


def test_a_challenge_needs_no_escaping_whatever_is_configured() -> None:
    error = refusal(rules(900.0, amr='a"b\\c\r\nX: y', acr="gold~!#[]"))
    assert re.fullmatch(r'Bearer (\w+="[\x20\x21\x23-\x5B\x5D-\x7E]*"(, |$))+', challenge(error))
