"""The admin API for keys and revocations, around a real ledger: what it does, what it refuses, what it never tells."""

import asyncio
import logging
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin.access import CLIENT
from gateway.admin.app import admin_app
from gateway.auth.ledger import Ledger, LedgerError
from gateway.auth.records import Records, read
from gateway.exchange import Caller
from tests.operated import CONFIGURED, NO_KEYS, NO_REVOCATION, Operated, settings

NOW = 1_795_251_600.0  # 2026-11-21T09:00:00Z
DAY = 86400.0
OURS = {CLIENT: "test"}
ENDPOINTS = [
    ("GET", "/api/v1/keys"),
    ("POST", "/api/v1/keys"),
    ("POST", "/api/v1/keys/key_000000000000/rotate"),
    ("DELETE", "/api/v1/keys/key_000000000000"),
    ("GET", "/api/v1/revocations"),
    ("POST", "/api/v1/revocations"),
    ("DELETE", "/api/v1/revocations/rev_000000000000"),
]

Client = TestClient[web.Request, web.Application]


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def copy(tmp_path):
    return tmp_path / "records"


@pytest.fixture
def running(tmp_path: Path, copy: Path, clock: Clock) -> Operated:
    return Operated(settings(tmp_path), Ledger(copy, None, clock=clock))


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


async def problem(client, method, path, body, status, code):
    """The detail of the problem that is the answer."""
    said = await ask(client, method, path, body, status)
    assert (said["status"], said["code"]) == (status, code)
    assert said["type"].endswith(f"/problems/{code}")
    assert said["title"]
    return said["detail"]


async def records(copy, clock):
    """What a worker knows after its next look."""
    records = Records(copy, clock=clock)
    await records.look()
    return records


def digest(key):
    return sha256(key.encode()).digest()


# -- keys ----------------------------------------------------------------------------------------------


async def test_a_key_is_told_once_and_works_from_then_on(client, copy, clock):
    body = {"consumer": "acme", "expires": "90d", "note": "billing job"}
    reply = await client.post("/api/v1/keys", json=body, headers=OURS)
    made = await reply.json()
    assert reply.status == 201
    assert reply.headers["Cache-Control"] == "no-store"
    assert made == {
        "id": made["id"],
        "key": made["key"],
        "hash": f"sha256:{digest(made['key']).hex()}",
        "consumer": "acme",
        "expires": "2027-02-19T09:00:00Z",
        "durable": False,
    }
    assert (await records(copy, clock)).consumer_of(digest(made["key"])) == "acme"
    listed = await (await client.get("/api/v1/keys")).text()
    assert made["id"] in listed
    assert made["key"] not in listed
    assert made["hash"] not in listed
    assert made["key"].encode() not in copy.read_bytes()


async def test_the_list_has_the_configurations_keys_and_the_stores(client):
    made = await ask(client, "POST", "/api/v1/keys", {"consumer": "acme", "note": "ci"}, 201)
    assert await ask(client, "GET", "/api/v1/keys") == {
        "keys": [
            {
                "id": None,
                "consumer": "globex",
                "hash": CONFIGURED[:19] + "…",
                "source": "config",
                "created": None,
                "expires": None,
                "note": "",
            },
            {
                "id": made["id"],
                "consumer": "acme",
                "hash": made["hash"][:19] + "…",
                "source": "store",
                "created": "2026-11-21T09:00:00Z",
                "expires": None,
                "note": "ci",
            },
        ],
        "durable": False,
    }


@pytest.mark.parametrize(
    ("body", "ends"),
    [(None, "2026-11-22T09:00:00Z"), ({}, "2026-11-22T09:00:00Z"), ({"overlap": "1h"}, "2026-11-21T10:00:00Z")],
)
async def test_a_rotated_key_works_beside_the_new_one_for_a_while(client, copy, clock, body, ends):
    old = await ask(client, "POST", "/api/v1/keys", {"consumer": "acme", "note": "ci"}, 201)
    reply = await client.post(f"/api/v1/keys/{old['id']}/rotate", json=body, headers=OURS)
    new = await reply.json()
    assert (reply.status, reply.headers["Cache-Control"]) == (201, "no-store")
    assert new["replaces"] == {"id": old["id"], "expires": ends}
    assert new["consumer"] == "acme"
    assert new["id"] != old["id"]
    known = await records(copy, clock)
    assert [known.consumer_of(digest(each["key"])) for each in (old, new)] == ["acme", "acme"]
    clock.now += DAY + 1
    assert [known.consumer_of(digest(each["key"])) for each in (old, new)] == [None, "acme"]


async def test_without_overlap_the_old_key_ends_at_once(client, copy, clock):
    old = await ask(client, "POST", "/api/v1/keys", {"consumer": "acme"}, 201)
    new = await ask(client, "POST", f"/api/v1/keys/{old['id']}/rotate", {"overlap": "0s"}, 201)
    assert new["replaces"] == {"id": old["id"], "expires": "2026-11-21T09:00:00Z"}
    assert (await records(copy, clock)).consumer_of(digest(old["key"])) is None


async def test_a_withdrawn_key_is_not_valid_any_more(client, copy, clock):
    made = await ask(client, "POST", "/api/v1/keys", {"consumer": "acme"}, 201)
    said = await ask(client, "DELETE", f"/api/v1/keys/{made['id']}")
    assert (said["revoked"]["id"], said["revoked"]["consumer"]) == (made["id"], "acme")
    assert (await records(copy, clock)).consumer_of(digest(made["key"])) is None
    assert await problem(client, "DELETE", f"/api/v1/keys/{made['id']}", None, 404, "not_found")


async def test_an_unknown_consumer_is_told_the_nearest_name(client, running):
    detail = await problem(client, "POST", "/api/v1/keys", {"consumer": "acne"}, 422, "invalid_request")
    assert detail == "consumer: there is no consumer 'acne' (did you mean 'acme'?)"
    assert running.ledger.keys() == []


async def test_without_a_provider_of_keys_none_is_made(client, running, tmp_path):
    made = await ask(client, "POST", "/api/v1/keys", {"consumer": "acme"}, 201)
    running.settings = settings(tmp_path, NO_KEYS)
    for path, body in (("/api/v1/keys", {"consumer": "acme"}), (f"/api/v1/keys/{made['id']}/rotate", {})):
        assert "no provider of type api_key" in await problem(client, "POST", path, body, 409, "conflict")
    assert await ask(client, "DELETE", f"/api/v1/keys/{made['id']}")


async def test_a_key_whose_consumer_has_gone_is_not_rotated(client, running):
    made = await running.ledger.create_key("gone")
    detail = await problem(client, "POST", f"/api/v1/keys/{made.record.id}/rotate", {}, 409, "conflict")
    assert "'gone'" in detail
    assert len(running.ledger.keys()) == 1


# -- revocations ---------------------------------------------------------------------------------------


async def test_a_token_is_refused_by_its_id_for_thirty_days(client, copy, clock):
    made = await ask(client, "POST", "/api/v1/revocations", {"jti": "7f3a"}, 201)
    assert made == {
        "id": made["id"],
        "jti": "7f3a",
        "consumer": None,
        "provider": None,
        "issued_before": None,
        "created": "2026-11-21T09:00:00Z",
        "expires": "2026-12-21T09:00:00Z",
        "durable": False,
    }
    known = await records(copy, clock)
    assert known.revoked(Caller("ada", "idp", claims={"jti": "7f3a"}))
    assert not known.revoked(Caller("ada", "idp", claims={"jti": "7f3b"}))


@pytest.mark.parametrize(
    ("body", "expires"),
    [
        ({"jti": "7f3a", "for": "1h"}, "2026-11-21T10:00:00Z"),
        ({"jti": "7f3a", "for": "none"}, None),
        ({"consumer": "ada"}, None),
        ({"issued_before": NOW}, None),
        ({"consumer": "ada", "issued_before": NOW, "for": "1d"}, "2026-11-22T09:00:00Z"),
    ],
)
async def test_how_long_it_is_in_force(client, body, expires):
    assert (await ask(client, "POST", "/api/v1/revocations", body, 201))["expires"] == expires


@pytest.mark.parametrize(
    ("time", "shown"),
    [
        ("2026-11-21T09:00:00Z", "2026-11-21T09:00:00Z"),
        ("2026-11-21 09:00:00.25z", "2026-11-21T09:00:01Z"),
        ("2026-11-21T10:00:00+01:00", "2026-11-21T09:00:00Z"),
        (int(NOW), "2026-11-21T09:00:00Z"),
        (NOW + 0.5, "2026-11-21T09:00:01Z"),
        (str(int(NOW)), "2026-11-21T09:00:00Z"),
        (0, "1970-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ],
)
async def test_times_are_rfc_3339_or_unix_seconds(client, time, shown):
    made = await ask(client, "POST", "/api/v1/revocations", {"issued_before": time}, 201)
    assert made["issued_before"] == shown
    assert (await ask(client, "GET", "/api/v1/revocations"))["revocations"][0]["issued_before"] == shown


@pytest.mark.parametrize(
    "time",
    [
        "", "now", "2026-11-21", "2026-11-21T09:00:00", "2026-02-31T09:00:00Z", "2026-11-21T25:00:00Z",
        "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00",
        "٢٠٢٦-11-21T09:00:00Z", "2026-W47-6T09:00:00Z", "1e9", "-1", -1, 1e300, True, None, [], {}, "9" * 400,
    ],
)  # fmt: skip
async def test_what_is_no_time_is_refused(client, time):
    body = {"issued_before": time}
    detail = await problem(client, "POST", "/api/v1/revocations", body, 422, "invalid_request")
    assert detail == "issued_before: is not a time such as 2026-11-21T09:00:00Z, or in Unix seconds"


async def test_what_was_lifted_is_valid_again(client, copy, clock):
    made = await ask(client, "POST", "/api/v1/revocations", {"consumer": "ada", "provider": "idp"}, 201)
    ada = Caller("ada", "idp", claims={"sub": "ada"})
    assert (await records(copy, clock)).revoked(ada)
    said = await ask(client, "DELETE", f"/api/v1/revocations/{made['id']}")
    assert said["lifted"]["consumer"] == "ada"
    assert not (await records(copy, clock)).revoked(ada)
    assert await ask(client, "GET", "/api/v1/revocations") == {
        "revocations": [],
        "durable": False,
        "in_force": True,
    }


async def test_what_nobody_would_look_at_is_not_written(client, running, tmp_path):
    running.settings = settings(tmp_path, NO_REVOCATION)
    detail = await problem(client, "POST", "/api/v1/revocations", {"jti": "7f3a"}, 409, "conflict")
    assert "auth.revocation" in detail
    assert running.ledger.revocations() == []


async def test_an_unknown_provider_is_told_the_nearest_name(client, running):
    body = {"jti": "7f3a", "provider": "ipd"}
    detail = await problem(client, "POST", "/api/v1/revocations", body, 422, "invalid_request")
    assert detail == "provider: there is no provider 'ipd' (did you mean 'idp'?)"
    assert running.ledger.revocations() == []


# -- what is refused -----------------------------------------------------------------------------------

KEYS, REVOCATIONS = "/api/v1/keys", "/api/v1/revocations"


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        (KEYS, {}, "consumer: is needed"),
        (KEYS, None, "consumer: is needed"),
        (KEYS, {"consumer": 7}, "consumer: must be text"),
        (KEYS, {"consumer": ["acme"]}, "consumer: must be text, not a list"),
        (KEYS, {"consumer": ""}, "consumer: is empty"),
        (KEYS, {"consumer": "acme", "expire": "1d"}, "'expire' is not known here (did you mean 'expires'?)"),
        (KEYS, {"consumer": "acme", "x\x1b[2J": 1}, "'x\\x1b[2J' is not known here"),
        (KEYS, {"consumer": "acme", "expires": 90}, "expires: 90 is not a duration"),
        (KEYS, {"consumer": "acme", "expires": "0s"}, "expires: must be longer"),
        (KEYS, {"consumer": "acme", "expires": "-1d"}, "expires: '-1d' is not a duration"),
        (KEYS, {"consumer": "acme", "expires": "99999d"}, "expires: is longer than ten years"),
        (KEYS, {"consumer": "acme", "note": None}, "note: must be text"),
        (KEYS, {"consumer": "acme", "note": "a\nb"}, "note must be at most 200 printable"),
        (KEYS, {"consumer": "acme", "note": "x" * 201}, "note must be at most 200 printable"),
        (KEYS + "/key_0/rotate", {"overlap": "soon"}, "overlap: 'soon' is not a duration"),
        (KEYS + "/key_0/rotate", {"expires": "1d"}, "'expires' is not known here"),
        (REVOCATIONS, {}, "a revocation gives at least one of jti, consumer and issued_before"),
        (REVOCATIONS, {"provider": "idp"}, "a revocation gives at least one of"),
        (REVOCATIONS, {"for": "1d"}, "a revocation gives at least one of"),
        (REVOCATIONS, {"jti": ""}, "jti: is empty"),
        (REVOCATIONS, {"jti": 7}, "jti: must be text"),
        (REVOCATIONS, {"jti": "x" * 257}, "jti must be at most 256 printable"),
        (REVOCATIONS, {"jti": "a\x00"}, "jti must be at most 256 printable"),
        (REVOCATIONS, {"consumer": "", "jti": "a"}, "consumer: is empty"),
        (REVOCATIONS, {"jti": "a", "for": "soon"}, "for: 'soon' is not a duration"),
        (REVOCATIONS, {"jti": "a", "for": None}, "for: nothing is not a duration"),
        (REVOCATIONS, {"jti": "a", "for": "0s"}, "for: must be longer than nothing, or none"),
        (REVOCATIONS, [], "the body must be an object, not a list"),
        (REVOCATIONS, "jti", "the body must be an object, not 'jti'"),
    ],
)
async def test_a_body_that_is_wrong_is_told_which_member(client, running, path, body, detail):
    assert (await problem(client, "POST", path, body, 422, "invalid_request")).startswith(detail)
    assert not running.ledger.keys()
    assert not running.ledger.revocations()


@pytest.mark.parametrize("raw", [b"{", b'{"jti": NaN}', b"\xff", b"jti=7f3a", b'{"jti": "\\ud800"}', b"[" * 10_000])
async def test_what_is_no_json_is_refused(client, raw):
    reply = await client.post(REVOCATIONS, data=raw, headers=OURS)
    assert (reply.status, (await reply.json(content_type=None))["code"]) == (400, "bad_request")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_refused(client, running, chunked):
    raw = b'{"jti": "a", "for":' + b" " * 16384 + b'"1d"}'

    async def pieces():
        for start in range(0, len(raw), 1000):
            yield raw[start : start + 1000]

    reply = await client.post(REVOCATIONS, data=pieces() if chunked else raw, headers=OURS)
    assert (reply.status, (await reply.json(content_type=None))["code"]) == (413, "body_too_large")
    assert running.ledger.revocations() == []


@pytest.mark.parametrize(
    "id", ["key_000000000000", "rev_000000000000", "%2e%2e%2fconfig", "%00", "%f0%9f%92%a9", "a" * 999]
)
async def test_an_unknown_id_is_a_404(client, id):
    for method, path in (
        ("DELETE", f"{KEYS}/{id}"),
        ("POST", f"{KEYS}/{id}/rotate"),
        ("DELETE", f"{REVOCATIONS}/{id}"),
    ):
        assert await problem(client, method, path, None, 404, "not_found")


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (409, "conflict"), (503, "store_unavailable")])
async def test_what_the_ledger_cannot_do_is_told_in_its_words(client, running, copy, status, code):
    class Unable(Ledger):
        async def revoke(self, **_):
            raise LedgerError(status, "the store is away: nothing was changed")

    running.ledger = Unable(copy, None)
    detail = await problem(client, "POST", REVOCATIONS, {"jti": "a"}, status, code)
    assert detail == "the store is away: nothing was changed"


# -- who may ask ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
async def test_with_a_token_it_is_for_whoever_has_it(client, running, method, path):
    running.token = "a token for operators"
    reply = await client.request(method, path, json={"consumer": "acme", "jti": "a"}, headers=OURS)
    assert reply.status == 401
    assert running.ledger.keys() == []
    assert running.ledger.revocations() == []


@pytest.mark.parametrize(("method", "path"), [each for each in ENDPOINTS if each[0] != "GET"])
async def test_what_changes_something_cannot_be_asked_for_by_a_page_of_another_site(client, running, method, path):
    reply = await client.request(method, path, data=b'{"consumer":"acme"}', headers={"Content-Type": "text/plain"})
    assert (reply.status, (await reply.json(content_type=None))["code"]) == (403, "forbidden")
    assert running.ledger.keys() == []


# -- what is kept --------------------------------------------------------------------------------------


async def test_no_key_reaches_the_log(client, caplog):
    caplog.set_level(logging.DEBUG)
    made = await ask(client, "POST", KEYS, {"consumer": "acme"}, 201)
    new = await ask(client, "POST", f"{KEYS}/{made['id']}/rotate", {}, 201)
    await ask(client, "DELETE", f"{KEYS}/{new['id']}")
    assert made["id"] in caplog.text
    assert made["key"] not in caplog.text
    assert new["key"] not in caplog.text


async def test_many_at_once_are_all_kept(client, copy):
    asked = [ask(client, "POST", KEYS, {"consumer": "acme"}, 201) for _ in range(20)]
    made = await asyncio.gather(*asked)
    assert {each["id"] for each in made} == {key.id for key in read(copy)[1]}
