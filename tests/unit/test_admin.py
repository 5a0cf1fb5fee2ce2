"""The admin application around a played instance: who may ask, what they are told, and what they never are."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.typedefs import Handler, Middleware

from gateway.admin import answers
from gateway.admin.access import CLIENT
from gateway.admin.app import admin_app
from gateway.config.effective import effective
from gateway.telemetry.exposition import Scrape
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.rendering import Reading
from tests.configs import ROUTE, SECRET, UPSTREAM, loaded

TOKEN = "a token for operators"
API = ("/api/v1/config", "/api/v1/reload", "/api/v1/drain")
OURS = {CLIENT: "test"}

Asked = TestClient[web.Request, web.Application]
Problem = dict[str, Any]


class Running:
    """Implements gateway.admin.app.Instance; does what it is told to and remembers what it did."""

    def __init__(self, scrape: Scrape | None = None) -> None:
        self.scrape = scrape or Scrape(list)
        self.token = ""
        self.away: list[str] = []
        self.shown: dict[str, Any] = {"hash": "abc", "config": {}}
        self.outcome: dict[str, Any] = {"reloaded": True, "hash": "def", "took_ms": 3.2, "workers": 2}
        self.did: list[str] = []

    def reasons(self) -> list[str]:
        return self.away

    def config(self) -> dict[str, Any]:
        return self.shown

    async def reload(self) -> dict[str, Any]:
        self.did.append("reload")
        return self.outcome

    async def drain(self) -> None:
        self.did.append("drain")


Ask = Callable[..., Awaitable[Asked]]


@pytest.fixture
def running() -> Running:
    metrics = Metrics()
    metrics.auth.child("idp", "ok").inc()
    return Running(Scrape(metrics.read))


@pytest.fixture
async def ask(running: Running) -> AsyncIterator[Ask]:
    """Makes clients of the application; `remote` is where they seem to come from."""
    clients: list[Asked] = []

    async def ask(remote: str | None = None, app: web.Application | None = None) -> Asked:
        app = app or admin_app(running)

        if remote is not None:
            app.middlewares.insert(0, seeming_to_come_from(remote))
        client: Asked = TestClient(TestServer(app))
        await client.start_server()
        clients.append(client)
        return client

    yield ask
    for client in clients:
        await client.close()


@pytest.fixture
async def client(ask: Ask) -> Asked:
    """A client on this machine."""
    return await ask()


def seeming_to_come_from(remote: str) -> Middleware:
    """As if every caller had this address."""

    @web.middleware
    async def from_afar(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await handler(request.clone(remote=remote))

    return from_afar


async def raw(client: Asked, head: bytes) -> bytes:
    """All that the application answers to these bytes."""
    assert client.port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(head)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


async def problem(reply: aiohttp.ClientResponse, status: int, code: str) -> Problem:
    """The problem details of a reply, which must have this status and code."""
    assert reply.status == status, await reply.text()
    assert reply.headers["Content-Type"] == "application/problem+json"
    details: Problem = await reply.json(content_type=None)
    assert (details["status"], details["code"]) == (status, code)
    assert details["type"].endswith(f"/problems/{code}")
    return details


# -- metrics and health --------------------------------------------------------------------------------


async def test_metrics_are_text_for_prometheus(client: Asked) -> None:
    reply = await client.get("/metrics")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain; version=")
    assert 'gateway_auth_total{provider="idp",result="ok"} 1.0' in await reply.text()


async def test_metrics_are_openmetrics_for_who_asks(client: Asked) -> None:
    reply = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
    assert (await reply.text()).endswith("# EOF\n")


async def test_metrics_are_compressed_for_who_can_read_that(client: Asked) -> None:
    whole = await client.get("/metrics", headers={"Accept-Encoding": "identity"})
    reply = await client.get("/metrics", headers={"Accept-Encoding": "gzip"})
    assert reply.headers["Content-Encoding"] == "gzip"
    assert int(reply.headers["Content-Length"]) < len(await whole.read()) / 2
    assert await reply.text() == await whole.text()
    assert "Content-Encoding" not in whole.headers


async def test_health_is_told_while_somebody_scrapes(ask: Ask, running: Running) -> None:
    scraping, enough = threading.Event(), threading.Event()

    def endless() -> list[Reading]:
        scraping.set()
        assert enough.wait(5)
        return []

    running.scrape = Scrape(endless)
    client = await ask()
    scrape = asyncio.create_task(client.get("/metrics"))
    try:
        await asyncio.to_thread(scraping.wait, 5)
        assert (await client.get("/healthz")).status == 200
        assert not scrape.done()
    finally:
        enough.set()
    assert (await scrape).status == 200


async def test_a_process_that_answers_is_alive(client: Asked, running: Running) -> None:
    running.away = ["no worker is ready"]
    reply = await client.get("/healthz")
    assert (reply.status, await reply.json()) == (200, {"status": "ok"})


async def test_ready_until_there_is_a_reason_not_to_be(client: Asked, running: Running) -> None:
    reply = await client.get("/readyz")
    assert (reply.status, await reply.json()) == (200, {"status": "ready"})
    running.away = ["the gateway is draining", "the store is away, and store.on_failure is closed"]
    reply = await client.get("/readyz")
    assert (reply.status, await reply.json()) == (503, {"status": "unavailable", "reasons": running.away})


async def test_everything_else_is_a_problem(client: Asked) -> None:
    reply = await client.get("/metrics/../etc/passwd/%3cscript%3e")
    await problem(reply, 404, "no_route")
    assert "script" not in await reply.text()


async def test_another_method_is_told_which_ones_work(client: Asked) -> None:
    reply = await client.post("/healthz")
    await problem(reply, 405, "method_not_allowed")
    assert reply.headers["Allow"] == "GET, HEAD"
    reply = await client.get("/api/v1/reload")
    await problem(reply, 405, "method_not_allowed")
    assert reply.headers["Allow"] == "POST"


# -- what the API does ---------------------------------------------------------------------------------


async def test_a_reload_that_worked_tells_what_is_in_force(client: Asked, running: Running) -> None:
    reply = await client.post("/api/v1/reload", headers=OURS)
    assert (reply.status, await reply.json()) == (200, running.outcome)
    assert running.did == ["reload"]


async def test_a_configuration_that_was_refused_is_told_line_by_line(client: Asked, running: Running) -> None:
    errors = ["routes.yaml:3:5: upstreams.u.retries: unknown key (did you mean 'retry'?)", "routes.yaml:9:1: x: y"]
    running.outcome = {"reloaded": False, "errors": errors}
    details = await problem(await client.post("/api/v1/reload", headers=OURS), 422, "invalid_request")
    assert details["errors"] == errors


async def test_a_reload_that_failed_tells_why(client: Asked, running: Running) -> None:
    running.outcome = {"reloaded": False, "detail": "cannot listen on 127.0.0.1:80: Address already in use"}
    details = await problem(await client.post("/api/v1/reload", headers=OURS), 500, "internal")
    assert details["detail"] == running.outcome["detail"]


async def test_draining_begins_and_is_answered_at_once(client: Asked, running: Running) -> None:
    reply = await client.post("/api/v1/drain", headers=OURS)
    assert (reply.status, await reply.json()) == (202, {"status": "draining"})
    assert running.did == ["drain"]


# -- bodies --------------------------------------------------------------------------------------------

CHANGE = b"POST /api/v1/drain HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX-Gateway-Client: test\r\n"


async def test_a_body_that_is_not_what_it_says_is_the_callers_fault(client: Asked, running: Running) -> None:
    reply = await raw(client, CHANGE + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello")
    assert reply.split()[1] == b"400"
    assert b'"code":"bad_request"' in reply
    assert running.did == []


async def test_a_body_that_does_not_come_is_waited_for_in_vain(
    client: Asked, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "BODY_WITHIN", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    try:
        writer.write(CHANGE + b"Content-Length: 10\r\n\r\n{")
        reply = await asyncio.wait_for(reader.readuntil(b'"code":"request_timeout"'), 5)
    finally:
        writer.close()
    assert reply.split()[1] == b"408"
    assert running.did == []


# -- who may ask ---------------------------------------------------------------------------------------


async def statuses(client: Asked, **headers: str) -> list[int]:
    """What each page of the API answers, asked as it wants to be."""
    headers |= OURS
    get = await client.get("/api/v1/config", headers=headers)
    posts = [await client.post(path, headers=headers) for path in API[1:]]
    return [get.status, *(post.status for post in posts)]


async def test_without_a_token_the_api_is_for_callers_on_this_machine(ask: Ask, running: Running) -> None:
    assert await statuses(await ask()) == [200, 200, 202]
    running.did.clear()
    for remote in ("192.0.2.7", "10.0.0.1", "2001:db8::1", "::ffff:192.0.2.7", "0.0.0.0", "nonsense"):
        assert await statuses(await ask(remote)) == [403, 403, 403], remote
    assert running.did == []
    for remote in ("127.0.0.1", "127.0.0.2", "::1"):
        assert await statuses(await ask(remote)) == [200, 200, 202], remote


async def test_whoever_has_hung_up_is_not_taken_for_somebody_on_this_machine(ask: Ask, running: Running) -> None:
    """Linux still hands out what was received before a reset, but no longer knows from whom it is."""
    assert await statuses(await ask("")) == [403, 403, 403]
    assert running.did == []


async def test_without_a_host_nobody_knows_under_which_name_it_was_asked(client: Asked) -> None:
    assert (await raw(client, b"GET /api/v1/config HTTP/1.0\r\n\r\n")).split()[1] == b"403"


async def test_who_only_looks_needs_no_header_of_its_own(client: Asked) -> None:
    assert (await client.head("/api/v1/config")).status == 200


async def test_a_caller_that_is_refused_is_told_how_it_would_work(ask: Ask) -> None:
    details = await problem(await (await ask("192.0.2.7")).get("/api/v1/config"), 403, "forbidden")
    assert "listen.admin_token" in details["detail"]


async def test_over_a_unix_socket_everybody_is_on_this_machine(running: Running, tmp_path: Path) -> None:
    runner = web.AppRunner(admin_app(running))
    await runner.setup()
    try:
        await web.UnixSite(runner, str(tmp_path / "admin.sock")).start()
        connector = aiohttp.UnixConnector(str(tmp_path / "admin.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://localhost/api/v1/config") as reply,
        ):
            assert reply.status == 200
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9901", 200),
        ("127.0.0.1", 200),
        ("localhost:9901", 200),
        ("[::1]:9901", 200),
        ("[::1]", 200),
        ("evil.example:9901", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("[evil.example]", 403),
        ("evil.example:127.0.0.1", 403),
    ],
)
async def test_a_name_that_leads_here_may_be_anybodys(client: Asked, host: str, status: int) -> None:
    """DNS rebinding: a page of evil.example asks 127.0.0.1, and its browser says Host: evil.example."""
    assert (await client.get("/api/v1/config", headers={"Host": host})).status == status


@pytest.mark.parametrize("path", API[1:])
async def test_what_changes_something_cannot_be_asked_for_by_a_page_of_another_site(
    client: Asked, running: Running, path: str
) -> None:
    """A form is sent across origins without asking; a header of its own takes a preflight, which fails."""
    for content in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        reply = await client.post(
            path, data=b"a=b", headers={"Content-Type": content, "Origin": "https://evil.example"}
        )
        details = await problem(reply, 403, "forbidden")
        assert CLIENT in details["detail"]
    assert running.did == []
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Headers": CLIENT.lower()}
    preflight = await client.options(path, headers=asked | {"Access-Control-Request-Method": "POST"})
    assert preflight.status >= 400
    assert not [name for name in preflight.headers if name.lower().startswith("access-control-")]


async def test_with_a_token_the_api_is_for_whoever_has_it(ask: Ask, running: Running) -> None:
    running.token = TOKEN
    for remote in (None, "192.0.2.7"):
        client = await ask(remote)
        assert await statuses(client, Authorization=f"Bearer {TOKEN}", Host="gateway.internal") == [200, 200, 202]
        running.did.clear()
        for credential in (None, "", TOKEN, "Bearer", "Bearer ", f"Bearer {TOKEN} ", f"Bearer {TOKEN[:-1]}", "Basic x"):
            sent = {} if credential is None else {"Authorization": credential}
            if credential != f"Bearer {TOKEN} ":  # whose space the parser takes away
                assert await statuses(client, **sent) == [401, 401, 401], credential
        assert running.did == []


async def test_who_lacks_the_token_is_told_which_kind_it_is(client: Asked, running: Running) -> None:
    running.token = TOKEN
    reply = await client.get("/api/v1/config")
    await problem(reply, 401, "unauthenticated")
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="gateway admin"'
    assert TOKEN not in await reply.text()


async def test_the_token_does_not_excuse_the_clients_own_header(client: Asked, running: Running) -> None:
    running.token = TOKEN
    reply = await client.post("/api/v1/drain", headers={"Authorization": f"Bearer {TOKEN}"})
    await problem(reply, 403, "forbidden")
    assert running.did == []


async def test_a_credential_that_is_no_text_is_just_wrong(client: Asked, running: Running) -> None:
    running.token = TOKEN
    head = b"GET /api/v1/config HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \xff\xfe\r\nConnection: close\r\n\r\n"
    assert (await raw(client, head)).split()[1] == b"401"


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/config",
        "//api/v1/config",
        "/./api/v1/config",
        "/metrics/../api/v1/config",
        "/%61pi/v1/config",
        "/api%2Fv1/config",
        "/api%2fv1%2fconfig",
        "/API/v1/config",
        "/api/v1/config/",
        "/api//v1/config",
        "/api/v1/./config",
        "/api/v1/%63onfig",
        "/api\\v1\\config",
        "/;/api/v1/config",
        "/api/v1/config?x=/metrics",
        "/api/v1/config#/metrics",
        "http://127.0.0.1/api/v1/config",
        "http:///api/v1/config",
    ],
)
async def test_no_spelling_of_a_path_leads_past_the_token(client: Asked, running: Running, target: str) -> None:
    running.token = TOKEN
    running.shown = {"hash": "the configuration"}
    reply = await raw(client, f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    assert reply.split()[1] in (b"400", b"401", b"404"), reply
    assert b"the configuration" not in reply


async def test_metrics_and_health_are_for_everybody(ask: Ask, running: Running) -> None:
    running.token = TOKEN
    stranger = await ask("192.0.2.7")
    for path in ("/metrics", "/healthz", "/readyz"):
        assert (await stranger.get(path, headers={"Host": "gateway.internal"})).status == 200


# -- what nobody is told -------------------------------------------------------------------------------


async def test_no_page_tells_a_secret(client: Asked, running: Running, tmp_path: Path) -> None:
    text = (
        "listen: {admin_token: '${ADMIN}'}\nstore: {url: 'redis://user:hunter2@localhost/0'}\n"
        f"auth: {{providers: {{p: {{type: jwt, secret: {SECRET}, algorithms: [HS256]}}}}}}\n" + UPSTREAM + ROUTE
    )
    config = loaded(tmp_path, text, {"ADMIN": TOKEN})
    running.shown = {"hash": "abc", "config": effective(config)}
    assert config.listen.admin_token is not None
    running.token = config.listen.admin_token.get_secret_value()
    allowed = {"Authorization": f"Bearer {TOKEN}", **OURS}
    shown = await (await client.get("/api/v1/config", headers=allowed)).text()
    assert json.loads(shown)["config"]["auth"]["providers"]["p"]["secret"] == "***"
    for path in ("/metrics", "/healthz", "/readyz", "/nowhere", *API):
        for headers in ({}, allowed):
            for reply in (await client.get(path, headers=headers), await client.post(path, headers=headers)):
                said = await reply.text() + str(reply.headers)
                assert not [secret for secret in (TOKEN, "hunter2", SECRET) if secret in said], path
