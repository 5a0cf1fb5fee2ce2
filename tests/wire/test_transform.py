"""Requests and replies that are changed on their way, redirects and answers of the gateway's own, byte by byte."""

import json
from pathlib import Path

import pytest

from gateway.http.server import Limits
from tests.configs import UPSTREAM, complaint
from tests.wire.actors import Gateway, Upstream, replying
from tests.wire.conftest import Start
from tests.wire.payloads import CHUNKED, get, post

FALLING_BACK = "fallback: [{json: {path: '{path}'}}]"


def yaml(upstream: Upstream, *routes: str, host: str = "upstream") -> str:
    listed = "".join(f"  - {{name: r{number}, {route}}}\n" for number, route in enumerate(routes))
    return f"""
listen: {{admin: "off"}}
upstreams:
  up: {{targets: ["http://127.0.0.1:{upstream.port}"], retry: off, breaker: off, host: {host}}}
routes:
{listed}"""


def shaped(upstream: Upstream, transform: str, path: str = "/api/**", more: str = "") -> str:
    return yaml(upstream, f'match: {{path: "{path}"}}, upstream: up, transform: {{{transform}}}{more}')


async def test_path_query_and_headers_arrive_changed(start: Start, upstream: Upstream) -> None:
    transform = """
      strip_prefix: /api, rewrite: {from: "^/orders/(?P<n>[0-9]+)$", to: "/o/{n}"}, add_prefix: /v1,
      query: {set: {who: "{client.ip}"}, remove: debug},
      request_headers: {set: {X-Path: "{path}", X-Route: "{route}", X-Id: "{request.id}"}, remove: X-Debug}"""
    client = await (await start(shaped(upstream, transform))).client()
    answer = await client.ask(get(b"X-Debug: 1", b"x_path: evil", target=b"/api/orders/7?debug=1&a=%2f&who=evil"))
    assert answer.status == 200
    assert upstream.requests == [b"GET /v1/o/7?a=%2f&who=127.0.0.1"]
    told = answer.headers["x-request-id"].encode()
    assert b"\r\nx-path: /api/orders/7\r\nx-route: r0\r\nx-id: " + told + b"\r\n" in upstream.received
    assert b"evil" not in upstream.received
    assert b"debug" not in upstream.received


async def test_heads_that_are_remembered_keep_routes_apart(start: Start, upstream: Upstream) -> None:
    """One connection, the same fields again and again, on two routes of which one removes a field."""
    removing = 'match: {path: "/a"}, upstream: up, transform: {request_headers: {remove: X-Debug}}'
    client = await (await start(yaml(upstream, removing, 'match: {path: "/b"}, upstream: up'))).client()
    for _ in range(3):
        for path in (b"/a", b"/b"):
            await client.ask(get(b"X-Debug: 1", target=path))
    heads = bytes(upstream.visits[0].received).split(b"\r\n\r\n")[:-1]
    assert [(head[4:6], b"x-debug" in head) for head in heads] == [(b"/a", False), (b"/b", True)] * 3


async def test_what_a_client_brings_cannot_lead_out_of_a_prefix(start: Start, upstream: Upstream) -> None:
    transform = 'strip_prefix: /api, add_prefix: "/t/{host}"'
    client = await (await start(shaped(upstream, transform))).client()
    answer = await client.ask(get(target=b"/api/x", host=b"Host: .."))
    assert (answer.status, json.loads(answer.body)["code"]) == (400, "bad_request")
    assert (await client.ask(get(target=b"/api/x", host=b"Host: acme"))).status == 200
    assert upstream.requests == [b"GET /t/acme/x"]


async def test_location_and_cookies_lead_back_to_the_public_address(start: Start, upstream: Upstream) -> None:
    own = b"127.0.0.1:%d" % upstream.port
    upstream.script = replying(
        b"HTTP/1.1 201 Created\r\nLocation: http://%b/v1/orders/7?a=b\r\nContent-Location: /v1/orders\r\n"
        b"Set-Cookie: s=1; Domain=%b; Path=/v1/orders; HttpOnly\r\nContent-Length: 2\r\n\r\nok" % (own, own)
    )
    transform = "strip_prefix: /api, add_prefix: /v1, location: true, cookies: {domain: none, path: true}"
    client = await (await start(shaped(upstream, transform))).client()
    for _ in range(2):  # the upstream's head is remembered, what becomes of it is not
        answer = await client.ask(get(target=b"/api/orders"))
        assert answer.headers["location"] == "/api/orders/7?a=b"
        assert answer.headers["content-location"] == "/api/orders"
        assert answer.headers["set-cookie"] == "s=1; Path=/api/orders; HttpOnly"
        assert "date" in answer.headers


async def test_i1_an_upstreams_redirect_is_passed_on_as_it_is_where_nothing_is_asked(
    start: Start, upstream: Upstream
) -> None:
    location = f"http://127.0.0.1:{upstream.port}/x"
    upstream.script = replying(b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location.encode())
    client = await (await start(shaped(upstream, "strip_prefix: /api"))).client()
    assert (await client.ask(get(target=b"/api/y"))).headers["location"] == location


async def test_headers_of_replies_are_changed_on_fallbacks_too(start: Start, upstream: Upstream) -> None:
    transform = 'strip_prefix: /api, response_headers: {set: {X-Path: "{path}"}, remove: [X-Powered-By]}'
    client = await (await start(shaped(upstream, transform, more=f", {FALLING_BACK}"))).client()
    upstream.script = replying(b"HTTP/1.1 200 OK\r\nX-Powered-By: x\r\nX-Path: y\r\nContent-Length: 2\r\n\r\nok")
    answer = await client.ask(get(target=b"/api/a"))
    assert (answer.body, answer.headers["x-path"]) == (b"ok", "/api/a")
    assert "x-powered-by" not in answer.headers
    upstream.visits[0].reset()
    upstream.script = replying(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
    answer = await client.ask(get(target=b"/api/a"))
    assert answer.headers["x-path"] == "/api/a"
    assert json.loads(answer.body) == {"path": "/api/a"}, "what was forwarded is nobody else's business"


@pytest.mark.parametrize("host", ["client", "orders.internal"])
async def test_an_upstream_that_is_told_another_name_means_itself_by_it(
    start: Start, upstream: Upstream, host: str
) -> None:
    name = b"a" if host == "client" else host.encode()
    upstream.script = replying(b"HTTP/1.1 302 Found\r\nLocation: http://%b/x\r\nContent-Length: 0\r\n\r\n" % name)
    route = 'match: {path: "/api/**"}, upstream: up, transform: {strip_prefix: /api, location: true}'
    client = await (await start(yaml(upstream, route, host=host))).client()
    assert (await client.ask(get(target=b"/api/y"))).headers["location"] == "/api/x"


async def test_a_body_in_pieces_goes_through_a_route_that_changes_its_path(start: Start, upstream: Upstream) -> None:
    client = await (await start(shaped(upstream, "strip_prefix: /api"))).client()
    request = post(CHUNKED, body=b"3\r\none\r\n").replace(b"POST /", b"POST /api/x")
    await client.send(request)
    await upstream.hears(b"one")
    await client.send(b"3\r\ntwo\r\n0\r\n\r\n")
    assert (await client.answer()).status == 200
    assert upstream.requests == [b"POST /x"]


# -- answers of the gateway's own


async def answering(start: Start, upstream: Upstream, route: str) -> Gateway:
    return await start(yaml(upstream, f"match: {{path: '/docs/{{page}}'}}, {route}"), Limits(drain_timeout=0.2))


async def test_a_redirect_asks_no_upstream(start: Start, upstream: Upstream) -> None:
    to = "redirect: {to: 'https://docs.example.com/{param.page}', status: 308, keep_query: true}"
    client = await (await answering(start, upstream, to)).client()
    for request in (
        get(target=b"/docs/a%20b?c=d"),
        post(b"Content-Length: 2", body=b"hi").replace(b"/ ", b"/docs/a%20b?c=d "),
    ):
        answer = await client.ask(request)
        assert (answer.status, answer.headers["location"]) == (308, "https://docs.example.com/a%20b?c=d")
        assert answer.headers["content-length"] == "0"
    assert upstream.visits == []


async def test_c10_a_redirect_is_one_line(start: Start, upstream: Upstream) -> None:
    client = await (await answering(start, upstream, "redirect: {to: '/x/{param.page}'}")).client()
    answer = await client.ask(get(target=b"/docs/%E2%80%A8%C2%85"))
    assert (answer.status, answer.headers["location"]) == (307, "/x/%E2%80%A8%C2%85")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_answer_from_the_configuration(start: Start, upstream: Upstream, method: str) -> None:
    said = """respond: {status: 410, headers: {X-Id: "{request.id}"}, json: {page: "{param.page}", none: [null, 1]}}"""
    client = await (await answering(start, upstream, said)).client()
    await client.send(get(target=b"/docs/%22a%22").replace(b"GET", method.encode()))
    answer = await client.answer(head_only=method == "HEAD")
    assert (answer.status, answer.headers["content-type"]) == (410, "application/json")
    assert answer.headers["x-id"] == answer.headers["x-request-id"]
    if method == "GET":
        assert json.loads(answer.body) == {"page": '"a"', "none": [None, 1]}
    assert upstream.visits == []


async def test_a_file_is_an_answer(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "robots.txt").write_text("User-agent: {anybody}")
    client = await (await answering(start, upstream, "respond: {file: robots.txt}")).client()
    answer = await client.ask(get(target=b"/docs/x"))
    assert (answer.body, answer.headers["content-type"]) == (b"User-agent: {anybody}", "text/plain; charset=utf-8")


# -- complaints, with their places


@pytest.mark.parametrize(
    ("route", "at", "expected"),
    [
        ("redirect: {to: /r}", "/r}", "redirect.to: leads back to where it came from, again and again"),
        ("redirect: {to: '/{param.x}'}", "'/{", "redirect.to: has a parameter that match.path does not have"),
        ("respond: {text: '{nme}'}", "'{n", "respond.text: {nme} is no field"),
        ("upstream: u, transform: {strip_prefix: /b}", "/b", "transform.strip_prefix: has no effect"),
        ("upstream: u, transform: {rewrite: {from: (, to: /b}}", "(", "transform.rewrite.from: is not an expression"),
        (
            "upstream: u, transform: {request_headers: {set: {Host: x}}}",
            "Host",
            "transform.request_headers.set.Host: 'Host' belongs to the connection",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, route: str, at: str, expected: str) -> None:
    line = f"- {{name: r, match: {{path: /r}}, {route}}}"
    said = complaint(tmp_path, f"{UPSTREAM}routes:\n{line}\n")
    assert said.startswith(f"4:{line.rindex(at) + 1}: routes[0].{expected}")
