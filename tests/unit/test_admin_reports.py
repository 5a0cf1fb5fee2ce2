"""The admin API for recent errors, the slowest requests, and the tail: what it says, whom it serves, when it ends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin import tail as module
from gateway.admin.app import admin_app
from gateway.auth.ledger import Ledger
from gateway.process.mailbox import LINES, MOST_TAPS
from gateway.telemetry.reports import ERROR, SLOW, TAIL
from gateway.upstream.notices import decode
from tests.operated import Operated, settings
from tests.unit.test_mailbox import batch
from tests.unit.test_telemetry_recent import record

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def running(tmp_path: Path) -> Operated:
    return Operated(settings(tmp_path), Ledger(tmp_path / "records", None), tmp_path / "notices")


@pytest.fixture
async def client(running: Operated) -> AsyncIterator[Client]:
    async with TestClient(TestServer(admin_app(running))) as client:
        yield client


async def ask(client, path, status=200):
    reply = await client.get(path)
    assert reply.status == status, await reply.text()
    return await reply.json(content_type=None)


async def event(reply):
    """The next one: its name, and what it says."""
    async with asyncio.timeout(5):
        name, data = "message", None
        while line := await reply.content.readline():
            if line.startswith(b"event: "):
                name = line[7:].decode().strip()
            elif line.startswith(b"data: "):
                data = orjson.loads(line[6:])
            elif line == b"\n" and data is not None:
                return name, data
    return "end", None


# -- errors and slowest -----------------------------------------------------------------------------------


async def test_a_filter_that_means_nothing_there_is_not_ignored(client):
    said = await ask(client, "/api/v1/slowest?route=orders", 422)
    assert "route" in said["detail"]


async def test_errors_are_listed_with_explanations_and_filters(client, running):
    running.mailbox.hear(batch(*((ERROR, record(n, 503 if n % 2 else 404, reason="no_route")) for n in range(10))))
    found = (await ask(client, "/api/v1/errors"))["errors"]
    assert [each["id"] for each in found] == [f"id-{n}" for n in range(9, -1, -1)]
    assert all("gateway explain" in each["explanation"] for each in found)
    assert len((await ask(client, "/api/v1/errors?status=404&limit=3"))["errors"]) == 3
    assert len((await ask(client, "/api/v1/errors?code=no_route&status=5xx&route=orders"))["errors"]) == 5
    assert (await ask(client, "/api/v1/errors?route=nowhere"))["errors"] == []


@pytest.mark.parametrize(
    "query", ["status=abc", "limit=0", "limit=201", "limit=x", "limit=1&limit=2", "colour=red", "route=a&route=b"]
)
async def test_a_filter_that_is_none_is_refused(client, query):
    said = await ask(client, f"/api/v1/errors?{query}", 422)
    assert query.split("=")[0] in said["detail"]


async def test_the_slowest_come_first(client, running):
    running.mailbox.hear(batch((SLOW, record(1, 200, 5.0, reason="")), (SLOW, record(2, 200, 50.0, reason=""))))
    found = (await ask(client, "/api/v1/slowest"))["slowest"]
    assert [each["id"] for each in found] == ["id-2", "id-1"]
    assert all(each["explanation"] for each in found)


@pytest.mark.parametrize("path", ["errors", "slowest", "tail"])
async def test_they_are_for_operators_only(client, running, path):
    running.token = "s3cret"
    await ask(client, f"/api/v1/{path}", 401)


# -- tail -----------------------------------------------------------------------------------------------------


async def test_a_tail_says_that_it_is_ready_and_then_each_request(client, running):
    async with client.get("/api/v1/tail?status=5xx") as reply:
        assert reply.headers["Content-Type"] == "text/event-stream"
        assert await event(reply) == ("ready", {"silent": []})
        running.mailbox.hear(batch((TAIL, record(1)), (TAIL, record(2, 200)), (TAIL, record(3))))
        assert await event(reply) == ("message", record(1))
        assert await event(reply) == ("message", record(3))


async def test_workers_are_asked_while_somebody_tails_and_not_longer(client, running):
    async with client.get("/api/v1/tail") as reply:
        await event(reply)
        assert decode(running.notices.read_bytes()).tail_until > running.mailbox.clock()
        running.mailbox.close()
        assert await event(reply) == ("end", None)
    assert decode(running.notices.read_bytes()).tail_until == 0


async def test_a_worker_that_does_not_answer_does_not_hold_up_the_others(client, running, monkeypatch):
    monkeypatch.setattr(module, "ANSWERED_WITHIN", 0.01)
    running.mailbox._live = lambda: ["1", "2"]
    running.mailbox.hear(batch(until=running.mailbox.clock() + 10))
    async with client.get("/api/v1/tail") as reply:
        assert await event(reply) == ("ready", {"silent": ["2"]})


async def test_who_reads_too_slowly_is_told_what_was_lost(client, running):
    async with client.get("/api/v1/tail") as reply:
        await event(reply)
        for _ in range(LINES // 100 + 1):  # all in one moment, in which nothing is written
            running.mailbox.hear(batch(*[(TAIL, record(1))] * 100))
        found = [await event(reply) for _ in range(LINES + 1)]
        assert found[-1] == ("dropped", {"count": 100})
        assert {name for name, _ in found[:-1]} == {"message"}


async def test_silence_is_broken_so_that_each_side_knows_of_the_other(client, running, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT", 0.01)
    async with client.get("/api/v1/tail") as reply:
        await event(reply)
        assert await reply.content.readline() == b": still here\n"


async def test_another_token_ends_a_tail(client, running, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT", 0.01)
    async with client.get("/api/v1/tail") as reply:
        await event(reply)
        running.token = "new"
        assert await event(reply) == ("end", None)


async def test_a_wrong_filter_and_too_many_readers_are_refused(client, running):
    assert "status:" in (await ask(client, "/api/v1/tail?status=x", 422))["detail"]
    for _ in range(MOST_TAPS):
        running.mailbox.attach(lambda record: True)
    assert (await ask(client, "/api/v1/tail", 503))["code"] == "overloaded"
