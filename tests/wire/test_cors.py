"""CORS at the whole gateway: what a browser hears, whatever becomes of its request."""

import json

import pytest

from tests.wire.actors import Answer, Gateway, Upstream, replying
from tests.wire.conftest import Start

APP, EVIL = b"https://app.example.com", b"https://evil.example"
LISTS = "access-control-request-method, access-control-request-headers"


def config(upstream: Upstream) -> str:
    return f"""
listen: {{admin: "off"}}
auth:
  providers:
    partners: {{type: api_key, header: X-API-Key}}
upstreams:
  up: {{targets: ["http://127.0.0.1:{upstream.port}"], retry: off, breaker: off}}
  gone: {{targets: ["http://127.0.0.1:1"], retry: off, breaker: off}}
routes:
  - name: orders
    match: {{path: "/orders/{{id}}", methods: [GET, PUT]}}
    auth: {{providers: [partners]}}
    rate_limit: {{by: global, limit: 1/hour}}
    cors: {{origins: ["https://app.example.com"], credentials: true, expose: [RateLimit], max_age: 10m}}
    upstream: up
  - {{name: special, match: {{path: /orders/special}}, upstream: up}}
  - name: open
    match: {{path: /open/**}}
    cors: {{origins: ["https://*.example.com"]}}
    upstream: up
  - {{name: gone, match: {{path: /gone}}, cors: {{origins: "*"}}, upstream: gone}}
  - {{name: tenants, match: {{path: /by-header, headers: {{X-Tenant: a}}}}, cors: {{origins: "*"}}, upstream: up}}
  - {{name: others, match: {{path: /by-header}}, upstream: up}}
  - {{name: plain, match: {{path: /plain}}, upstream: up}}
"""


def request(method: bytes, target: bytes, *lines: bytes) -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (method, target, b"".join(line + b"\r\n" for line in lines))


def preflight(target: bytes, origin: bytes = APP, method: bytes = b"PUT", headers: bytes = b"x-api-key") -> bytes:
    asked = (b"Access-Control-Request-Method: " + method, b"Access-Control-Request-Headers: " + headers)
    return request(b"OPTIONS", target, b"Origin: " + origin, *asked)


async def ask(gateway: Gateway, data: bytes) -> Answer:
    client = await gateway.client()
    return await client.ask(data)


def permission(answer: Answer) -> dict[str, str]:
    mark = "access-control-"
    return {name.removeprefix(mark): value for name, value in answer.headers.items() if name.startswith(mark)}


READABLE = {"allow-origin": "https://app.example.com", "allow-credentials": "true", "expose-headers": "RateLimit"}


async def test_a_preflight_needs_no_credentials_no_quota_and_no_upstream(upstream: Upstream, start: Start) -> None:
    gateway = await start(config(upstream))
    for _ in range(3):
        answer = await ask(gateway, preflight(b"/orders/7"))
        assert answer.status == 204
        assert permission(answer) == {
            "allow-origin": "https://app.example.com",
            "allow-credentials": "true",
            "allow-methods": "GET, PUT",
            "allow-headers": "x-api-key",
            "max-age": "600",
        }
        assert answer.headers["vary"] == f"origin, {LISTS}"
        assert "ratelimit" not in answer.headers
        assert "content-length" not in answer.headers
    assert not upstream.visits


async def test_a_preflight_of_another_page_is_a_problem_without_permission(upstream: Upstream, start: Start) -> None:
    answer = await ask(await start(config(upstream)), preflight(b"/orders/7", EVIL))
    assert (answer.status, answer.headers["content-type"]) == (403, "application/problem+json")
    assert json.loads(answer.body)["code"] == "forbidden"
    assert permission(answer) == {}
    assert answer.headers["vary"] == f"origin, {LISTS}"
    assert not upstream.visits


async def test_errors_can_be_read_by_the_page_too(upstream: Upstream, start: Start) -> None:
    gateway = await start(config(upstream))
    refused = await ask(gateway, request(b"GET", b"/orders/7", b"Origin: " + APP))
    assert (refused.status, permission(refused), refused.headers["vary"]) == (401, READABLE, "origin")
    failed = await ask(gateway, request(b"GET", b"/gone", b"Origin: " + APP))
    assert (failed.status, permission(failed)) == (502, {"allow-origin": "*"})
    assert "vary" not in failed.headers


async def test_what_the_upstream_says_is_replaced_and_its_vary_stays(upstream: Upstream, start: Start) -> None:
    said = b"Access-Control-Allow-Origin: *\r\naccess-control-allow-credentials: true\r\nVary: Accept\r\n"
    upstream.script = replying(b"HTTP/1.1 200 OK\r\n" + said + b"Content-Length: 2\r\n\r\nok")
    gateway = await start(config(upstream))
    client = await gateway.client()
    for _ in range(2):
        answer = await client.ask(request(b"GET", b"/open/a", b"Origin: " + APP))
        assert (answer.status, answer.body) == (200, b"ok")
        assert permission(answer) == {"allow-origin": "https://app.example.com"}
        assert answer.headers["vary"] == "Accept, origin"
    other = await client.ask(request(b"GET", b"/open/a", b"Origin: " + EVIL))
    assert (other.status, permission(other), other.headers["vary"]) == (200, {}, "Accept, origin")
    nobody = await client.ask(request(b"GET", b"/open/a"))
    assert (nobody.status, permission(nobody), nobody.headers["vary"]) == (200, {}, "Accept, origin")
    untouched = await client.ask(request(b"GET", b"/plain", b"Origin: " + EVIL))
    assert permission(untouched) == {"allow-origin": "*", "allow-credentials": "true"}, "a route without cors"


async def test_an_ordinary_options_request_goes_to_the_upstream(upstream: Upstream, start: Start) -> None:
    gateway = await start(config(upstream))
    assert (await ask(gateway, request(b"OPTIONS", b"/open/a", b"Origin: " + APP))).status == 200
    assert (await ask(gateway, request(b"OPTIONS", b"/open/a", b"Access-Control-Request-Method: GET"))).status == 200
    assert (await ask(gateway, request(b"OPTIONS", b"/orders/7", b"Origin: " + APP))).status == 405
    assert upstream.requests == [b"OPTIONS /open/a"] * 2


async def test_a_preflight_goes_where_the_request_will_go(upstream: Upstream, start: Start) -> None:
    gateway = await start(config(upstream))
    special = await ask(gateway, preflight(b"/orders/special"))
    assert (special.status, permission(special)) == (200, {}), "a route without cors leaves it to the upstream"
    assert (await ask(gateway, preflight(b"/orders/7", method=b"DELETE"))).status == 405, "no route would take it"
    assert (await ask(gateway, preflight(b"/nowhere"))).status == 404
    assert upstream.requests == [b"OPTIONS /orders/special"]


async def test_a_route_that_asks_for_a_header_is_found_by_its_name(upstream: Upstream, start: Start) -> None:
    gateway = await start(config(upstream))
    found = await ask(gateway, preflight(b"/by-header", headers=b"authorization,x-tenant"))
    assert (found.status, permission(found)["allow-origin"]) == (204, "*")
    assert (await ask(gateway, preflight(b"/by-header", headers=b"authorization"))).status == 200, "the other route"


@pytest.mark.parametrize(
    "origin", [b"https://evilexample.com", b"https://a.example.com.evil.example", b"null", b"x" * 6000]
)
async def test_nobody_slips_through_a_pattern(upstream: Upstream, start: Start, origin: bytes) -> None:
    gateway = await start(config(upstream))
    assert (await ask(gateway, preflight(b"/open/a", origin))).status == 403
    answer = await ask(gateway, request(b"GET", b"/open/a", b"Origin: " + origin))
    assert (answer.status, permission(answer)) == (200, {})


async def test_a_body_that_is_too_large_can_be_read_about(upstream: Upstream, start: Start) -> None:
    gateway = await start(config(upstream))
    answer = await ask(gateway, request(b"POST", b"/gone", b"Origin: " + APP, b"Content-Length: 99999999"))
    assert (answer.status, permission(answer)) == (413, {"allow-origin": "*"})
