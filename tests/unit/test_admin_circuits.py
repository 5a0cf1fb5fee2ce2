"""The admin API for circuits and upstreams: what it shows of all workers, and what operators can do by hand."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin.access import CLIENT
from gateway.admin.app import admin_app
from gateway.admin.transitions import KEPT, Transitions
from gateway.auth.ledger import Ledger
from gateway.process.notices import NoticeBoard
from gateway.upstream.notices import Found, decode
from tests.configs import loaded
from tests.operated import Operated

NOW = 1_795_251_600.0  # 2026-11-21T09:00:00Z
OURS = {CLIENT: "test"}
A, B = "http://127.0.0.1:9001", "http://127.0.0.1:9002"
SETTINGS = f"""\
upstreams:
  orders: {{targets: ['{A}', {{url: '{B}', weight: 2}}], eject: {{}}}}
  team/shared: {{targets: ['{A}', '{B}'], breaker: {{per: upstream}}, balance: {{hash: consumer}}}}
  bare: {{targets: ['{A}'], breaker: off}}
routes:
  - {{name: r, match: {{path: /r}}, upstream: orders}}
"""

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def running(tmp_path: Path) -> Operated:
    return Operated(loaded(tmp_path, SETTINGS), Ledger(tmp_path / "records", None), tmp_path / "notices")


@pytest.fixture
async def client(running: Operated) -> AsyncIterator[Client]:
    async with TestClient(TestServer(admin_app(running))) as client:
        yield client


async def ask(client, method, path, body=None, status=200):
    """The answer, which must have this status."""
    reply = await client.request(method, path, json=body, headers=OURS)
    said = await reply.json(content_type=None)
    assert reply.status == status, said
    return said


def posted(running):
    return decode(running.notices.read_bytes())


# -- what they show ------------------------------------------------------------------------------------


async def test_every_circuit_is_shown_with_the_worst_state_of_all_workers(client, running):
    running.said["gateway_breaker_state"] = {
        ("orders", A): 0.0,
        ("orders", B): 2.0,
        ("team/shared", A): 1.0,
        ("team/shared", B): 1.0,
        ("bare", A): 0.0,
        ("of another configuration", A): 2.0,
    }
    running.board.post(held_open=frozenset({("orders", B)}))
    assert (await ask(client, "GET", "/api/v1/circuits"))["circuits"] == [
        {"upstream": "orders", "target": A, "state": "closed", "held": False},
        {"upstream": "orders", "target": B, "state": "open", "held": True},
        {"upstream": "team/shared", "target": None, "state": "half-open", "held": False},
    ]


async def test_a_circuit_that_no_worker_has_told_of_has_no_state(client):
    assert {each["state"] for each in (await ask(client, "GET", "/api/v1/circuits"))["circuits"]} == {None}


async def test_discovered_targets_have_circuits_too(client, running):
    running.board.post(found={"orders": (Found(B, 1, 0), Found("http://10.0.0.9:80", 1, 0))})
    said = await ask(client, "GET", "/api/v1/circuits")
    assert [each["target"] for each in said["circuits"]] == [A, B, "http://10.0.0.9:80", None]


async def test_the_latest_changes_come_first(client, running):
    running.transitions.note({}, NOW)
    running.transitions.note({("orders", A, "open"): 2.0}, NOW + 1)
    running.transitions.note({("orders", A, "open"): 2.0, ("team/shared", "", "open"): 1.0}, NOW + 2)
    assert (await ask(client, "GET", "/api/v1/circuits"))["events"] == [
        {"at": "2026-11-21T09:00:02Z", "upstream": "team/shared", "target": None, "to": "open", "times": 1},
        {"at": "2026-11-21T09:00:01Z", "upstream": "orders", "target": A, "to": "open", "times": 2},
    ]


def test_what_was_counted_before_the_first_look_is_no_news():
    transitions = Transitions()
    transitions.note({("u", A, "open"): 7.0}, NOW)
    transitions.note({("u", A, "open"): 7.0}, NOW + 1)
    assert list(transitions) == []
    transitions.note({("u", A, "open"): 8.0}, NOW + 2)
    assert [(each.at, each.to, each.times) for each in transitions] == [(NOW + 2, "open", 1)]


def test_within_one_look_a_circuit_is_half_open_before_anything_else():
    transitions = Transitions()
    transitions.note({}, NOW)
    transitions.note({("u", A, "closed"): 1.0, ("u", A, "half-open"): 1.0}, NOW + 1)
    transitions.note({("u", A, "closed"): 1.0, ("u", A, "open"): 2.0, ("u", A, "half-open"): 3.0}, NOW + 2)
    assert [each.to for each in transitions] == ["open", "half-open", "closed", "half-open"]


def test_only_the_last_hundred_changes_are_kept():
    transitions = Transitions()
    for number in range(KEPT + 51):
        transitions.note({("u", A, "open"): float(number)}, NOW + number)
    kept = [each.at for each in transitions]
    assert kept == [NOW + number for number in range(KEPT + 50, 50, -1)]


# -- what can be done by hand --------------------------------------------------------------------------


async def test_a_circuit_is_held_open_until_it_is_closed(client, running, caplog):
    one = {"upstream": "orders", "target": B}
    assert await ask(client, "POST", "/api/v1/circuits/orders/open", {"target": B}) == {**one, "held": True}
    assert posted(running).held_open == {("orders", B)}
    assert await ask(client, "POST", "/api/v1/circuits/orders/open", {"target": B}) == {**one, "held": True}
    assert await ask(client, "POST", "/api/v1/circuits/orders/close", {"target": B}) == {**one, "held": False}
    assert posted(running).held_open == frozenset()
    assert posted(running).closed == {("orders", B): 1}
    said = [(each.levelname, each.getMessage()) for each in caplog.records if each.name == "gateway.admin"]
    opened = ("WARNING", f"circuit of orders {B} held open by 127.0.0.1")
    assert said == [opened, opened, ("WARNING", f"circuit of orders {B} closed by 127.0.0.1")]


async def test_without_a_target_it_is_about_all_of_the_upstream(client, running):
    await ask(client, "POST", "/api/v1/circuits/orders/open", {"target": B})
    said = await ask(client, "POST", "/api/v1/circuits/orders/open")
    assert said == {"upstream": "orders", "target": None, "held": True}
    assert [each["held"] for each in (await ask(client, "GET", "/api/v1/circuits"))["circuits"]] == [True, True, False]
    await ask(client, "POST", "/api/v1/circuits/orders/close")
    assert posted(running).held_open == frozenset()
    assert posted(running).closed == {("orders", ""): 1}


async def test_each_closing_is_news_for_the_workers(client, running):
    for times in (1, 2, 3):
        await ask(client, "POST", "/api/v1/circuits/orders/close")
        assert posted(running).closed == {("orders", ""): times}


async def test_an_upstream_whose_name_has_a_slash(client, running):
    said = await ask(client, "POST", "/api/v1/circuits/team%2Fshared/open")
    assert said["upstream"] == "team/shared"
    assert posted(running).held_open == {("team/shared", "")}


async def test_a_target_may_be_written_as_in_the_configuration(client):
    said = await ask(client, "POST", "/api/v1/circuits/orders/open", {"target": "HTTP://127.0.0.1:9001/"})
    assert said["target"] == A


async def test_a_discovered_target_can_be_held(client, running):
    running.board.post(found={"orders": (Found("http://10.0.0.9:80", 1, 0),)})
    said = await ask(client, "POST", "/api/v1/circuits/orders/open", {"target": "http://10.0.0.9:80"})
    assert said["held"] is True


@pytest.mark.parametrize("action", ["open", "close"])
@pytest.mark.parametrize(
    ("upstream", "body", "status", "code", "detail"),
    [
        ("order", None, 404, "not_found", "there is no upstream 'order' (did you mean 'orders'?)"),
        ("orders", {"target": "http://127.0.0.1:9003"}, 404, "not_found", "upstream orders has no target"),
        ("bare", None, 409, "conflict", "upstream bare has no circuits: its breaker is off"),
        ("team%2Fshared", {"target": A}, 409, "conflict", "the targets of team/shared share one circuit"),
        ("orders", {"target": 7}, 422, "invalid_request", "target: must be text"),
        ("orders", {"target": ""}, 422, "invalid_request", "target: is empty"),
        ("orders", {"tarket": A}, 422, "invalid_request", "'tarket' is not known here (did you mean 'target'?)"),
        ("orders", [A], 422, "invalid_request", "the body must be an object"),
    ],
)
async def test_what_cannot_be_done_says_why(client, running, action, upstream, body, status, code, detail):
    said = await ask(client, "POST", f"/api/v1/circuits/{upstream}/{action}", body, status)
    assert said["code"] == code
    assert said["detail"].startswith(detail)
    assert not running.notices.exists()


async def test_one_of_several_that_are_held_together_cannot_be_closed_alone(client, running):
    await ask(client, "POST", "/api/v1/circuits/orders/open")
    said = await ask(client, "POST", "/api/v1/circuits/orders/close", {"target": A}, 409)
    assert said["detail"].startswith("all circuits of orders are held open together")
    assert posted(running).held_open == {("orders", "")}


async def test_what_workers_could_not_be_told_is_no_success(client, running):
    running.board = NoticeBoard(Path("/nowhere/notices"))
    for action in ("open", "close"):
        said = await ask(client, "POST", f"/api/v1/circuits/orders/{action}", None, 503)
        assert said["code"] == "store_unavailable"


@pytest.mark.parametrize("path", ["/api/v1/circuits/orders/open", "/api/v1/circuits/orders/close"])
async def test_a_page_in_a_browser_cannot_do_it(client, running, path):
    assert (await client.post(path)).status == 403
    assert not running.notices.exists()


# -- upstreams -----------------------------------------------------------------------------------------


async def test_upstreams_are_shown_with_their_targets_and_how_those_are(client, running):
    running.said = {
        "gateway_breaker_state": {("orders", A): 0.0, ("orders", B): 2.0, ("team/shared", A): 1.0},
        "gateway_upstream_connections": {("orders", "busy"): 3.0, ("orders", "idle"): 5.0},
        "gateway_target_healthy": {("orders", A): 0.0, ("orders", B): 0.0, ("bare", A): 0.0},
    }
    new = "http://10.0.0.9:80"
    running.board.post(
        ill=frozenset({("orders", A)}), found={"orders": (Found(new, 5, 1),)}, held_open=frozenset({("orders", B)})
    )
    orders, shared, bare = (await ask(client, "GET", "/api/v1/upstreams"))["upstreams"]
    assert {name: orders[name] for name in ("name", "balance", "connections")} == {
        "name": "orders",
        "balance": "round_robin",
        "connections": {"busy": 3, "idle": 5},
    }
    assert [tuple(each.values()) for each in orders["targets"]] == [
        (A, 1, 0, False, False, False, "closed", False),
        (B, 2, 0, False, True, True, "open", True),
        (new, 5, 1, True, True, None, None, False),
    ]
    names = ["url", "weight", "priority", "discovered", "healthy", "ejected", "circuit", "held"]
    assert {tuple(each) for each in orders["targets"]} == {tuple(names)}
    assert shared["balance"] == {"hash": "consumer"}
    assert shared["connections"] == {"busy": None, "idle": None}
    assert [each["circuit"] for each in shared["targets"]] == ["half-open", None]
    assert [(each["circuit"], each["held"], each["ejected"]) for each in bare["targets"]] == [(None, False, None)]
