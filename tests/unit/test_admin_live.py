"""The live feed and the dashboard's files: who gets how much of them, and when it ends."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin import live
from gateway.admin.app import admin_app
from gateway.admin.page import FOLDER
from gateway.auth.ledger import Ledger
from gateway.telemetry.cells import Totals
from gateway.telemetry.collector import Snapshot
from gateway.telemetry.metrics import Metrics
from gateway.upstream.notices import Found
from tests.operated import Operated, settings

Asked = TestClient[web.Request, web.Application]

SNAPSHOT: Snapshot = {
    "reasons": [],
    "worker_restarts": 0,
    "workers": {"configured": 2, "ready": 1},
    "reloads": {"success": 0, "failure": 1},
    "last_reload": {"ok": False, "at": 0.0},
    "config": {"hash": "abc"},
    "certificates": {},
    "live": [],
    "started": 1_700_000_000.0,
}


class Living(Operated):
    """Counts in the metrics of one process, and how often it was looked at."""

    metrics = Metrics()
    looks = 0
    snapshot = SNAPSHOT
    trouble: Exception | None = None

    def totals(self, *names: str) -> Totals:
        self.looks += 1
        if self.trouble is not None:
            raise self.trouble
        kept = [(family, children) for family, children in self.metrics._kept if family.name in names]
        return {family.name: {labels: each.values for labels, each in children} for family, children in kept}

    def watched(self) -> dict[str, Any]:
        return {"errors": [], "slowest": [], "probes": [], "alerts": []}


@pytest.fixture
def instance(tmp_path: Path) -> Living:
    living = Living(settings(tmp_path), Ledger(tmp_path / "records", None), tmp_path / "notices")
    living.metrics = Metrics()
    return living


@pytest.fixture
async def client(instance: Living, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asked]:
    monkeypatch.setattr(live, "FIRST", 0.01)
    monkeypatch.setattr(live, "PERIOD", 0.02)
    client: Asked = TestClient(TestServer(admin_app(instance)))
    await client.start_server()
    try:
        yield client
    finally:
        await client.close()


async def told(reply: ClientResponse) -> dict[str, Any]:
    """The next state."""
    async with asyncio.timeout(5):
        while True:
            line = await reply.content.readline()
            assert line, "the feed has ended"
            if line.startswith(b"data: "):
                state: dict[str, Any] = json.loads(line[6:])
                return state


async def listen(client: Asked) -> ClientResponse:
    reply = await client.get("/api/v1/live")
    assert reply.status == 200
    assert reply.content_type == "text/event-stream"
    return reply


async def test_a_state_has_all_there_is_to_know(client: Asked, instance: Living) -> None:
    instance.metrics.requests.child("orders", "", "GET", "200", "").inc(3)

    said = await told(await listen(client))

    assert said["instance"] == {
        "version": said["instance"]["version"],
        "started": "2023-11-14T22:13:20Z",
        "workers": {"configured": 2, "ready": 1},
        "ready": True,
        "reasons": [],
        "hash": "abc",
        "reload_ok": False,
        "listeners": {},
        "loop_lag_ms": None,
    }
    assert set(said) == {
        *("at", "instance", "totals", "routes", "statuses", "reasons", "upstreams", "consumers", "probes", "alerts"),
        *("slo", "errors", "slowest", "more"),
    }
    assert [(each["name"], each["requests"]) for each in said["routes"] if each["requests"]] == [("orders", 3)]


async def test_targets_that_were_found_and_orders_of_operators_are_told(client: Asked, instance: Living) -> None:
    (name,) = instance.settings.upstreams
    (target,) = instance.settings.upstreams[name].targets
    found = "http://10.0.0.9:80"
    instance.board.post(
        found={name: (Found(found, 1, 0),)}, ill=frozenset({(name, found)}), held_open=frozenset({(name, target.url)})
    )

    (upstream,) = (await told(await listen(client)))["upstreams"]

    assert [(each["url"], each["healthy"], each["held"]) for each in upstream["targets"]] == [
        (target.url, True, True),
        (found, False, False),
    ]


async def test_all_listeners_share_one_look_and_without_them_there_is_none(client: Asked, instance: Living) -> None:
    assert instance.looks == 0
    replies = [await listen(client) for _ in range(3)]
    states = [await told(reply) for reply in replies]
    assert instance.looks <= 8, states
    for reply in replies:
        reply.close()
    await asyncio.sleep(0.2)
    before = instance.looks

    await asyncio.sleep(0.2)

    assert instance.looks == before
    assert (await told(await listen(client)))["totals"]["requests"] == 0  # and it begins again


async def test_one_too_many_is_told_so(client: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_LISTENERS", 2)
    first, _ = [await listen(client) for _ in range(2)]

    async with client.get("/api/v1/live") as refused:
        assert (refused.status, (await refused.json())["code"]) == (503, "overloaded")

    first.close()
    await asyncio.sleep(0.1)
    await told(await listen(client))


async def test_the_end_of_the_process_waits_for_nobody(instance: Living) -> None:
    runner = web.AppRunner(admin_app(instance), shutdown_timeout=30.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
    try:
        writer.write(b"GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"waiting\n\n")
        began = time.monotonic()

        await runner.cleanup()

        assert time.monotonic() - began < 2
        assert b"\r\n0\r\n\r\n" in await reader.read()
    finally:
        writer.close()


async def test_the_feed_ends_with_the_token_that_it_was_asked_with(client: Asked, instance: Living) -> None:
    instance.token = "old"
    reply = await client.get("/api/v1/live", headers={"Authorization": "Bearer old"})
    await told(reply)

    instance.token = "new"

    async with asyncio.timeout(5):
        await reply.content.read()
    assert (await client.get("/api/v1/live", headers={"Authorization": "Bearer old"})).status == 401


async def test_a_look_that_fails_ends_the_feed_and_the_next_listener_tries_again(
    client: Asked, instance: Living
) -> None:
    instance.trouble = OSError("no cells")
    async with asyncio.timeout(5):
        await (await listen(client)).content.read()

    instance.trouble = None

    await told(await listen(client))


async def test_who_does_not_read_gets_no_backlog(client: Asked, instance: Living) -> None:
    for number in range(2000):
        instance.metrics.requests.child(f"r{number}", "", "GET", "200", "").inc()
    slow, quick = await listen(client), await listen(client)
    first = await told(slow)
    for _ in range(20):
        await told(quick)
    instance.metrics.requests.child("orders", "", "GET", "200", "").inc(5)

    while (await told(quick))["totals"]["requests"] != 2005:
        pass
    behind = 0
    while (await told(slow))["totals"]["requests"] != 2005:
        behind += 1
    assert first["more"]["routes"] > 0
    assert behind <= 100  # what fits in the sockets' buffers


# -- the page ----------------------------------------------------------------------------------------


async def test_the_page_and_all_it_loads_are_served_with_a_strict_policy(client: Asked) -> None:
    named = re.findall(r'(?:src|href)="(dashboard/[^"]+)"', (FOLDER / "index.html").read_text())
    imported = {name for file in FOLDER.glob("*.js") for name in re.findall(r'from "\./([^"]+)"', file.read_text())}

    for path in ["dashboard", *named, *(f"dashboard/{name}" for name in imported)]:
        async with client.get(f"/{path}") as reply:
            assert reply.status == 200, path
            policy = reply.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
            assert "unsafe" not in policy
            tag = reply.headers["ETag"]
        async with client.get(f"/{path}", headers={"If-None-Match": tag}) as again:
            assert (again.status, await again.read()) == (304, b"")
    assert {file.name for file in FOLDER.glob("*.js")} == imported | {"app.js"}


async def test_nothing_else_is_served(client: Asked) -> None:
    for path in ("/dashboard/..%2fapp.py", "/dashboard/%2e%2e/page.py", "/dashboard/index.html", "/dashboard/nothing"):
        async with client.get(path) as reply:
            assert reply.status == 404, path


async def test_the_page_needs_no_token_and_the_feed_does(client: Asked, instance: Living) -> None:
    instance.token = "secret"

    assert (await client.get("/dashboard")).status == 200
    assert (await client.get("/api/v1/live")).status == 401


def test_nothing_in_the_page_can_make_markup_of_text() -> None:
    code = "\n".join(file.read_text() for file in FOLDER.glob("*.js"))

    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(|srcdoc", code) == []
    assert re.findall(r"\son\w+=|style=|<script>|https?://(?!www\.w3\.org)", (FOLDER / "index.html").read_text()) == []
