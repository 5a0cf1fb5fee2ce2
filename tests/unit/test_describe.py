"""Routes in words: the order of precedence agrees with the router, and every stage has its reason."""

import re
import time
from pathlib import Path

from gateway.config import load
from gateway.config.route import Route
from gateway.describe import stages as told
from gateway.describe.as_built import routes_as_built
from gateway.describe.precedence import MOST, places
from gateway.describe.reasons import WHY
from gateway.routing.configured import rule
from gateway.routing.path import normalise
from gateway.routing.router import Router
from tests.configs import UPSTREAM, loaded

ROOT = Path(__file__).parents[2]


def route(name: str, path: str, **match: object) -> Route:
    return Route.model_validate({"name": name, "match": {"path": path, **match}, "upstream": "u"})


def test_every_stage_that_can_be_told_has_its_reason_and_no_other() -> None:
    source = Path(told.__file__).read_text()
    assert set(re.findall(r'yield "(\w+)"|\(\("(transform)", text\)', source)) == {
        (name, "") if name != "transform" else ("", name) for name in WHY
    }


def test_the_example_is_told_as_built() -> None:
    config = load(ROOT / "config" / "routes.yaml", {})
    assert [each["name"] for each in routes_as_built(config)] == [each.name for each in config.routes]


def test_the_query_of_a_health_check_is_not_told(tmp_path: Path) -> None:
    """The configuration that is shown hides it, too."""
    text = UPSTREAM + "routes: [{name: r, match: {path: /r}, upstream: u}]\n"
    config = loaded(tmp_path, text)
    asked = config.upstreams["u"].model_validate(
        {"targets": ["http://127.0.0.1:1"], "health": {"path": "/healthz?key=k-123"}}
    )
    said = str(routes_as_built(config.model_copy(update={"upstreams": {"u": asked}})))
    assert "GET /healthz for" in said
    assert "k-123" not in said


def test_who_comes_first_is_whom_the_router_takes() -> None:
    routes = [
        route("rest", "/**"),
        route("any", "/{x}/b"),
        route("below", "/a/**"),
        route("exact", "/a/b"),
        route("conditions", "/a/b", headers={"X-A": "1"}),
        route("get", "/a/{y}", methods=["GET"]),
        route("post", "/a/{y}", methods=["POST"]),
        route("host", "/**", host="api.example.com"),
        route("hosts", "/a/b", host="*.example.com"),
    ]
    found = places(routes)
    order = sorted(found, key=lambda name: found[name].position)
    requests = [
        (method, host, path, headers)
        for method in ("GET", "POST")
        for host in (b"api.example.com", b"x.example.com", b"other.org")
        for path in (b"/a/b", b"/a/c", b"/z/b", b"/z")
        for headers in ([], [(b"x-a", b"1")])
    ]
    for method, host, path, headers in requests:
        alone = [each.name for each in routes if _takes([each], method, host, path, headers)]
        best = _takes(routes, method, host, path, headers)
        assert best == min(alone, key=order.index), (method, host, path, headers)
        for name in alone:
            assert name == best or best in found[name].behind, (name, best)
    assert "get" not in found["post"].behind
    assert found["host"].behind == (), "the host decides before the path"


def _takes(routes: list[Route], method: str, host: bytes, path: bytes, headers: list[tuple[bytes, bytes]]) -> str:
    router = Router([rule(each, each) for each in routes])
    entry = router.best(method, host, normalise(path, host), headers)
    return "" if entry is None else entry.rule.name


def test_who_stands_behind_many_names_only_some() -> None:
    routes = [route(f"r{number}", f"/r{number}") for number in range(50)]
    assert len(places([*routes, route("rest", "/**")])["rest"].behind) == MOST


def test_thousands_of_routes_are_told_in_a_moment(tmp_path: Path) -> None:
    """Two seconds are ten times what it takes on a slow machine; comparing each with each would take minutes."""
    lines = [f"  - {{name: r{n}, match: {{path: '/api/s{n}/{{id}}'}}, upstream: u}}\n" for n in range(3000)]
    config = loaded(tmp_path, UPSTREAM + "routes:\n" + "".join(lines))
    began = time.perf_counter()
    assert len(routes_as_built(config)) == 3000
    assert time.perf_counter() - began < 6
