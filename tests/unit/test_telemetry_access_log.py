import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.exchange import Call, Caller, Fields, Hop, Peer, Request
from gateway.telemetry.access_log import AccessLog

MOMENT = 1_767_225_600.0625  # 2026-01-01T00:00:00.062Z, exact in binary


class Lines(list):
    put = list.append

    @property
    def last(self):
        assert self[-1].endswith(b"\n")
        assert self[-1].count(b"\n") == 1
        return json.loads(self[-1])


@pytest.fixture
def lines():
    return Lines()


@pytest.fixture
def log(lines):
    return AccessLog(lines, lambda: MOMENT)


def a_call(target=b"/orders/7?token=secret", headers=(), path=b"/orders/7"):
    call = Call(Request("GET", target, Fields(list(headers)), Peer("192.0.2.7", 1)), "id-1")
    call.path = path
    return call


def test_a_whole_call_in_one_line(log, lines):
    call = a_call(headers=[(b"user-agent", b"curl/8.0")])
    call.route = "orders"
    call.caller = Caller("user-17", "idp", "idp")
    target = SimpleNamespace(name="http://b", upstream="orders-v2")
    call.target, call.tried = target, [target, target]
    call.hops = [
        Hop("auth", "idp", "ok", 0, 0),
        Hop("limit", "standard", "allowed", 0, 0),
        Hop("try", "http://b", "503", 0, 0.25),
        Hop("try", "http://b", "200", 0, 0.5),
    ]
    log.add(call, 200, 120, 7, 0.8125, 0.0625)
    assert lines.last == {
        "time": "2026-01-01T00:00:00.062Z",
        "id": "id-1",
        "client": "192.0.2.7",
        "method": "GET",
        "path": "/orders/7",
        "route": "orders",
        "version": None,
        "consumer": "user-17",
        "provider": "idp",
        "status": 200,
        "code": None,
        "duration_ms": 812.5,
        "own_ms": 62.5,
        "upstream": "orders-v2",
        "target": "http://b",
        "tries": 2,
        "upstream_ms": 750.0,
        "bytes_in": 7,
        "bytes_out": 120,
        "auth": "ok",
        "limit": "allowed",
        "fallback": None,
        "user_agent": "curl/8.0",
    }


def test_one_line_tells_nothing_of_the_call_before(log, lines):
    first = a_call(headers=[(b"user-agent", b"curl/8.0")])
    first.hops = [Hop("fallback", "static", "open", 0, 0), Hop("limit", "standard", "allowed", 0, 0)]
    first.error = Refused("no_route", 404)
    log.add(first, 404, 0, 0, 0.001, 0.001)
    assert (lines.last["fallback"], lines.last["limit"], lines.last["code"]) == ("static", "allowed", "no_route")
    log.add(a_call(), 200, 0, 0, 0.001, 0.001)
    line = lines.last
    assert [line[key] for key in ("fallback", "limit", "code", "user_agent", "upstream")] == [None] * 5


def test_the_time_moves_on(lines):
    times = iter([MOMENT, MOMENT, MOMENT + 0.25, MOMENT + 86400])
    log = AccessLog(lines, lambda: next(times))
    for _ in range(4):
        log.add(a_call(), 200, 0, 0, 0, 0)
    assert [json.loads(line)["time"] for line in lines] == [
        "2026-01-01T00:00:00.062Z",
        "2026-01-01T00:00:00.062Z",
        "2026-01-01T00:00:00.312Z",
        "2026-01-02T00:00:00.062Z",
    ]


def test_neither_query_nor_credentials_are_logged(log, lines):
    log.add(a_call(), 200, 0, 0, 0, 0)
    log.add(a_call(path=b""), 400, 0, 0, 0, 0)
    log.add(a_call(target=b"http://user:hunter2@host/x?token=secret", path=b""), 400, 0, 0, 0, 0)
    assert not any(b"secret" in line or b"hunter2" in line for line in lines)
    assert lines.last["path"] == "host/x"


@pytest.mark.parametrize(
    ("target", "path", "asked"),
    [
        (b"/v2/orders/7?token=secret", b"/orders/7", "/v2/orders/7"),
        (b"/v1.1/orders", b"/orders", "/v1.1/orders"),
        (b"/v2", b"/", "/v2"),
        (b"/v2/", b"/", "/v2/"),
        (b"/v2/v2", b"/v2", "/v2/v2"),
        (b"/orders/7", b"/orders/7", "/orders/7"),  # named in a header
        (b"/./orders/7", b"/orders/7", "/orders/7"),
        (b"/%762/a/../orders", b"/orders", "/v2/orders"),
        (b"//v2//orders", b"/orders", "/v2/orders"),
        (b"/x/../v2/orders", b"/orders", "/v2/orders"),
        (b"http://a.example/v2/orders", b"/orders", "/v2/orders"),
    ],
)
def test_the_path_is_the_clients_with_the_version_that_ended_at_the_gateway(log, lines, target, path, asked):
    call = a_call(target=target, path=path)
    call.request.fields.host = b"a.example"
    call.version = "v2"
    log.add(call, 200, 0, 0, 0, 0)
    assert lines.last["path"] == asked


def test_what_clients_send_is_capped(log, lines):
    log.add(a_call(target=b"/" * 5000, path=b"", headers=[(b"user-agent", b"x" * 5000)]), 400, 0, 0, 0, 0)
    assert len(lines.last["path"]) == 1024
    assert len(lines.last["user_agent"]) == 200


@given(agent=st.binary(max_size=40), target=st.binary(max_size=40), consumer=st.text(max_size=20))
def test_nothing_a_client_sends_can_forge_a_line_or_reach_a_terminal(agent, target, consumer):
    lines = Lines()
    call = a_call(target=target, path=b"", headers=[(b"user-agent", agent)])
    call.caller = Caller(consumer, "idp", "idp")
    AccessLog(lines, lambda: MOMENT).add(call, 400, 0, 0, 0, 0)
    assert lines.last["status"] == 400
    assert not any(byte < 0x20 for byte in lines[-1][:-1])
    agent_in_line = lines[-1].partition(b'"user_agent":')[2]
    assert all(byte < 0x80 for byte in agent_in_line)


def test_a_consumer_that_is_no_valid_text_is_escaped(log, lines):
    call = a_call()
    call.caller = Caller("a\ud800b", "idp", "idp")
    log.add(call, 200, 0, 0, 0, 0)
    assert lines.last["consumer"] == "a\\ud800b"
