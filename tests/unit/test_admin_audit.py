"""The record of operators: one line for each change and for who was not let in, and nobody can forge one."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin.access import CLIENT
from gateway.admin.app import admin_app
from gateway.admin.audit import MOST_REFUSED, Occasions
from gateway.auth.ledger import Ledger
from gateway.telemetry.audit import LONGEST, audit
from tests.fakes import Clock
from tests.operated import Operated, settings

Asked = TestClient[web.Request, web.Application]
OURS = {CLIENT: "test"}
TOKEN = "a token for operators"


@pytest.fixture
def instance(tmp_path: Path) -> Operated:
    return Operated(settings(tmp_path), Ledger(tmp_path / "records", None), tmp_path / "notices")


@pytest.fixture
async def client(instance: Operated) -> AsyncIterator[Asked]:
    async with TestClient(TestServer(admin_app(instance))) as client:
        yield client


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "gateway.audit"]


async def test_a_change_is_one_line_that_its_reply_leads_to(client: Asked, caplog: pytest.LogCaptureFixture) -> None:
    reply = await client.post("/api/v1/keys", json={"consumer": "acme", "note": "hush"}, headers=OURS)
    made = await reply.json()
    (line,) = lines(caplog)
    shown = reply.headers["X-Request-Id"]
    assert line == (
        f"event=asked id={shown} by=local address=127.0.0.1 method=POST path=/api/v1/keys status=201 "
        f"consumer=acme key={made['id']}"
    )
    assert made["key"] not in caplog.text


async def test_what_is_concerned_is_told(client: Asked, caplog: pytest.LogCaptureFixture) -> None:
    rehearsal = {"route": "orders", "share": "5%", "status": 503, "for": "1m"}
    for path, body in (
        ("/api/v1/faults", rehearsal),
        ("/api/v1/circuits/u/open", {"target": "http://127.0.0.1:9001"}),
        ("/api/v1/revocations", {"jti": "abc"}),
    ):
        await client.post(path, json=body, headers=OURS)
    await client.put("/api/v1/log-level", json={"level": "debug"}, headers=OURS)
    fault, circuit, revocation, level = lines(caplog)
    assert " route=orders" in fault
    assert "path=/api/v1/circuits/u/open" in circuit
    assert "target=http://127.0.0.1:9001" in circuit
    assert " jti=abc revocation=" in revocation
    assert level.endswith(" level=debug")


async def test_a_change_that_was_refused_is_on_record_too(client: Asked, caplog: pytest.LogCaptureFixture) -> None:
    assert (await client.post("/api/v1/keys", json={"consumer": "nobody"}, headers=OURS)).status == 422
    assert " status=422" in lines(caplog)[0]


async def test_who_only_looks_is_not_on_record_but_has_an_id(client: Asked, caplog: pytest.LogCaptureFixture) -> None:
    reply = await client.get("/api/v1/keys")
    assert len(reply.headers["X-Request-Id"]) == 20
    assert "X-Request-Id" not in (await client.get("/healthz")).headers
    assert lines(caplog) == []


async def test_the_record_is_written_whatever_the_level_is(
    client: Asked, instance: Operated, caplog: pytest.LogCaptureFixture
) -> None:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        await client.post("/api/v1/drain", headers=OURS)
    finally:
        root.setLevel(level)
    assert len(lines(caplog)) == 1


async def test_who_was_not_let_in_is_on_record_but_cannot_fill_it(
    client: Asked, instance: Operated, caplog: pytest.LogCaptureFixture
) -> None:
    instance.token = TOKEN
    for _ in range(MOST_REFUSED + 20):
        reply = await client.get("/api/v1/config", headers={"Authorization": "Bearer guess"})
        assert reply.status == 401
    written = lines(caplog)
    assert MOST_REFUSED <= len(written) <= MOST_REFUSED + 2
    assert written[0].startswith(f"event=refused id={written[0].split()[1][3:]} by=nobody address=127.0.0.1 method=GET")
    assert "guess" not in caplog.text
    assert TOKEN not in caplog.text


async def test_who_has_the_token_is_told_apart(
    client: Asked, instance: Operated, caplog: pytest.LogCaptureFixture
) -> None:
    instance.token = TOKEN
    allowed = {"Authorization": f"Bearer {TOKEN}"}
    await client.post("/api/v1/drain", headers=allowed | OURS)
    await client.post("/api/v1/drain", headers=allowed)
    done, refused = lines(caplog)
    assert " by=token " in done
    assert refused.startswith("event=refused ")
    assert " by=token " in refused
    assert TOKEN not in caplog.text


async def test_nobody_forges_a_line_or_a_field(client: Asked, caplog: pytest.LogCaptureFixture) -> None:
    evil = "x%0aevent=asked%20by=token%22%E2%80%AE%1b[2J"
    assert (await client.delete(f"/api/v1/keys/{evil}", headers=OURS)).status == 404
    (line,) = lines(caplog)
    assert line.isascii()
    assert line.isprintable()
    assert r'path="/api/v1/keys/x\u{a}event=asked by=token\"\u{202e}\u{1b}[2J" status=404' in line


def test_values_are_cut_and_those_that_are_not_there_left_out(caplog: pytest.LogCaptureFixture) -> None:
    audit(event="x", what="a" * 10_000, nothing=None, number=3, back="\\")
    (line,) = lines(caplog)
    assert len(line) < LONGEST + 60
    assert line.endswith(' number=3 back="\\\\"')
    assert "nothing" not in line


def test_refusals_are_written_again_once_there_is_time_and_say_how_many_were_missed() -> None:
    clock = Clock()
    occasions = Occasions(clock)
    assert [occasions.take() for _ in range(MOST_REFUSED + 3)] == [0] * MOST_REFUSED + [None] * 3
    clock.advance(1)
    assert [occasions.take(), occasions.take()] == [3, None]
    clock.advance(1000)
    assert [occasions.take() for _ in range(MOST_REFUSED + 1)] == [1] + [0] * (MOST_REFUSED - 1) + [None]


# -- what browsers are told ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/api/v1/keys", "/api/v1/nothing", "/nothing", "/dashboard"])
async def test_every_reply_keeps_browsers_from_guessing_framing_and_keeping(client: Asked, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Server"] == "gateway"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == ("no-cache" if path == "/dashboard" else "no-store")


async def test_the_page_needs_no_token_and_tells_nothing(client: Asked, instance: Operated) -> None:
    instance.token = TOKEN
    reply = await client.get("/dashboard")
    assert reply.status == 200
    assert "Set-Cookie" not in reply.headers
    assert "acme" not in await reply.text()
