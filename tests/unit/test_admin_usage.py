"""The admin API for usage, around a store that has what the test says."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin.access import CLIENT
from gateway.admin.app import admin_app
from gateway.admin.usage import Usage
from gateway.auth.ledger import Ledger
from gateway.telemetry.usage import HOURS, HOURS_KEPT, UsageStoreError
from tests.configs import ROUTE, UPSTREAM, loaded
from tests.operated import AUTH, Operated

NOW = 1_795_253_892.0  # 2026-11-21T09:38:12Z
KEEP = 10 * 86400.0

ALICE, BOB = ("idp", "alice", "orders", ""), ("idp", "bob", "orders", "")
ACME = ("acme", "acme", "invoices", "")
NOBODY = ("", "", "", "")


class Store:
    """Has `counts` by unit, period and key; remembers what it was asked for."""

    def __init__(self):
        self.counts = {}
        self.asked = []
        self.away = False
        self.at_once = self.most_at_once = 0

    def put(self, unit, ago, key, *numbers):
        period = int(NOW // unit.seconds) - ago
        self.counts.setdefault((unit, period), []).append((key, (*numbers, 0, 0, 0, 0)[:4]))

    def kept(self, unit):
        return HOURS_KEPT if unit is HOURS else KEEP

    async def read(self, unit, first, end):
        self.asked.append((unit.name, first - int(NOW // unit.seconds), end - int(NOW // unit.seconds)))
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        for period in reversed(range(first, end)):
            await asyncio.sleep(0)
            if self.away:
                raise UsageStoreError("TimeoutError: no answer")
            yield self.counts.get((unit, period), [])
        self.at_once -= 1


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def running(tmp_path, store):
    made = Operated(
        loaded(tmp_path, "store: {url: embedded}\n" + AUTH + UPSTREAM + ROUTE), Ledger(tmp_path / "records", None)
    )
    made.usage = store
    return made


@pytest.fixture
async def client(running):
    app = web.Application()
    app.add_routes(Usage(running, lambda: NOW).routes())
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.fixture
def ask(client):
    """The answer to a question."""

    async def ask(**query):
        reply = await client.get("/api/v1/usage", params={name.rstrip("_"): value for name, value in query.items()})
        said = await reply.json()
        assert reply.status == 200, said
        return said

    return ask


async def problem(client, query, status, code):
    """The detail of the problem that is the answer."""
    reply = await client.get(f"/api/v1/usage?{query}")
    said = await reply.json(content_type=None)
    assert (reply.status, said["status"], said["code"]) == (status, status, code), said
    assert reply.content_type == "application/problem+json"
    return said["detail"]


def names(said):
    return [(row.get("consumer"), row.get("route"), row["calls"]) for row in said["rows"]]


# -- answers -------------------------------------------------------------------------------------------


async def test_by_itself_it_tells_the_last_day_by_caller_and_route_the_busiest_first(ask, store):
    store.put(HOURS, 0, ALICE, 10, 1, 2, 50_000)
    store.put(HOURS, 1, ALICE, 10, 0, 0, 10_000)
    store.put(HOURS, 1, ACME, 30, 0, 0, 3_000_000)
    store.put(HOURS, 24, NOBODY, 1)
    store.put(HOURS, 25, BOB, 1000)
    assert await ask() == {
        "from": "2026-11-20T09:00:00Z",
        "to": "2026-11-21T09:38:12Z",
        "unit": "hours",
        "kept_since": "2026-11-19T09:00:00Z",
        "durable": False,
        "by": ["consumer", "route"],
        "total": {
            "calls": 51,
            "errors": 1,
            "refused": 2,
            "error_share": 0.019608,
            "refused_share": 0.039216,
            "average_ms": 60.0,
        },
        "groups": 3,
        "rows": [
            {
                "label": "acme",
                "consumer": "acme",
                "route": "invoices",
                "calls": 30,
                "errors": 0,
                "refused": 0,
                "error_share": 0.0,
                "refused_share": 0.0,
                "average_ms": 100.0,
            },
            {
                "label": "idp",
                "consumer": "alice",
                "route": "orders",
                "calls": 20,
                "errors": 1,
                "refused": 2,
                "error_share": 0.05,
                "refused_share": 0.1,
                "average_ms": 3.0,
            },
            {
                "label": "",
                "consumer": "",
                "route": "",
                "calls": 1,
                "errors": 0,
                "refused": 0,
                "error_share": 0.0,
                "refused_share": 0.0,
                "average_ms": 0.0,
            },
        ],
    }


async def test_by_consumer_adds_up_routes_but_not_the_callers_of_two_issuers(ask, store):
    for key in (ALICE, ("idp", "alice", "invoices", ""), ("partner", "alice", "orders", "")):
        store.put(HOURS, 0, key, 5)
    said = await ask(by="consumer")
    assert [(row["label"], row["consumer"], row["calls"]) for row in said["rows"]] == [
        ("idp", "alice", 10),
        ("partner", "alice", 5),
    ]
    assert said["by"] == ["consumer"]
    assert "route" not in said["rows"][0]


async def test_by_route_adds_up_callers(ask, store):
    for key in (ALICE, BOB, ACME):
        store.put(HOURS, 0, key, 5)
    said = await ask(by="route")
    assert names(said) == [(None, "orders", 10), (None, "invoices", 5)]
    assert "label" not in said["rows"][0]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"route": "orders"}, {"alice", "bob"}),
        ({"consumer": "alice"}, {"alice"}),
        ({"consumer": "alice", "route": "invoices"}, set()),
        ({"consumer": ""}, {""}),
        ({"route": ""}, {""}),
        ({"consumer": "ali"}, set()),
        ({"consumer": "a\tb"}, {"a\\tb"}),
    ],
)
async def test_only_some(ask, store, wanted, found):
    for key in (ALICE, BOB, ACME, NOBODY, ("idp", "a\\tb", "r", "")):
        store.put(HOURS, 0, key, 5)
    said = await ask(**wanted)
    assert {row["consumer"] for row in said["rows"]} == found
    assert said["total"]["calls"] == 5 * len(found)


async def test_no_more_rows_than_asked_for_but_the_total_of_all(ask, store):
    for i in range(1200):
        store.put(HOURS, 0, ("idp", f"u{i:04}", "orders", ""), 1)
    assert len((await ask())["rows"]) == 100
    assert len((await ask(limit="1000"))["rows"]) == 1000
    said = await ask(limit="2")
    assert names(said) == [("u0000", "orders", 1), ("u0001", "orders", 1)]
    assert (said["groups"], said["total"]["calls"]) == (1200, 1200)


async def test_nothing_is_an_answer_too(ask):
    said = await ask()
    assert (said["rows"], said["groups"], said["total"]["calls"]) == ([], 0, 0)


async def test_what_is_added_up_is_bounded(ask, store, monkeypatch):
    monkeypatch.setattr("gateway.admin.usage.MOST_GROUPS", 10)
    for ago in (0, 1):
        for i in range(20):
            store.put(HOURS, ago, ("idp", f"u{i}", "orders", ""), 1)
    said = await ask()
    assert said["groups"] == 11
    assert said["total"]["calls"] == 40
    assert (said["rows"][0]["label"], *names(said)[0]) == ("", "other", "orders", 20)


async def test_one_question_after_another(client, store):
    replies = await asyncio.gather(*(client.get("/api/v1/usage") for _ in range(5)))
    assert [reply.status for reply in replies] == [200] * 5
    assert store.most_at_once == 1


# -- times ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ({}, ("hours", -24, 1)),
        ({"from_": "2026-11-21"}, ("hours", -9, 1)),
        ({"from_": "2026-11-21T09:00:00Z"}, ("hours", 0, 1)),
        ({"from_": "2026-11-21T10:30:00+01:00"}, ("hours", 0, 1)),
        ({"from_": str(int(NOW) - 1)}, ("hours", 0, 1)),
        ({"from_": "2026-11-20", "to": "2026-11-20"}, ("hours", -33, -9)),
        ({"from_": "2026-11-20T09:30:00Z", "to": "2026-11-20T10:00:00Z"}, ("hours", -24, -23)),
        ({"from_": "2026-11-20T09:30:00Z", "to": "2026-11-20T10:00:01Z"}, ("hours", -24, -22)),
        ({"from_": "2026-11-19"}, ("days", -2, 1)),  # its first hours are gone
        ({"from_": "2026-11-19", "unit": "hours"}, ("hours", -48, 1)),
        ({"from_": "2026-11-21", "unit": "days"}, ("days", 0, 1)),
        ({"from_": "2026-11-15", "to": "2026-11-18"}, ("days", -6, -2)),
        ({"to": "2026-11-18"}, ("days", -3, -2)),
        ({"from_": "2026-01-01"}, ("days", -10, 1)),
        ({"to": "2030-01-01"}, ("hours", -24, 1)),
    ],
)
async def test_whole_hours_or_days_from_one_time_to_another(ask, store, query, asked):
    await ask(**query)
    assert store.asked == [asked]


async def test_the_answer_says_what_it_is_about_when_less_is_kept_than_was_asked_for(ask):
    said = await ask(from_="2026-01-01")
    assert said["from"] == said["kept_since"] == "2026-11-11T00:00:00Z"


async def test_a_durable_store_says_so(running, tmp_path, client):
    running.settings = loaded(tmp_path, "store: {url: 'redis://127.0.0.1'}\n" + UPSTREAM + ROUTE)
    assert (await (await client.get("/api/v1/usage")).json())["durable"] is True


# -- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("form=2026-11-21", "'form' is not known here (did you mean 'from'?)"),
        ("by=route&by=consumer", "by: is there twice"),
        ("by=", "by: '' is not some of consumer,route,version"),
        ("by=route,route", "by: "),
        ("by=hour", "by: "),
        ("unit=weeks", "unit: 'weeks' is neither hours nor days"),
        ("limit=0", "limit: '0' is not a number from 1 to 1000"),
        ("limit=1001", "limit: "),
        ("limit=-1", "limit: "),
        ("limit=1e2", "limit: "),
        ("limit=" + "9" * 5000, "limit: "),
        ("limit=%D9%A3", "limit: "),
        ("from=yesterday", "from: 'yesterday' is neither a day such as 2026-11-21 nor a time such as"),
        ("from=2026-02-30", "from: '2026-02-30' is not in the calendar"),
        ("from=0000-00-00", "from: "),
        ("from=2026-11-21T09:00:00", "from: "),
        ("from=-1", "from: "),
        ("from=nan", "from: "),
        ("to=9999-99-99", "to: "),
        ("from=%00", "from: "),
        ("from=2026-11-22", "from: is not before now"),
        ("from=2026-11-20&to=2026-11-19", "from: is not before `to`"),
        ("from=2026-11-20T09:00:00Z&to=2026-11-20T09:00:00Z", "from: is not before `to`"),
        ("from=2026-10-01&to=2026-11-10", "to: days are kept since 2026-11-11T00:00:00Z only"),
        ("from=2026-11-18&to=2026-11-18&unit=hours", "to: hours are kept since 2026-11-19T09:00:00Z only"),
        ("to=1970-01-01", "to: days are kept since"),
    ],
)
async def test_a_question_that_is_none_is_refused_with_the_reason(client, store, query, detail):
    assert detail in await problem(client, query, 422, "invalid_request")
    assert store.asked == []


async def test_without_usage_in_the_configuration_there_is_nothing_to_tell(client, running):
    running.usage = None
    assert "`usage`" in await problem(client, "", 409, "conflict")


async def test_a_store_that_is_away_is_a_503_and_the_next_question_is_answered(client, store, ask):
    store.away = True
    assert "no answer" in await problem(client, "", 503, "store_unavailable")
    store.away = False
    assert (await ask())["rows"] == []


async def test_it_is_for_operators_only(running):
    running.token = "t0p"
    async with TestClient(TestServer(admin_app(running))) as client:
        assert (await client.get("/api/v1/usage")).status == 401
        headers = {"Authorization": "Bearer t0p"}
        assert (await client.get("/api/v1/usage?by=route", headers=headers)).status == 200
        assert (await client.post("/api/v1/usage", headers={**headers, CLIENT: "test"})).status == 405


# -- versions ------------------------------------------------------------------------------------------

VERSIONS = """\
routes:
  - name: orders
    match: {path: /orders/**}
    versions:
      available:
        v1: {upstream: u, deprecated: 2026-01-01, sunset: 2027-06-30, successor: v3}
        v2+: {upstream: u, sunset: 2027-12-31}
        v3: {upstream: u}
"""


@pytest.fixture
def with_versions(running, tmp_path, store):
    running.settings = loaded(tmp_path, "store: {url: embedded}\n" + AUTH + UPSTREAM + VERSIONS)
    for consumer, version, calls in (("alice", "v1", 9), ("bob", "v1", 3), ("bob", "v2", 2), ("bob", "v3", 90)):
        store.put(HOURS, 0, ("idp", consumer, "orders", version), calls)
    store.put(HOURS, 0, ("idp", "alice", "invoices", "v1"), 50)  # another route's version
    store.put(HOURS, 0, NOBODY, 7)


def called(said):
    return [(row["consumer"], row["version"], row["calls"]) for row in said["rows"]]


async def test_who_still_calls_versions_that_go_away(ask, with_versions):
    said = await ask(deprecated="true")
    assert said["by"] == ["consumer", "route", "version"]
    assert called(said) == [("alice", "v1", 9), ("bob", "v1", 3), ("bob", "v2", 2)]
    assert said["total"]["calls"] == 14
    v1, _, v2 = said["rows"]
    dates = ("deprecated", "sunset", "successor")
    assert [v1.get(key) for key in dates] == ["2026-01-01T00:00:00Z", "2027-06-30T00:00:00Z", "v3"]
    assert [v2.get(key) for key in dates] == [None, "2027-12-31T00:00:00Z", None]


async def test_by_version_and_only_one(ask, with_versions):
    said = await ask(by="route,version", route="orders")
    assert [(row["version"], row["calls"]) for row in said["rows"]] == [("v3", 90), ("v1", 12), ("v2", 2)]
    assert "sunset" in said["rows"][1]
    assert "sunset" not in said["rows"][0]
    assert called(await ask(by="consumer,version", version="v1")) == [("alice", "v1", 59), ("bob", "v1", 3)]
    assert called(await ask(by="consumer,version", version="")) == [("", "", 7)]
    assert names(await ask(deprecated="true", by="consumer")) == [("alice", None, 9), ("bob", None, 5)]


async def test_callers_beyond_the_bound_keep_their_version(ask, with_versions, monkeypatch):
    monkeypatch.setattr("gateway.admin.usage.MOST_GROUPS", 1)
    assert called(await ask(deprecated="true")) == [("alice", "v1", 9), ("other", "v1", 3), ("other", "v2", 2)]


async def test_deprecated_is_true_or_false(client, with_versions):
    assert "neither true nor false" in await problem(client, "deprecated=yes", 422, "invalid_request")
