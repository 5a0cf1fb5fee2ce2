"""`transform`, `redirect` and `respond`: what can be said, and what cannot be, with its place."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from gateway.config.complaints import Substituted
from gateway.config.providers import JwtProvider
from gateway.config.route_auth import RouteAuth
from gateway.config.transform import Cookies, HeaderEdit, QueryEdit, Redirect, Respond, Section, Transform
from gateway.config.transform_checks import circles, clashes, faults
from gateway.config.upstream import Upstream
from gateway.routing.router import Rule

TEMPLATES = "{request.id} {consumer} {param.id} {claim.a.b} {version} {route} {client.ip} {host} {path} {method}"


def wrong(model: type[Section], **settings: object) -> str:
    """The first thing that is wrong, with its place."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(settings)
    error = caught.value.errors()[0]
    place = ".".join(str(part) for part in error["loc"] if part != "[key]")
    return f"{place}: {error['msg'].removeprefix('Value error, ')}"


def test_a_transformation_can_say_all_of_it() -> None:
    full = Transform.model_validate(
        {
            "strip_prefix": "/api/",
            "add_prefix": "/t/{claim.tenant}/",
            "rewrite": {"from": "^/orders/(?P<id>[0-9]+)$", "to": "/o/{id}"},
            "query": {"set": {"a": TEMPLATES}, "add": {"b": "1"}, "remove": "debug"},
            "request_headers": {"set": {"X-All": TEMPLATES}, "add": {}, "remove": ["X-Debug", "Cookie"]},
            "response_headers": {"set": {}, "add": {"X-A": "{{}}"}, "remove": "Server"},
            "location": True,
            "cookies": {"domain": ".Example.com", "path": True},
        }
    )
    assert (full.strip_prefix, full.add_prefix) == ("/api", "/t/{claim.tenant}")
    assert full.query == QueryEdit(set={"a": TEMPLATES}, add={"b": "1"}, remove=("debug",))
    assert full.request_headers == HeaderEdit(set={"X-All": TEMPLATES}, remove=("X-Debug", "Cookie"))
    assert full.cookies == Cookies(domain="example.com", path=True)
    assert Transform() == Transform.model_validate({})


@pytest.mark.parametrize(
    "name", ["Host", "Content-Length", "transfer-encoding", "Connection", "TE", "Upgrade", "Expect"]
)
@pytest.mark.parametrize("kind", ["set", "add", "remove"])
@pytest.mark.parametrize("way", ["request_headers", "response_headers"])
def test_what_belongs_to_the_connection_is_nobodys_to_change(name: str, kind: str, way: str) -> None:
    said = wrong(Transform, **{way: {kind: [name] if kind == "remove" else {name: "x"}}})
    assert f"'{name}' belongs to the connection and cannot be set" in said


@pytest.mark.parametrize(
    "name", ["X-Request-Id", "Via", "Forwarded", "X-Forwarded-For", "X-API-Version", "Max-Forwards"]
)
def test_what_the_gateway_writes_itself_is_nobodys_to_change(name: str) -> None:
    assert "is written by the gateway itself" in wrong(Transform, request_headers={"set": {name: "x"}})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"strip_prefix": "api"}, "strip_prefix: 'api' must begin with /"),
        ({"strip_prefix": "/"}, "strip_prefix: is nothing"),
        ({"strip_prefix": "/{id}"}, "strip_prefix: is compared as it stands"),
        ({"strip_prefix": "/a/**"}, "strip_prefix: is compared as it stands"),
        ({"strip_prefix": "/a//b"}, "strip_prefix: segment '' never reaches a route"),
        ({"strip_prefix": "/a%20b"}, "strip_prefix: segment 'a%20b' is percent-encoded"),
        ({"add_prefix": "v1"}, "add_prefix: 'v1' must begin with /"),
        ({"add_prefix": "/"}, "add_prefix: '/' must begin with / and have a segment"),
        ({"add_prefix": "/a//b"}, "add_prefix: does not make a path"),
        ({"add_prefix": "/a/../b"}, "add_prefix: does not make a path"),
        ({"add_prefix": "/a\\b"}, "add_prefix: does not make a path"),
        ({"add_prefix": "/a?b"}, "add_prefix: has a ?, which begins the query"),
        ({"add_prefix": "/a#b"}, "add_prefix: has a #"),
        ({"add_prefix": "/a%2F"}, "add_prefix: is percent-encoded"),
        ({"add_prefix": "/{nme}"}, "add_prefix: {nme} is no field"),
        ({"rewrite": {"from": "(", "to": "/a"}}, "rewrite.from: is not an expression of RE2"),
        ({"rewrite": {"from": "^/a(?=b)", "to": "/a"}}, "rewrite.from: is not an expression of RE2"),
        ({"rewrite": {"from": "^/a$", "to": "b"}}, "rewrite.to: 'b' must begin with /"),
        ({"rewrite": {"from": "^/a$", "to": "//b"}}, "rewrite.to: does not make a path"),
        ({"rewrite": {"from": "^/a$", "to": "/../b"}}, "rewrite.to: does not make a path"),
        ({"rewrite": {"from": "^/a$", "to": "/b?c=d"}}, "rewrite.to: has a ?, which begins the query"),
        ({"rewrite": {"from": "^/a$", "to": r"/\1"}}, "rewrite.to: {1} is no field"),
        ({"rewrite": {"from": "^/a$", "to": r"/\x"}}, "rewrite.to: has a \\"),
        ({"query": {"set": {"a": "{b}"}}}, "query.set.a: {b} is no field"),
        ({"query": {"set": {"a": "1"}, "remove": ["b", "a"]}}, "query.remove.1: is set as well"),
        ({"request_headers": {"set": {"X-A": "{nme}"}}}, "request_headers.set.X-A: {nme} is no field"),
        ({"request_headers": {"set": {"X-A": "a\r\nb"}}}, "request_headers.set.X-A: is not a header value"),
        ({"request_headers": {"set": {"X A": "1"}}}, "request_headers.set.X A: 'X A' is not a header name"),
        ({"request_headers": {"set": {"X-A": "1", "x-a": "2"}}}, "request_headers.set: x-a is here twice"),
        ({"request_headers": {"set": {"X-A": "1"}, "remove": ["x-a"]}}, "request_headers.remove.0: is set as well"),
        ({"cookies": {"domain": "a b"}}, "cookies.domain: 'a b' is not a host name"),
        ({"location": "yes"}, "location: must be true or false"),
    ],
)
def test_transformations_that_cannot_be(settings: dict[str, object], expected: str) -> None:
    assert wrong(Transform, **settings).startswith(expected)


def test_without_re2_a_rewrite_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    assert wrong(Transform, rewrite={"from": "a", "to": "b"}).startswith("rewrite.from: needs google-re2")


def test_what_came_from_the_environment_is_not_quoted() -> None:
    secret = Substituted("/{hunter2}(")
    for settings in (
        {"add_prefix": secret},
        {"rewrite": {"from": secret, "to": "/"}},
        {"query": {"set": {"a": secret}}},
    ):
        assert "hunter2" not in wrong(Transform, **settings)
    assert "hunter2" not in wrong(Redirect, to=Substituted("hunter2"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"to": "docs.example.com"}, "to: 'docs.example.com' is neither an http URL nor a path"),
        ({"to": "//docs.example.com"}, "to: '//docs.example.com' is neither"),
        ({"to": "ftp://docs.example.com"}, "to: 'ftp://docs.example.com' is neither"),
        ({"to": "javascript:alert(1)"}, "to: 'javascript:alert(1)' is neither"),
        ({"to": "{consumer}"}, "to: '{consumer}' is neither"),
        ({"to": "https://{param.host}/"}, "to: has a field in its host"),
        ({"to": "https://a{consumer}.example.com/"}, "to: has a field in its host"),
        ({"to": "https://a b/"}, "to: 'a b' is not a host name"),
        ({"to": "https://a:99999/"}, "to: '99999' is not a port"),
        ({"to": "/a b"}, "to: has a character that no URL has"),
        ({"to": "/a\r\nb"}, "to: has a character that no URL has"),
        ({"to": "/{nme}"}, "to: {nme} is no field"),
        ({"to": "/a", "status": 304}, "status: 304 is none of 301, 302, 303, 307, 308"),
        ({}, "to: Field required"),
    ],
)
def test_redirects_that_cannot_be(settings: dict[str, object], expected: str) -> None:
    assert wrong(Redirect, **settings).startswith(expected)


@pytest.mark.parametrize("to", ["https://{host}:8443/x", "https://{host}{path}", "{path}/x", "/a?b={consumer}#c", "/"])
def test_redirects_that_can_be(to: str) -> None:
    assert Redirect(to=to).model_dump() == {"to": to, "status": 307, "keep_query": False}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"text": "a", "json": 1}, "text: there is json already"),
        ({"status": 204, "text": "a"}, "status: a reply with status 204 has no body"),
        ({"text": "{reason}"}, "text: {reason} is no field"),
        ({"json": {"a": ["{reason}"]}}, "json: {reason} is no field"),
        ({"headers": {"Content-Length": "5"}}, "headers.Content-Length: 'Content-Length' belongs to the connection"),
        ({"headers": {"X-A": "{reason}"}}, "headers.X-A: {reason} is no field"),
        ({"file": "no-such-file"}, "file: cannot read 'no-such-file'"),
    ],
)
def test_answers_that_cannot_be(settings: dict[str, object], expected: str) -> None:
    assert wrong(Respond, **settings).startswith(expected)


def test_an_answer_without_a_body_is_empty_text() -> None:
    assert (Respond().text, Respond(status=404).status) == ("", 404)
    assert Respond.model_validate({"json": None}).text is None


# -- what the route knows


def complaints(path: str, **given: object) -> list[str]:
    models = {"transform": Transform, "redirect": Redirect, "respond": Respond}
    sections = {key: model.model_validate(given[key]) if key in given else None for key, model in models.items()}
    return [f"{'.'.join(map(str, place))}: {said}" for place, said in faults(path, **sections)]  # type: ignore[arg-type]


def test_a_parameter_that_the_path_does_not_have_is_found_wherever_it_stands() -> None:
    bad, said = "{param.nme}", "has a parameter that match.path does not have: there is {param.id}"
    assert complaints("/{id}", transform={"request_headers": {"set": {"X-A": "{param.id}"}}}) == []
    transform = {
        "add_prefix": f"/{bad}",
        "rewrite": {"from": "a", "to": bad},
        "query": {"add": {"a": bad}},
        "response_headers": {"set": {"X-A": bad}},
    }
    assert complaints("/{id}", transform=transform) == [
        f"transform.{place}: {said}"
        for place in ("rewrite.to", "add_prefix", "query.add.a", "response_headers.set.X-A")
    ]
    assert complaints("/{id}", redirect={"to": f"/{bad}"}) == [f"redirect.to: {said}"]
    assert complaints("/{id}", respond={"json": {"a": [1, bad]}}) == [f"respond.json.a.1: {said}"]
    assert complaints("/id", respond={"text": bad})[0].endswith("there is none")


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/api/**", True),
        ("/api", True),
        ("/**", True),
        ("/*/x", True),
        ("/{a}/x", True),
        ("/apis/**", False),
        ("/", False),
        ("/x/api", False),
    ],
)
def test_a_prefix_that_no_path_of_the_route_has_is_a_mistake(path: str, there: bool) -> None:
    found = complaints(path, transform={"strip_prefix": "/api"})
    assert found == (
        [] if there else ["transform.strip_prefix: has no effect: no path that this route matches begins with it"]
    )


def test_beside_an_answer_of_the_gateways_own_only_replies_are_changed() -> None:
    transform = {"location": True, "response_headers": {"set": {"X-A": "1"}}}
    assert complaints("/", transform=transform, respond={"text": "a"}) == [
        "transform.location: has no effect beside respond: nothing is forwarded"
    ]


# -- what all of it together shows


def test_a_header_that_the_gateway_tells_already_is_not_set_twice() -> None:
    provider = {
        "type": "jwt",
        "secret": "s" * 32,
        "algorithms": ["HS256"],
        "forward": {"X-User-Id": "sub"},
        "credential": "sign",
    }
    upstream = {"targets": ["http://127.0.0.1:9"], "timeouts": {"header": "X-Timeout"}}
    edit = {"set": {"x_user_id": "{consumer}", "X-Other": "1"}, "add": {"Authorization": "a", "X-TIMEOUT": "1"}}
    route = SimpleNamespace(
        auth=RouteAuth.model_validate({"providers": ["idp"]}),
        transform=Transform.model_validate({"request_headers": edit}),
        upstreams=("up",),
        versions=None,
    )
    plain = SimpleNamespace(auth=None, transform=route.transform, upstreams=(), versions=None)
    found = clashes(
        [plain, route], {"idp": JwtProvider.model_validate(provider)}, {"up": Upstream.model_validate(upstream)}
    )
    assert [(place[1], *place[4:], said) for place, said in found] == [
        (1, "set", "x_user_id", "is set by the provider idp already"),
        (1, "add", "Authorization", "is set by the provider idp already"),
        (1, "add", "X-TIMEOUT", "is set by timeouts of the upstream up already"),
    ]


def rule(
    path: str, to: str | None, host: str | None = None, methods: str = "", **redirect: object
) -> Rule[Redirect | None]:
    target = Redirect.model_validate({"to": to, **redirect}) if to is not None else None
    return Rule(path, frozenset(methods.split()) or None, host, (), (), target, path)


@pytest.mark.parametrize(
    ("rules", "circling"),
    [
        ([rule("/a", "/a")], [0]),
        ([rule("/a", "/a/?x=1#y")], [0]),
        ([rule("/a", "/%61")], [0]),
        ([rule("/a", "/b"), rule("/b", "/a"), rule("/c", "/a")], [0, 1, 2]),
        ([rule("/a", "/b"), rule("/b", None)], []),
        ([rule("/a", "/b")], []),
        ([rule("/**", "/new{path}")], [0]),
        ([rule("/**", "/new{path}"), rule("/new/**", None)], []),
        ([rule("/**", "/a"), rule("/a", None)], []),
        ([rule("/old/{id}", "/old/{param.id}")], [0]),
        ([rule("/old/{id}", "/new/{param.id}")], []),
        ([rule("/a", "https://docs.example.com/a")], []),
        ([rule("/a", "https://{host}/a")], [0]),
        ([rule("/a", "https://api.example.com/a", "api.example.com")], [0]),
        ([rule("/a", "https://www.example.com/a", "example.com"), rule("/a", None, "www.example.com")], []),
        ([rule("/a", "https://b.example/a", "a.example"), rule("/a", "https://a.example/a", "b.example")], [0, 1]),
        ([rule("/a", "/a", methods="POST", status=303)], []),
        ([rule("/a", "/a", methods="POST", status=307)], [0]),
        ([rule("/a", "/{param.x}")], []),
        ([rule("/größe", "/größe")], [0]),
    ],
)
def test_redirects_that_never_end_are_found(rules: list[Rule[Redirect | None]], circling: list[int]) -> None:
    assert [place for place, _ in circles(rules)] == [("routes", index, "redirect", "to") for index in circling]


def test_a_file_is_found_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    assert Respond.model_validate({"file": "a.txt"}, context={"folder": tmp_path}).file == tmp_path / "a.txt"
