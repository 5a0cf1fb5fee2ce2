"""What a route requires of its callers, as the file says it: read, refused, printed, compared, and told to editors."""

from pathlib import Path
from typing import Any

import pytest

from gateway.cli.check import as_yaml
from gateway.config import json_schema
from gateway.config.changes import changes
from gateway.config.effective import comparable, effective, marked
from gateway.config.route_auth import AllOf, AnyOf, RouteAuth
from tests.configs import SECRET, complaint, complaints, loaded, route

PROVIDERS = f"""\
auth:
  providers:
    idp: {{type: jwt, secret: {SECRET}, algorithms: [HS256]}}
    keys: {{type: api_key, header: X-API-Key}}
    legacy: {{type: basic}}
"""


def config(auth: str, providers: str = "idp") -> str:
    """A route with this `auth`, which begins at line 11, column 11; what follows `providers: [idp], ` at column 30."""
    return PROVIDERS + route(f"auth: {{providers: [{providers}], {auth}}}")


def auth(folder: Path, written: str, environ: dict[str, str] | None = None) -> RouteAuth:
    found = loaded(folder, config(written), environ).routes[0].auth
    assert found is not None
    return found


def test_an_entry_of_the_scopes_may_be_a_choice(tmp_path: Path) -> None:
    choice = AnyOf(any=("b", "c"))
    assert auth(tmp_path, "scopes: [a, {any: [b, c]}]").scopes == {"*": ("a", choice)}
    assert auth(tmp_path, "scopes: {GET: [{any: [b, c]}], '*': [a]}").scopes == {"GET": (choice,), "*": ("a",)}


def test_roles_are_any_of_a_list_or_all_of_one(tmp_path: Path) -> None:
    assert auth(tmp_path, "scopes: [a]").roles is None
    assert auth(tmp_path, "roles: [x, y]").roles == ("x", "y")
    assert auth(tmp_path, "roles: {all: [x, y]}").roles == AllOf(all=("x", "y"))


def test_claims_have_one_value_or_several_of_their_own_type(tmp_path: Path) -> None:
    written = "claims: {amr: mfa, acr: [gold, silver], user.level: [3, 2.5, '3'], verified: true, 'https://a.b/c': ''}"
    found = auth(tmp_path, written).claims
    assert found == {
        "amr": ("mfa",),
        "acr": ("gold", "silver"),
        "user.level": (3, 2.5, "3"),
        "verified": (True,),
        "https://a.b/c": ("",),
    }
    assert [type(value) for value in found["user.level"]] == [int, float, str]
    assert found["verified"][0] is True


def test_what_comes_from_the_environment_is_text(tmp_path: Path) -> None:
    assert auth(tmp_path, "claims: {tenant: '${T}', level: ['${L}']}", {"T": "acme", "L": "3"}).claims == {
        "tenant": ("acme",),
        "level": ("3",),
    }


def test_an_authentication_may_have_to_be_recent(tmp_path: Path) -> None:
    assert auth(tmp_path, "scopes: [a]").max_age is None
    assert auth(tmp_path, "max_age: 1.5m").max_age == 90.0


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("scopes: [{any: []}]", "11:45: routes[0].auth.scopes[0].any: must have at least one entry"),
        ("scopes: [{any: a}]", "11:45: routes[0].auth.scopes[0].any: must be a list, not 'a'"),
        ("scopes: [{any: [a b]}]", "11:46: routes[0].auth.scopes[0].any[0]: 'a b' is not a scope"),
        ("scopes: [{}]", "11:39: routes[0].auth.scopes[0].any: is required"),
        ("scopes: [a, {anny: [b]}]", "11:42: routes[0].auth.scopes[1].any: is required"),
        ("scopes: [{any: [a], all: [b]}]", "11:50: routes[0].auth.scopes[0].all: unknown key"),
        ("scopes: {any: [a]}", "11:39: routes[0].auth.scopes.any: 'any' is not a method in capitals"),
        ("scopes: {GET: {any: [a]}}", "11:44: routes[0].auth.scopes.GET: must be a list, not a mapping"),
        ("scopes: [[a]]", "11:39: routes[0].auth.scopes[0]: must be text, not a list"),
        ("scopes: [5]", "11:39: routes[0].auth.scopes[0]: must be text, not 5"),
        ("roles: x", "11:37: routes[0].auth.roles: must be a list, not 'x'"),
        ("roles: []", "11:37: routes[0].auth.roles: must have at least one entry"),
        ("roles: [x y]", "11:38: routes[0].auth.roles[0]: 'x y' is not a scope"),
        ("roles: {all: []}", "11:43: routes[0].auth.roles.all: must have at least one entry"),
        ("roles: {any: [x]}", "11:37: routes[0].auth.roles.all: is required"),
        ("roles: [{all: [x]}]", "11:38: routes[0].auth.roles[0]: must be text, not a mapping"),
        ("claims: [amr]", "11:38: routes[0].auth.claims: must be a mapping, not a list"),
        ("claims: {amr: []}", "11:44: routes[0].auth.claims.amr: must have at least one entry"),
        ("claims: {amr: {a: b}}", "11:44: routes[0].auth.claims.amr: must be text, a number, true or false, not a map"),
        (
            "claims: {amr: [a, [b]]}",
            "11:48: routes[0].auth.claims.amr[1]: must be text, a number, true or false, not a",
        ),
        ("claims: {a..b: c}", "11:39: routes[0].auth.claims.'a..b': 'a..b' is not the name of a claim"),
        ("claims: {acr: 3}", "11:44: routes[0].auth.claims.acr: must be text without spaces, quotes or backslashes"),
        ("claims: {acr: [gold, a b]}", "11:51: routes[0].auth.claims.acr[1]: must be text without spaces, quotes"),
        ("claims: {acr: 'a\"b'}", "11:44: routes[0].auth.claims.acr: must be text without spaces, quotes"),
        ("claims: {acr: 'gö'}", "11:44: routes[0].auth.claims.acr: must be text without spaces, quotes"),
        ("max_age: 900", "11:39: routes[0].auth.max_age: 900 is not a duration"),
        ("max_age: 0s", "11:39: routes[0].auth.max_age: must be longer than nothing"),
        ("max_age: 1500ms", "11:39: routes[0].auth.max_age: must be whole seconds"),
    ],
)
def test_requirements_that_cannot_be(tmp_path: Path, written: str, expected: str) -> None:
    said = complaints(tmp_path, config(written))
    assert said[0].startswith(expected)
    assert len(said) == (2 if "anny" in written or "any: [x]" in written else 1)


def test_a_misspelt_choice_is_recognised(tmp_path: Path) -> None:
    assert complaints(tmp_path, config("scopes: [{anyy: [b]}]"))[1] == (
        "11:40: routes[0].auth.scopes[0].anyy: unknown key (did you mean 'any'?)"
    )


ROLES = "  roles: {viewer: [], editor: []}\n"


def test_roles_that_are_all_required_must_exist_too(tmp_path: Path) -> None:
    text = config("roles: {all: [viewer, editr]}").replace("  providers:\n", f"{ROLES}  providers:\n", 1)
    assert complaint(tmp_path, text) == (
        "12:52: routes[0].auth.roles.all[1]: there is no role 'editr' (did you mean 'editor'?)"
    )


@pytest.mark.parametrize(
    ("providers", "required", "expected"),
    [
        ("keys", "claims: {a: b}", ["11:39: routes[0].auth.claims: none of these providers tells claims"]),
        ("keys, legacy", "max_age: 1m", ["11:48: routes[0].auth.max_age: none of these providers tells claims"]),
        ("keys, idp", "claims: {a: b}, max_age: 1m", []),
        ("idp", "claims: {a: b}", []),
        ("keys", "scopes: [a]", []),
        ("unknown", "claims: {a: b}", ["11:24: routes[0].auth.providers[0]: there is no provider 'unknown'"]),
    ],
)
def test_claims_need_a_provider_that_tells_them(
    tmp_path: Path, providers: str, required: str, expected: list[str]
) -> None:
    assert complaints(tmp_path, config(required, providers)) == expected


def test_a_claim_that_is_required_of_a_provider_that_tells_none_is_told_with_other_mistakes(tmp_path: Path) -> None:
    assert len(complaints(tmp_path, config("claims: {a: b}, scopes: [a b]", "keys"))) == 2


@pytest.mark.parametrize(
    ("permissions", "expected"),
    [
        ("'a': ['b', 'x:*', '*:y']", ""),
        ("a: [b], b: [c], c: ['d:*']", ""),
        ("a: ['*'], b: ['*']", ""),
        ("a: [a]", "2:21: auth.permissions.a[0]: 'a' includes 'a': permissions go round in a circle"),
        ("a: [x, b], b: [a]", "2:24: auth.permissions.a[1]: 'b' includes 'a'"),
        ("a: ['role:x']", "2:21: auth.permissions.a[0]: a scope includes scopes only"),
        ("'a:*': [x]", "2:24: auth.permissions.a:*: must be a scope"),
        ("a: ['x*']", "2:21: auth.permissions.a[0]: '*' stands for a whole part between colons"),
        ("a: [x y]", "2:21: auth.permissions.a[0]: 'x y' is not a scope"),
        ("a b: [x]", "2:17: auth.permissions.'a b': 'a b' is not a scope"),
        ("a: x", "2:20: auth.permissions.a: must be a list, not 'x'"),
    ],
)
def test_scopes_include_others_but_not_in_a_circle(tmp_path: Path, permissions: str, expected: str) -> None:
    said = complaints(tmp_path, f"auth:\n  permissions: {{{permissions}}}\nroutes: []\n")
    assert [each[: len(expected)] for each in said][:1] == ([expected] if expected else [])


# -- printed, compared, told to editors ----------------------------------------------------------------

WRITTEN = (
    "scopes: {GET: [a, {any: [b, 'c:d']}], '*': [e]}, roles: {all: [x, y]}, "
    "claims: {acr: [gold, silver], level: [3, 2.5, true, '3', 'true'], a.b: c}, max_age: 15m"
)


def test_what_is_printed_is_what_was_meant(tmp_path: Path) -> None:
    text = config(WRITTEN)
    config_ = loaded(tmp_path, text)
    shown = effective(config_, marked(text.encode()), tmp_path)
    assert shown["routes"][0]["auth"] == {
        "providers": ["idp"],
        "optional": False,
        "scopes": {"GET": ["a", {"any": ["b", "c:d"]}], "*": ["e"]},
        "roles": {"all": ["x", "y"]},
        "claims": {"acr": ["gold", "silver"], "level": [3, 2.5, True, "3", "true"], "a.b": ["c"]},
        "max_age": "15m",
    }
    again = as_yaml(effective(config_, {}, tmp_path)).replace("secret: '***'", f"secret: {SECRET}")
    found = loaded(tmp_path, again.replace("***", SECRET)).routes[0].auth
    assert found == config_.routes[0].auth
    assert found is not None
    assert [type(value) for value in found.claims["level"]] == [int, float, bool, str, str]


def test_a_route_that_requires_little_is_printed_shortly(tmp_path: Path) -> None:
    shown = effective(loaded(tmp_path, config("roles: [x]")), {}, tmp_path)["routes"][0]["auth"]
    assert shown == {"providers": ["idp"], "optional": False, "scopes": {}, "roles": ["x"], "claims": {}}


def test_changes_are_told_one_by_one(tmp_path: Path) -> None:
    def data(written: str) -> dict[str, Any]:
        return comparable(loaded(tmp_path, config(written)), {}, tmp_path)

    new = "scopes: {GET: [a, {any: [b, f]}], '*': [e]}, roles: [x], claims: {acr: [gold], level: 3}, max_age: 900s"
    found = [(each.kind, each.path, each.old, each.new) for each in changes(data(WRITTEN), data(new))]
    at = "routes[r].auth."
    assert found == [
        ("removed", at + "scopes.GET", {"any": ["b", "c:d"]}, None),
        ("added", at + "scopes.GET", None, {"any": ["b", "f"]}),
        ("changed", at + "roles", {"all": ["x", "y"]}, ["x"]),
        ("removed", at + "claims.acr", "silver", None),
        ("removed", at + "claims.level", 2.5, None),
        ("removed", at + "claims.level", True, None),
        ("removed", at + "claims.level", "3", None),
        ("removed", at + "claims.level", "true", None),
        ("removed", at + "claims.'a.b'", ["c"], None),
    ]


def test_editors_know_every_form() -> None:
    properties = json_schema()["$defs"]["RouteAuth"]["properties"]
    choice, both = {"$ref": "#/$defs/AnyOf"}, {"$ref": "#/$defs/AllOf"}
    alone, by_method = properties["scopes"]["anyOf"]
    assert by_method["additionalProperties"] == alone
    assert (alone["type"], alone["minItems"], choice in ways(alone["items"])) == ("array", 1, True)
    assert "string" in types(alone["items"])
    assert both in ways(properties["roles"])
    assert "array" in types(properties["roles"])
    (claim,) = properties["claims"]["patternProperties"].values()
    assert types(claim) == {"string", "number", "boolean", "array"}
    (several,) = [way for way in ways(claim) if way["type"] == "array"]
    assert (several["minItems"], types(several["items"])) == (1, {"string", "number", "boolean"})
    assert types(properties["max_age"]) == {"string"}


def ways(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Every way in which a value may be written, however deep it is nested."""
    inner = schema.get("anyOf") or schema.get("oneOf")
    return [way for part in inner for way in ways(part)] if inner else [schema]


def types(schema: dict[str, Any]) -> set[str]:
    return {way["type"] for way in ways(schema) if "type" in way}
