"""Versions over real sockets: which upstream gets what, and what the client is told, in errors too."""

import json
import time
from collections.abc import AsyncIterator

import pytest

from tests.wire.actors import Client, Script, Upstream, Visit, replying
from tests.wire.conftest import Start
from tests.wire.payloads import get

DAY = 86400.0
NOW = time.time()
DOCS = "https://docs.example.com/migrate"
FAILING = b"HTTP/1.1 500 Oops\r\nX-API-Version: v77\r\nDeprecation: true\r\nContent-Length: 0\r\n\r\n"


def day(offset: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW + offset * DAY))


def http_date(offset: float) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(NOW + offset * DAY))


@pytest.fixture
async def other() -> AsyncIterator[Upstream]:
    """Serves v2."""
    upstream = await Upstream().start()
    try:
        yield upstream
    finally:
        await upstream.stop()


@pytest.fixture
async def client(start: Start, upstream: Upstream, other: Upstream) -> Client:
    """v0 is gone, v1 is deprecated and at `upstream`, v2 at `other`; v3 has its brown-out now."""
    gateway = await start(f"""
listen: {{admin: "off"}}
upstreams:
  one: {{targets: ["http://127.0.0.1:{upstream.port}"], retry: off, breaker: off}}
  two: {{targets: ["http://127.0.0.1:{other.port}"], retry: off, breaker: off}}
routes:
  - name: orders
    match: {{path: /orders/**}}
    versions:
      from: [path, header, query, media_type]
      header: X-Version
      query: version
      media_type: application/vnd.example.{{version}}+json
      default: v2
      aliases: {{latest: v2}}
      available:
        v0: {{upstream: one, deprecated: {day(-300)}, sunset: {day(-1)}, successor: v2, link: "{DOCS}"}}
        v1: {{upstream: one, deprecated: {day(-30)}, sunset: {day(30)}, successor: v2, link: "{DOCS}"}}
        v2: {{upstream: two}}
        v3:
          upstream: two
          sunset: {day(30)}
          brownouts: [{{from: {day(-1)}, to: {day(1)}}}]
""")
    return await gateway.client()


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (get(target=b"/v1/orders/7?a=b"), b"GET /orders/7?a=b"),
        (get(b"X-Version: v1", target=b"/orders/7"), b"GET /orders/7"),
        (get(target=b"/orders/7?version=v1"), b"GET /orders/7?version=v1"),
        (get(b"Accept: application/vnd.example.v1+json", target=b"/orders/7"), b"GET /orders/7"),
    ],
)
async def test_a_version_goes_to_its_upstream_by_every_place(
    client: Client, upstream: Upstream, other: Upstream, request_: bytes, line: bytes
) -> None:
    answer = await client.ask(request_)
    assert (answer.status, answer.headers["x-api-version"]) == (200, "v1")
    assert upstream.requests == [line]
    assert b"\r\nx-api-version: v1\r\n" in upstream.received.lower()
    assert other.received == b""


async def test_by_itself_and_by_an_alias_the_default_answers(
    client: Client, upstream: Upstream, other: Upstream
) -> None:
    for target in (b"/orders/7", b"/latest/orders/7"):
        answer = await client.ask(get(target=target))
        assert (answer.status, answer.headers["x-api-version"]) == (200, "v2")
        assert not {"deprecation", "sunset", "link"} & answer.headers.keys()
    assert other.requests == [b"GET /orders/7"] * 2
    assert upstream.received == b""


async def test_the_client_cannot_say_the_version_to_the_upstream_itself(client: Client, other: Upstream) -> None:
    lies = (b"X-API-Version: v1", b"X_API_Version: v1", b"x-api-version: v9")
    assert (await client.ask(get(*lies, target=b"/v2/orders"))).status == 200
    lines = [line for line in other.received.lower().replace(b"_", b"-").split(b"\r\n") if b"version" in line]
    assert lines == [b"x-api-version: v2"]


async def broken_off(visit: Visit) -> None:
    await visit.request()
    visit.reset()


@pytest.mark.parametrize(("script", "status"), [(replying(), 200), (replying(FAILING), 500), (broken_off, 502)])
async def test_a_deprecated_version_tells_when_it_ends_and_where_to_go_also_with_errors(
    client: Client, upstream: Upstream, script: Script, status: int
) -> None:
    upstream.script = script
    answer = await client.ask(get(target=b"/v1/orders/7"))
    assert answer.status == status
    assert answer.headers["deprecation"] == f"@{int(NOW - 30 * DAY)}"
    assert answer.headers["sunset"] == http_date(30)
    assert answer.headers["link"] == (
        f'<{DOCS}>; rel="deprecation", <{DOCS}>; rel="sunset", </v2/orders/7>; rel="successor-version"'
    )
    assert answer.headers["x-api-version"] == "v1"


async def test_vary_is_for_caches_where_a_header_decides(client: Client) -> None:
    assert "vary" not in (await client.ask(get(target=b"/v1/orders"))).headers
    assert (await client.ask(get(target=b"/orders"))).headers["vary"] == "X-Version, Accept"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get(target=b"/v9/orders"), 404),
        (get(target=b"/V1/orders"), 404),
        (get(b"X-Version: v9", target=b"/orders"), 400),
        (get(target=b"/orders?version=v9"), 400),
        (get(b"Accept: application/vnd.example.v9+json", target=b"/orders"), 406),
    ],
)
async def test_an_unknown_version_is_refused_with_those_that_there_are(
    client: Client, upstream: Upstream, other: Upstream, request_: bytes, status: int
) -> None:
    answer = await client.ask(request_)
    problem = json.loads(answer.body)
    assert (answer.status, problem["code"]) == (status, "unknown_version")
    assert problem["versions"] == ["v1", "v2", "v3"]  # v0 is gone
    assert upstream.received == other.received == b""


async def test_two_versions_in_one_request_are_400(client: Client, upstream: Upstream, other: Upstream) -> None:
    answer = await client.ask(get(b"X-Version: v1", target=b"/v2/orders"))
    assert (answer.status, json.loads(answer.body)["code"]) == (400, "bad_request")
    assert upstream.received == other.received == b""


async def test_a_version_past_its_sunset_is_gone(client: Client, upstream: Upstream) -> None:
    answer = await client.ask(get(target=b"/v0/orders/7"))
    problem = json.loads(answer.body)
    assert (answer.status, problem["code"], problem["successor"]) == (410, "version_gone", "v2")
    assert answer.headers["sunset"] == http_date(-1)
    assert '</v2/orders/7>; rel="successor-version"' in answer.headers["link"]
    assert upstream.received == b""


async def test_a_brown_out_says_when_it_is_over(client: Client, other: Upstream) -> None:
    answer = await client.ask(get(target=b"/v3/orders/7"))
    assert (answer.status, json.loads(answer.body)["code"]) == (503, "version_gone")
    assert DAY - 3600 < int(answer.headers["retry-after"]) <= DAY + 1
    assert other.received == b""


async def test_other_paths_are_nobodys(client: Client) -> None:
    for target in (b"/v2", b"/v2/invoices", b"/x/orders", b"/v1/v2/orders", b"/;x/v2/orders"):
        assert (await client.ask(get(target=target))).status == 404


async def test_a_version_is_tried_out_on_those_who_ask_for_it_by_cookie(
    start: Start, upstream: Upstream, other: Upstream
) -> None:
    gateway = await start(f"""
upstreams:
  one: {{targets: ["http://127.0.0.1:{upstream.port}"]}}
  two: {{targets: ["http://127.0.0.1:{other.port}"]}}
routes:
  - name: orders
    match: {{path: /orders/**}}
    versions:
      available:
        v1: {{upstream: one}}
        v2: {{split: {{one: 50, two: 50}}, split_by: "cookie:session"}}
""")
    client = await gateway.client()
    for number in range(20):
        for _ in range(2):
            cookie = b"Cookie: session=%d" % number
            assert (await client.ask(get(cookie, target=b"/v2/orders/%d" % number))).status == 200
    at_one, at_two = set(upstream.requests), set(other.requests)
    assert not at_one & at_two, "whoever has been there goes there again"
    assert len(at_one | at_two) == 20
    assert min(len(at_one), len(at_two)) > 2
