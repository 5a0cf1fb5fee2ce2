"""Routes and limits as the admin API tells them: as they were built, with why; and the level of the log."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin.access import CLIENT
from gateway.admin.app import admin_app
from gateway.auth.ledger import Ledger
from tests.configs import loaded
from tests.operated import AUTH, Operated

Asked = TestClient[web.Request, web.Application]

TEXT = (
    AUTH
    + """\
store: {url: 'redis://user:hunter2@localhost/0', on_failure: closed}
upstreams:
  u: {targets: [http://127.0.0.1:9001], retry: {attempts: 3}}
  w: {targets: [http://127.0.0.1:9002]}
rate_limits:
  standard: {by: consumer, limit: 100/minute, tiers: {gold: 600/minute}, on_failure: open}
  unused: {by: ip, limit: 1/day, algorithm: calendar}
routes:
  - name: orders
    match: {path: '/orders/{id}', methods: [GET, POST]}
    auth: {providers: [idp], scopes: {GET: [orders:read], POST: [orders:write]}}
    rate_limit: [standard, {by: ip, limit: 10/second}]
    body_limit: 1MiB
    slo: {availability: 99.9%, latency: {p: 99, under: 300ms}}
    upstream: u
  - {name: shared, match: {path: /shared}, split: {u: 95, w: 5}}
  - name: versioned
    match: {path: /versioned}
    versions: {from: [path], available: {v1: {upstream: u, sunset: 2027-01-01, successor: v2}, v2: {upstream: w}}}
  - {name: recent, match: {path: /orders/recent, methods: [GET]}, respond: {status: 204}}
  - {name: rest, match: {path: '/**'}, rate_limit: standard, upstream: w}
"""
)


@pytest.fixture
def instance(tmp_path: Path) -> Operated:
    return Operated(loaded(tmp_path, TEXT), Ledger(tmp_path / "records", None), tmp_path / "notices")


@pytest.fixture
async def client(instance: Operated) -> AsyncIterator[Asked]:
    async with TestClient(TestServer(admin_app(instance))) as client:
        yield client


async def routes(client: Asked, query: str = "") -> dict[str, dict[str, object]]:
    reply = await client.get("/api/v1/routes" + query)
    assert reply.status == 200, await reply.text()
    return {each["name"]: each for each in (await reply.json())["routes"]}


async def test_routes_are_told_in_the_order_of_the_file(client: Asked) -> None:
    assert list(await routes(client)) == ["orders", "shared", "versioned", "recent", "rest"]


async def test_a_route_tells_its_stages_in_order_each_with_its_reason(client: Asked) -> None:
    stages = (await routes(client))["orders"]["stages"]
    assert isinstance(stages, list)
    names = [each["stage"] for each in stages]
    assert names == ["body", "identify", "permit", "limit", "limit", "deadline", "retry", "balance", "breaker", "try"]
    assert [each["part"] for each in stages] == ["door"] * 5 + ["road"] * 5
    assert all(each["why"] and each["settings"] for each in stages)


async def test_stages_are_those_that_a_request_with_this_method_meets(client: Asked) -> None:
    for method, scope in (("GET", "orders:read"), ("POST", "orders:write")):
        (route,) = (await routes(client, f"?route=orders&method={method}")).values()
        assert route["method"] == method
        (permit,) = [each for each in route["stages"] if each["stage"] == "permit"]  # type: ignore[attr-defined]
        assert permit["settings"] == f"scopes {scope}"


async def test_who_comes_first_is_told(client: Asked) -> None:
    found = await routes(client)
    ranks = {name: route["precedence"] for name, route in found.items()}
    assert ranks["recent"]["behind"] == []  # type: ignore[index]
    assert ranks["orders"]["behind"] == ["recent"]  # type: ignore[index]
    assert set(ranks["rest"]["behind"]) == {"recent", "orders", "shared", "versioned"}  # type: ignore[index]
    assert sorted(rank["position"] for rank in ranks.values()) == [1, 2, 3, 4, 5]  # type: ignore[index]


async def test_limits_ends_and_promises_stand_beside_it(client: Asked) -> None:
    found = await routes(client)
    assert found["orders"]["limits"] == ["standard", "orders-2"]
    assert found["orders"]["body_limit"] == 1024**2
    slo = found["orders"]["slo"]
    assert slo == {"availability": pytest.approx(0.999), "latency": {"p": pytest.approx(0.99), "under_ms": 300}}
    assert found["shared"]["split"] == {"u": 95, "w": 5}
    versions = found["versioned"]["versions"]
    assert [(each["name"], each["upstreams"], each["sunset"], each["successor"]) for each in versions] == [  # type: ignore[attr-defined]
        ("v1", ["u"], "2027-01-01T00:00:00Z", "v2"),
        ("v2", ["w"], None, None),
    ]
    assert found["recent"]["respond"] == {"status": 204}


async def test_a_route_that_is_not_there_is_not_found(client: Asked) -> None:
    reply = await client.get("/api/v1/routes?route=order")
    assert reply.status == 404
    assert "did you mean 'orders'?" in (await reply.json(content_type=None))["detail"]
    assert (await client.get("/api/v1/routes?method=a%20b")).status == 422


async def test_a_limit_tells_who_uses_it_and_what_it_decided(client: Asked, instance: Operated) -> None:
    instance.said = {
        "gateway_rate_limit_decisions_total": {
            ("orders", "standard", "allowed"): 7.0,
            ("rest", "standard", "allowed"): 2.0,
            ("rest", "standard", "refused"): 1.0,
        },
        "gateway_store_up": {("redis",): 0.0},
    }
    said = await (await client.get("/api/v1/limits")).json()
    limits = {each["name"]: each for each in said["limits"]}
    assert list(limits) == ["standard", "unused", "orders-2"]
    standard = limits["standard"]
    assert (standard["shared"], standard["routes"]) == (True, ["orders", "rest"])
    assert standard["decisions"] == {"allowed": 9, "refused": 1}
    assert (standard["limit"], standard["tiers"]) == ("100/60s", {"gold": {"limit": "600/60s", "burst": None}})
    assert (standard["on_failure"], limits["unused"]["on_failure"]) == ("open", "closed")
    assert (limits["unused"]["routes"], limits["unused"]["time_zone"]) == ([], "UTC")
    assert (limits["orders-2"]["shared"], limits["orders-2"]["routes"]) == (False, ["orders"])
    assert said["store"]["up"] is False
    assert "hunter2" not in str(said)
    instance.said = {}
    assert (await (await client.get("/api/v1/limits")).json())["store"]["up"] is None


# -- the level of the log -------------------------------------------------------------------------------


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    level = root.level
    yield root
    root.setLevel(level)


async def test_the_level_is_told_and_changed(client: Asked, instance: Operated, root: logging.Logger) -> None:
    root.setLevel("WARNING")
    said = await (await client.get("/api/v1/log-level")).json()
    assert said == {"level": "warning", "configured": "info"}
    reply = await client.put("/api/v1/log-level", json={"level": "debug"}, headers={CLIENT: "test"})
    assert (reply.status, instance.level) == (200, "debug")


@pytest.mark.parametrize(
    "body", [{}, {"level": "loud"}, {"level": 10}, {"level": "DEBUG"}, {"level": "info", "for": 1}]
)
async def test_a_level_that_is_none_is_refused(client: Asked, instance: Operated, body: dict[str, object]) -> None:
    reply = await client.put("/api/v1/log-level", json=body, headers={CLIENT: "test"})
    assert (reply.status, instance.level) == (422, "")
