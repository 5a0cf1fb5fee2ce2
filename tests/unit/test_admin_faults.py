"""The admin API for rehearsals: what can be ordered, for how long, and that it ends."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin.access import CLIENT
from gateway.admin.app import admin_app
from gateway.auth.ledger import Ledger
from gateway.process.notices import NoticeBoard
from gateway.upstream.notices import Rehearsal, decode
from tests.configs import UPSTREAM, loaded
from tests.fakes import Clock
from tests.operated import Operated

NOW = 1_795_251_600.0  # 2026-11-21T09:00:00Z
OURS = {CLIENT: "test"}
ROUTES = "routes:\n" + "".join(f"  - {{name: {name}, match: {{path: /{name}}}, upstream: u}}\n" for name in ("r", "s"))
ORDER = {"route": "r", "share": "10%", "status": 503, "delay": "200ms", "for": "5m"}

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def running(tmp_path: Path, clock: Clock) -> Operated:
    made = Operated(loaded(tmp_path, UPSTREAM + ROUTES), Ledger(tmp_path / "records", None), tmp_path / "notices")
    made.board = NoticeBoard(made.notices, clock=clock)
    return made


@pytest.fixture
async def client(running: Operated) -> AsyncIterator[Client]:
    async with TestClient(TestServer(admin_app(running))) as client:
        yield client


async def ask(client, method, path="/api/v1/faults", body=None, status=200):
    """The answer, which must have this status."""
    reply = await client.request(method, path, json=body, headers=OURS)
    said = await reply.json(content_type=None)
    assert reply.status == status, said
    return said


def posted(running):
    return decode(running.notices.read_bytes()).faults


async def test_a_rehearsal_is_told_to_the_workers_with_its_end(client, running, caplog):
    made = await ask(client, "POST", body=ORDER, status=201)
    assert made == {
        "id": made["id"],
        "route": "r",
        "share": "10%",
        "status": 503,
        "delay": "200ms",
        "until": "2026-11-21T09:05:00Z",
        "left": 300,
    }
    assert posted(running) == (Rehearsal(made["id"], "r", 0.1, 503, 0.2, NOW + 300),)
    said = [(each.levelname, each.getMessage()) for each in caplog.records if each.name == "gateway.admin"]
    what = "status 503 after a delay of 200ms for 10% of route r, until 2026-11-21T09:05:00Z"
    assert said == [("WARNING", f"rehearsal {made['id']} begun by 127.0.0.1: {what}")]


async def test_a_status_or_a_delay_is_enough(client, running):
    first = await ask(client, "POST", body={"route": "r", "share": "100%", "status": "500", "for": "1s"}, status=201)
    assert (first["status"], first["delay"]) == (500, None)
    second = await ask(client, "POST", body={"route": "s", "share": "0.5%", "delay": "2s", "for": "1h"}, status=201)
    assert (second["status"], second["delay"], second["share"], second["left"]) == (None, "2s", "0.5%", 3600)
    assert [(each.status, each.delay, each.share) for each in posted(running)] == [(500, 0.0, 1.0), (0, 2.0, 0.005)]


async def test_the_list_has_the_time_that_is_left(client, running, clock):
    assert await ask(client, "GET") == {"faults": []}
    made = await ask(client, "POST", body=ORDER, status=201)
    clock.now += 60.0
    assert await ask(client, "GET") == {"faults": [{**made, "left": 240}]}
    clock.now += 240.0
    assert await ask(client, "GET") == {"faults": []}


async def test_one_is_stopped_by_its_id(client, running):
    first = await ask(client, "POST", body=ORDER, status=201)
    second = await ask(client, "POST", body={**ORDER, "route": "s"}, status=201)
    assert await ask(client, "DELETE", f"/api/v1/faults/{first['id']}") == {"stopped": [first]}
    assert [each.id for each in posted(running)] == [second["id"]]
    said = await ask(client, "DELETE", f"/api/v1/faults/{first['id']}", status=404)
    assert (said["code"], said["detail"]) == ("not_found", f"there is no rehearsal '{first['id']}'")


async def test_all_are_stopped_at_once(client, running, caplog):
    made = [await ask(client, "POST", body={**ORDER, "route": route}, status=201) for route in ("r", "s")]
    assert await ask(client, "DELETE") == {"stopped": made}
    assert posted(running) == ()
    assert await ask(client, "DELETE") == {"stopped": []}
    assert caplog.text.count("stopped by 127.0.0.1") == 2


async def test_a_route_has_one_at_a_time(client, clock):
    await ask(client, "POST", body=ORDER, status=201)
    said = await ask(client, "POST", body=ORDER, status=409)
    assert said["detail"] == "route r has a rehearsal already: stop that one first"
    clock.now += 300.0
    await ask(client, "POST", body=ORDER, status=201)


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        ({"route": None}, "route: is needed"),
        ({"share": None}, "share: is needed"),
        ({"for": None}, "for: is needed"),
        ({"status": None, "delay": None}, "status: is needed, or a delay"),
        ({"route": "rr"}, "route: there is no route 'rr'"),
        ({"route": 7}, "route: must be text"),
        ({"share": "0%"}, "share: must be more than 0%"),
        ({"share": "101%"}, "share: '101%' is not a share"),
        ({"share": 0.1}, "share: 0.1 is not a share"),
        ({"status": 200}, "status: must be an error status, from 400 to 599"),
        ({"status": 600}, "status: must be an error status"),
        ({"status": True}, "status: must be a whole number"),
        ({"status": 503.5}, "status: must be a whole number"),
        ({"delay": "0s"}, "delay: must be longer than nothing"),
        ({"delay": 5}, "delay: 5 is not a duration"),
        ({"delay": "6m"}, "delay: is longer than the rehearsal"),
        ({"for": "0s"}, "for: must be longer than nothing"),
        ({"for": "61m"}, "for: is longer than an hour"),
        ({"for": "none"}, "for: 'none' is not a duration"),
        ({"until": "tomorrow"}, "'until' is not known here"),
    ],
)
async def test_what_is_wrong_begins_nothing(client, running, changed, detail):
    body = {name: value for name, value in {**ORDER, **changed}.items() if value is not None}
    said = await ask(client, "POST", body=body, status=422)
    assert said["code"] == "invalid_request"
    assert said["detail"].startswith(detail)
    assert not running.notices.exists()


async def test_what_workers_could_not_be_told_is_no_success(client, running):
    running.board = NoticeBoard(Path("/nowhere/notices"))
    assert (await ask(client, "POST", body=ORDER, status=503))["code"] == "store_unavailable"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/v1/faults"), ("DELETE", "/api/v1/faults"), ("DELETE", "/api/v1/faults/flt_000000000000")],
)
async def test_a_page_in_a_browser_cannot_do_it(client, running, method, path):
    assert (await client.request(method, path, json=ORDER)).status == 403
    assert not running.notices.exists()
