"""What a route requires, at the whole gateway: who is asked for credentials, for better ones, and who is refused."""

import json
import time
from typing import Any

import pytest

from tests.tokens import SECRET, sign
from tests.wire.actors import Answer, Client, Upstream
from tests.wire.conftest import Start

KEY = b"10"
STEP_UP = 'Bearer realm="gateway", error="insufficient_user_authentication", error_description='
HASH = "4a44dc15364204a80fe80e9039455cc1608281820fe2b24f1e5233ade6af1dd5"


def config(upstream: Upstream) -> str:
    return f"""
listen: {{http: "127.0.0.1:0"}}
auth:
  providers:
    idp: {{type: jwt, secret: "{SECRET.decode()}", algorithms: [HS256]}}
    partners: {{type: api_key, header: X-API-Key}}
  consumers:
    acme: {{keys: ["sha256:{HASH}"], scopes: ["orders:read"]}}
  roles: {{clerk: ["orders:write"]}}
  permissions: {{"orders:write": ["orders:read"], "orders:admin": ["orders:*"]}}
upstreams:
  u: {{targets: ["http://127.0.0.1:{upstream.port}"]}}
routes:
  - name: orders
    match: {{path: /orders}}
    auth:
      providers: [idp, partners]
      optional: true
      scopes: {{POST: ["orders:write"], PUT: ["orders:read", {{any: [a, b]}}]}}
    upstream: u
  - name: payments
    match: {{path: /payments}}
    auth: {{providers: [idp, partners], scopes: ["orders:read"], claims: {{acr: [gold, silver]}}, max_age: 15m}}
    upstream: u
  - name: tenant
    match: {{path: /tenant}}
    auth: {{providers: [idp], claims: {{user.tenant: acme, amr: mfa}}}}
    upstream: u
"""


@pytest.fixture
async def client(start: Start, upstream: Upstream) -> Client:
    gateway = await start(config(upstream))
    return await gateway.client()


def token(**claims: Any) -> bytes:
    return b"Authorization: Bearer " + sign({"sub": "alice", "exp": int(time.time()) + 600, **claims})


async def ask(client: Client, request: bytes, *lines: bytes) -> Answer:
    head = b"%b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n%b\r\n"
    return await client.ask(head % (request, b"".join(line + b"\r\n" for line in lines)))


def said(answer: Answer) -> tuple[int, str, str, str | None]:
    problem = json.loads(answer.body)
    return answer.status, problem["code"], problem["detail"], answer.headers.get("www-authenticate")


async def test_a_scope_includes_others_whether_it_comes_from_a_token_or_a_role(client: Client) -> None:
    for claims in ({"scope": "orders:write a"}, {"scope": "b orders:admin"}, {"roles": ["clerk"], "scope": "b"}):
        assert (await ask(client, b"PUT /orders", token(**claims))).status == 200
    for claims in ({"scope": "orders:* a"}, {"scope": "orders:writer a"}, {"roles": ["orders:write"], "scope": "b"}):
        assert (await ask(client, b"PUT /orders", token(**claims))).status == 403


async def test_the_first_complete_choice_is_what_a_client_is_told_to_get(client: Client, upstream: Upstream) -> None:
    assert said(await ask(client, b"PUT /orders", token(scope="orders:read"))) == (
        403,
        "forbidden",
        "Missing scope: one of a b",
        'Bearer realm="gateway", error="insufficient_scope", scope="a orders:read"',
    )
    assert upstream.requests == []


async def test_an_anonymous_caller_is_asked_who_it_is_and_a_known_one_is_forbidden(
    client: Client, upstream: Upstream
) -> None:
    assert (await ask(client, b"GET /orders")).status == 200
    assert said(await ask(client, b"POST /orders")) == (
        401,
        "unauthenticated",
        "This request needs credentials.",
        'Bearer realm="gateway", ApiKey realm="gateway"',
    )
    assert said(await ask(client, b"POST /orders", b"X-API-Key: " + KEY)) == (
        403,
        "forbidden",
        "Missing scope: orders:write",
        None,
    )
    assert upstream.requests == [b"GET /orders"]


async def test_a_user_steps_up(client: Client, upstream: Upstream) -> None:
    now = int(time.time())
    weak = token(scope="orders:read", acr="bronze", auth_time=now)
    assert said(await ask(client, b"GET /payments", weak)) == (
        401,
        "unauthenticated",
        "Missing claim: acr gold or silver",
        STEP_UP + '"The user has to authenticate in another way", acr_values="gold silver", max_age="900"',
    )
    old = token(scope="orders:read", acr="gold", auth_time=now - 901)
    assert said(await ask(client, b"GET /payments", old)) == (
        401,
        "unauthenticated",
        "Missing claim: auth_time of the last 900 s",
        STEP_UP + '"The user has to authenticate again", max_age="900"',
    )
    assert upstream.requests == []
    fresh = token(scope="orders:write", acr="silver", auth_time=now)
    assert (await ask(client, b"GET /payments", fresh)).status == 200


async def test_who_lacks_a_scope_does_not_step_up_in_vain(client: Client) -> None:
    status, code, detail, challenge = said(await ask(client, b"GET /payments", token(acr="bronze")))
    assert (status, code, detail) == (403, "forbidden", "Missing scope: orders:read")
    assert challenge == 'Bearer realm="gateway", error="insufficient_scope", scope="orders:read"'


async def test_an_api_key_cannot_step_up(client: Client) -> None:
    assert said(await ask(client, b"GET /payments", b"X-API-Key: " + KEY)) == (
        403,
        "forbidden",
        "Missing claims: acr gold or silver, auth_time of the last 900 s",
        None,
    )


async def test_what_is_missing_is_told_and_what_is_there_is_not(client: Client) -> None:
    claims = {"user": {"tenant": "very-secret"}, "amr": ["pwd", "mfa"]}
    answer = await ask(client, b"GET /tenant", token(**claims))
    assert said(answer) == (
        403,
        "forbidden",
        "Missing claim: user.tenant acme",
        'Bearer realm="gateway", error="insufficient_scope"',
    )
    assert b"secret" not in answer.body
    claims["user"] = {"tenant": "acme"}
    assert (await ask(client, b"GET /tenant", token(**claims))).status == 200


async def test_a_refused_request_says_nothing_about_permissions_before_the_credential_is_valid(client: Client) -> None:
    bad = token(scope="orders:read", acr="bronze")[:-6] + b"AAAAAA"
    status, _, detail, challenge = said(await ask(client, b"GET /payments", bad))
    assert status == 401
    assert "acr" not in detail + str(challenge)
    assert 'error="invalid_token"' in str(challenge)
