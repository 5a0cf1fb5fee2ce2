"""The admin API as its own document describes it: held to the router, to a validator, and to what it really says."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from gateway.admin.access import CLIENT
from gateway.admin.answers import LARGEST_BODY
from gateway.admin.app import admin_app
from gateway.admin.openapi import document
from gateway.admin.operations import OPERATIONS
from gateway.auth.ledger import Ledger
from tests.configs import SECRET, UPSTREAM, loaded
from tests.operated import AUTH, Operated

Asked = TestClient[web.Request, web.Application]
OURS = {CLIENT: "test"}
API = [name for name in OPERATIONS if " /api/" in name]
WITH_BODY = [name for name, each in OPERATIONS.items() if each.body is not None]
FILES = "/dashboard/"
"""Below it is what the page loads: no part of the API."""

TEXT = (
    AUTH
    + UPSTREAM
    + """\
rate_limits: {standard: {by: consumer, limit: 100/minute, tiers: {gold: 600/minute}, cost: {POST: 5}}}
routes:
  - name: orders
    match: {path: '/orders/**', host: api.example.com}
    auth: {providers: [idp], scopes: {GET: [orders:read]}}
    rate_limit: [standard, {by: ip, limit: 10/second, burst: 5}]
    versions:
      from: [header]
      header: X-Version
      available: {v1: {upstream: u, deprecated: 2026-01-01, sunset: 2027-01-01}, v2: {upstream: u}}
  - {name: old, match: {path: /old}, redirect: {to: /new, status: 308}}
  - {name: fixed, match: {path: /fixed, methods: [GET]}, respond: {status: 204}}
"""
)


@pytest.fixture
def instance(tmp_path: Path) -> Operated:
    return Operated(loaded(tmp_path, TEXT), Ledger(tmp_path / "records", None), tmp_path / "notices")


@pytest.fixture
async def client(instance: Operated) -> AsyncIterator[Asked]:
    async with TestClient(TestServer(admin_app(instance))) as client:
        yield client


def plain() -> dict[str, Any]:
    said: dict[str, Any] = json.loads(json.dumps(document()))
    return said


def as_described(operation: str, status: int, value: object) -> list[str]:
    """What of a reply is not as the document says."""
    method, path = operation.split(" ")
    said = plain()
    (content,) = said["paths"][path][method.lower()]["responses"][str(status)]["content"].values()
    schema = {**content["schema"], "components": said["components"]}
    return [error.message for error in Draft202012Validator(schema).iter_errors(value)]


def filled(operation: str) -> tuple[str, str]:
    """Method and a path with something in each of its places."""
    method, path = operation.split(" ")
    return method, re.sub(r"\{\w+\}", "nothing", path)


# -- the document --------------------------------------------------------------------------------------


def test_the_document_is_valid() -> None:
    validate(plain())


def test_every_endpoint_is_described_and_no_other(instance: Operated) -> None:
    routes = [(route.method, route.resource) for route in admin_app(instance).router.routes()]
    served = {f"{method} {each.canonical}" for method, each in routes if each is not None and method != "HEAD"}
    assert {name for name in served if not name.split(" ")[1].startswith(FILES)} == OPERATIONS.keys()


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [each["operationId"] for path in plain()["paths"].values() for each in path.values()]
    assert len(names) == len(set(names)) == len(OPERATIONS)


def test_what_changes_something_is_described_with_the_header_that_it_needs() -> None:
    for name in API:
        method, path = name.split(" ")
        parameters = plain()["paths"][path][method.lower()].get("parameters", [])
        needed = [each["name"] for each in parameters if each["in"] == "header" and each["required"]]
        assert needed == ([CLIENT] if method != "GET" else []), name


def test_a_validator_would_notice_a_reply_of_another_shape() -> None:
    assert as_described("GET /api/v1/log-level", 200, {"level": 3})


# -- what is really said -------------------------------------------------------------------------------

LOOKING = [
    "/api/v1/openapi.json",
    "/api/v1/routes",
    "/api/v1/routes?route=orders&method=POST",
    "/api/v1/limits",
    "/api/v1/log-level",
    "/api/v1/keys",
    "/api/v1/revocations",
    "/api/v1/upstreams",
    "/api/v1/circuits",
    "/api/v1/faults",
    "/api/v1/errors",
    "/api/v1/slowest",
    "/healthz",
    "/readyz",
]


@pytest.mark.parametrize("target", LOOKING)
async def test_a_reply_is_as_described(client: Asked, instance: Operated, target: str) -> None:
    instance.said = {
        "gateway_rate_limit_decisions_total": {("orders", "standard", "allowed"): 3.0},
        "gateway_breaker_state": {("u", "http://127.0.0.1:9001"): 2.0},
    }
    reply = await client.get(target)
    value = await reply.json()
    assert as_described(f"GET {target.partition('?')[0]}", reply.status, value) == [], value


CHANGES: list[tuple[str, dict[str, object], int]] = [
    ("POST /api/v1/keys", {"consumer": "acme", "note": "for the tests"}, 201),
    ("POST /api/v1/revocations", {"consumer": "acmee", "for": "1h"}, 201),
    ("POST /api/v1/circuits/{upstream}/open", {}, 200),
    ("POST /api/v1/circuits/{upstream}/close", {}, 200),
    ("POST /api/v1/faults", {"route": "orders", "share": "5%", "status": 503, "for": "1m"}, 201),
    ("DELETE /api/v1/faults", {}, 200),
    ("PUT /api/v1/log-level", {"level": "debug"}, 200),
    ("POST /api/v1/drain", {}, 202),
]


@pytest.mark.parametrize(("operation", "body", "status"), CHANGES)
async def test_what_a_change_takes_and_says_is_as_described(
    client: Asked, operation: str, body: dict[str, object], status: int
) -> None:
    method, path = operation.split(" ")
    taken = OPERATIONS[operation].body
    assert taken is not None
    Draft202012Validator(taken).validate(body)
    reply = await client.request(method, path.replace("{upstream}", "u"), json=body, headers=OURS)
    value = await reply.json()
    assert reply.status == status, value
    assert as_described(operation, status, value) == []
    refused = await client.request(method, path.replace("{upstream}", "u"), json=[], headers=OURS)
    assert as_described(operation, 422, await refused.json(content_type=None)) == []


# -- what goes wrong, everywhere alike ------------------------------------------------------------------


async def a_problem(reply: Any, status: int, code: str) -> None:
    assert reply.status == status, await reply.text()
    assert reply.headers["Content-Type"] == "application/problem+json"
    details = await reply.json(content_type=None)
    assert (details["status"], details["code"]) == (status, code)
    schema = {**document()["components"]["schemas"]["Problem"]}
    Draft202012Validator(schema).validate(details)


@pytest.mark.parametrize("operation", API)
async def test_a_method_that_a_path_does_not_have_is_a_problem(client: Asked, operation: str) -> None:
    _, path = filled(operation)
    await a_problem(await client.request("PATCH", path, headers=OURS), 405, "method_not_allowed")


@pytest.mark.parametrize("operation", API)
async def test_a_path_below_is_unknown(client: Asked, operation: str) -> None:
    method, path = filled(operation)
    await a_problem(await client.request(method, f"{path}/below/that", headers=OURS), 404, "no_route")


@pytest.mark.parametrize("operation", WITH_BODY)
async def test_a_body_that_is_too_large_is_refused(client: Asked, operation: str) -> None:
    method, path = filled(operation)
    reply = await client.request(method, path, data=b" " * (LARGEST_BODY + 1), headers=OURS)
    await a_problem(reply, 413, "body_too_large")


@pytest.mark.parametrize("operation", WITH_BODY)
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_request"),
        (b"\xff", 400, "bad_request"),
        (b"[]", 422, "invalid_request"),
        (b'{"nothing": 1}', 422, "invalid_request"),
    ],
)
async def test_a_body_that_is_not_what_is_taken_is_refused(
    client: Asked, operation: str, body: bytes, status: int, code: str
) -> None:
    method, path = filled(operation)
    await a_problem(await client.request(method, path, data=body, headers=OURS), status, code)


@pytest.mark.parametrize("operation", API)
async def test_nobody_gets_in_without_the_token(client: Asked, instance: Operated, operation: str) -> None:
    instance.token = SECRET
    method, path = filled(operation)
    await a_problem(await client.request(method, path, headers=OURS), 401, "unauthenticated")


@pytest.mark.parametrize("operation", ["GET /api/v1/routes", "GET /api/v1/limits", "GET /api/v1/log-level"])
async def test_a_parameter_that_is_not_known_is_refused(client: Asked, operation: str) -> None:
    _, path = filled(operation)
    await a_problem(await client.get(f"{path}?rout=orders"), 422, "invalid_request")


async def test_a_defect_is_a_problem_that_tells_nothing(
    client: Asked, instance: Operated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("the secret reason")

    monkeypatch.setattr(instance, "readings", explode)
    reply = await client.get("/api/v1/limits")
    assert "secret" not in await reply.text()
    await a_problem(reply, 500, "internal")
    assert "the secret reason" in caplog.text
