"""What workers tell the operator process: which requests, how they are written down, what happens when nobody hears."""

import socket
from types import SimpleNamespace

import orjson
import pytest

from gateway.errors import ClientGone, Refused, Shed, UpstreamFailed
from gateway.exchange import Call, Caller, Fields, Hop, Peer, Request
from gateway.telemetry.reports import (
    ERROR,
    FAILURES_A_SECOND,
    FLUSHES_A_SECOND,
    FULL,
    REFUSALS_A_SECOND,
    SLOW,
    SLOWEST,
    TAIL,
    WAITING,
    Reports,
)
from tests.fakes import Clock

NOW = 1_795_251_600.25  # 2026-11-21T09:00:00.250Z
TARGET = SimpleNamespace(name="http://a:9001", upstream="orders")


def a_call(error=None, *, reason="", target=b"/orders/7?token=secret", hops=(), consumer="ada"):
    call = Call(Request("GET", target, Fields([]), Peer("127.0.0.1", 1), received=100.0), "id-1")
    call.path = target.partition(b"?")[0]
    call.route = "orders"
    call.error, call.reason = error, reason
    call.caller = Caller(consumer, "idp", "idp")
    call.hops = list(hops)
    call.target, call.tried = TARGET, [TARGET]
    return call


class Operator:
    """The other end."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def batches(self):
        found = []
        while True:
            try:
                head, *lines = self.socket.recv(1 << 17).splitlines()
            except BlockingIOError:
                return found
            found.append((orjson.loads(head), [(line[0] - 48, orjson.loads(line[1:])) for line in lines]))

    def lines(self):
        return [line for _, lines in self.batches() for line in lines]


@pytest.fixture
def operator(tmp_path):
    operator = Operator(tmp_path / "reports.sock")
    yield operator
    operator.socket.close()


@pytest.fixture
def clock():
    return Clock(NOW)


@pytest.fixture
def dropped():
    return []


@pytest.fixture
def reports(tmp_path, clock, dropped):
    reports = Reports(tmp_path / "reports.sock", "1", dropped.append, clock)
    yield reports
    reports.close()


def a_second(reports):
    for _ in range(FLUSHES_A_SECOND):
        reports.flush()


def busy(reports):
    """Three slow requests have set the floor."""
    for _ in range(SLOWEST):
        reports.read(a_call(), 200, 0, 0, 60.0, 0.0)


# -- which ----------------------------------------------------------------------------------------------


def test_an_ordinary_request_is_not_told(reports, operator):
    busy(reports)
    reports.read(a_call(), 200, 10, 0, 0.002, 0.001)
    reports.flush()
    assert operator.batches() == []


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (a_call(Shed("circuit_open", 503)), 503),
        (a_call(), 500),
        (a_call(Refused("unauthenticated", 401)), 401),
        (a_call(reason="fallback"), 200),
        (a_call(UpstreamFailed("upstream_failed", sent=True)), 200),
    ],
)
def test_what_went_wrong_is_told(reports, operator, call, status):
    busy(reports)
    reports.read(call, status, 0, 0, 0.001, 0.001)
    reports.flush()
    ((kinds, record),) = operator.lines()
    assert kinds == ERROR
    assert (record["status"], record["reason"], record["id"]) == (status, call.ended_by, "id-1")


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (a_call(ClientGone()), 499),
        (a_call(reason="respond"), 503),
        (a_call(reason="redirect"), 301),
        (a_call(reason="replayed"), 500),
        (a_call(), 404),
    ],
)
def test_what_is_as_it_should_be_is_no_error(reports, operator, call, status):
    busy(reports)
    reports.read(call, status, 0, 0, 0.001, 0.001)
    reports.flush()
    assert operator.lines() == []


def test_the_slowest_of_each_second_are_told_at_its_end(reports, operator):
    for took in (0.1, 0.5, 0.2, 0.05, 0.3, 0.4):
        reports.read(a_call(), 200, 0, 0, took, 0.0)
    for _ in range(FLUSHES_A_SECOND - 1):
        reports.flush()
    assert operator.lines() == []
    reports.flush()
    found = operator.lines()
    assert {kinds for kinds, _ in found} == {SLOW}
    assert sorted(record["duration_ms"] for _, record in found) == [300, 400, 500]
    reports.read(a_call(), 200, 0, 0, 0.01, 0.0)  # of another second
    a_second(reports)
    assert len(operator.lines()) == 1


def test_tunnels_and_clients_that_have_left_are_not_slow(reports, operator):
    reports.read(a_call(), 101, 0, 0, 3600.0, 0.0)
    reports.read(a_call(ClientGone()), 499, 0, 0, 60.0, 0.0)
    a_second(reports)
    assert operator.lines() == []


def test_while_somebody_tails_every_request_is_told(reports, operator, clock):
    busy(reports)
    reports.tail(NOW + 10)
    reports.read(a_call(), 200, 0, 0, 0.001, 0.001)
    reports.read(a_call(ClientGone()), 499, 0, 0, 0.001, 0.001)
    reports.read(a_call(), 502, 0, 0, 0.001, 0.001)
    reports.flush()
    found = operator.lines()
    assert [kinds for kinds, _ in found] == [TAIL, TAIL, TAIL | ERROR]
    assert ["hops" in record for _, record in found] == [False, False, True]
    clock.advance(10)
    reports.flush()
    reports.read(a_call(), 200, 0, 0, 0.001, 0.001)
    reports.flush()
    assert operator.lines() == []


def test_the_operator_hears_that_a_worker_tails_even_without_requests(reports, operator):
    reports.tail(NOW + 10)
    reports.flush()
    assert operator.batches() == [({"from": "1", "tail_until": NOW + 10}, [])]
    reports.tail(NOW + 10)  # no news
    reports.flush()
    assert operator.batches() == []


def test_refusals_cannot_crowd_out_failures(reports, operator, dropped):
    busy(reports)
    for _ in range(1000):
        reports.read(a_call(Refused("rate_limited", 429)), 429, 0, 0, 0.001, 0.0)
    for _ in range(1000):
        reports.read(a_call(Shed("circuit_open", 503)), 503, 0, 0, 0.001, 0.0)
    reports.flush()
    found = [record["status"] for _, record in operator.lines()]
    assert found == [429] * int(REFUSALS_A_SECOND) + [503] * int(FAILURES_A_SECOND)
    assert sum(dropped) == 2000 - len(found)
    a_second(reports)
    operator.lines()
    reports.read(a_call(Refused("rate_limited", 429)), 429, 0, 0, 0.0, 0.0)
    reports.flush()
    assert len(operator.lines()) == 1


# -- how they are written down --------------------------------------------------------------------------


def test_a_report_has_all_that_is_known(reports, operator):
    hops = [
        Hop("auth", "idp", "ok", 100.001, 0.001, False),
        Hop("limit", "minute", "allowed", 100.002, 0.0),
        Hop("limit", "day", "observed", 100.002, 0.0),
        Hop("try", "http://a:9001", "503", 100.003, 0.25),
        Hop("fallback", "static", "503", 100.3, 0.0),
    ]
    call = a_call(Shed("circuit_open", 503, "Try later."), hops=hops)
    call.version = ""
    call.trace = SimpleNamespace(id="a" * 32, sampled=True)
    reports.read(call, 503, 7, 3, 0.5, 0.25)
    reports.flush()
    ((_, record),) = operator.lines()
    assert record.pop("hops")[3] == {
        "stage": "try", "name": "http://a:9001", "outcome": "503", "at_ms": 3.0, "took_ms": 250.0,
    }  # fmt: skip
    assert record == {
        "at": "2026-11-21T09:00:00.250Z", "id": "id-1", "method": "GET", "path": "/orders/7", "route": "orders",
        "version": None, "consumer": "ada", "provider": "idp", "status": 503,
        "code": "circuit_open", "reason": "circuit_open", "detail": "Try later.",
        "duration_ms": 500.0, "own_ms": 250.0, "upstream": "orders",
        "target": "http://a:9001", "tries": 1, "limit": "observed", "auth": "ok", "fallback": "static",
        "client": "127.0.0.1", "trace_id": "a" * 32, "bytes_in": 3, "bytes_out": 7,
    }  # fmt: skip


def test_what_clients_wrote_is_capped_and_escaped_and_has_no_query(reports, operator):
    path = b"/\x1b[31m\x7f\x9b\xff" + b"x" * 5000 + b"?token=secret"
    reports.read(a_call(target=path, consumer="\x1b]0;owned\x07\ud800" + "y" * 5000), 500, 0, 0, 0.1, 0.1)
    reports.flush()
    ((_, record),) = operator.lines()
    assert record["path"].startswith("/\x1b[31m\\x7f\\x9b\\xff")  # JSON escapes the first one
    assert len(record["path"]) < 2000
    assert "secret" not in record["path"]
    assert record["consumer"].isprintable()
    assert len(record["consumer"]) < 1000


def test_of_bytes_that_were_no_request_nothing_is_invented(reports, operator):
    call = Call(Request("", b"", Fields([]), Peer("unix", 0)), "id-2")
    call.error = Refused("bad_request", 400)
    reports.read(call, 400, 0, 0, 0.001, 0.001)
    reports.flush()
    ((_, record),) = operator.lines()
    assert (record["method"], record["path"], record["target"], record["tries"]) == (None, "", None, 0)


def test_a_path_is_told_with_the_version_that_ends_at_the_gateway(reports, operator):
    call = a_call(target=b"/v1/orders/@7?x")
    call.path, call.version = b"/orders/@7", "1"
    reports.read(call, 500, 0, 0, 0.1, 0.1)
    reports.flush()
    assert operator.lines()[0][1]["path"] == "/v1/orders/@7"


# -- when nobody hears ----------------------------------------------------------------------------------


def test_what_was_told_to_nobody_is_told_to_the_next_operator(reports, tmp_path, dropped):
    reports.read(a_call(), 500, 0, 0, 0.1, 0.1)
    reports.flush()  # ENOENT
    first = Operator(tmp_path / "reports.sock")
    first.socket.close()
    reports.flush()  # ECONNREFUSED
    (tmp_path / "reports.sock").unlink()
    second = Operator(tmp_path / "reports.sock")
    try:
        reports.flush()
        assert [record["status"] for _, record in second.lines()] == [500]
    finally:
        second.socket.close()
    assert dropped == []


def test_what_waits_is_bounded_and_the_rest_is_counted(reports, dropped):
    reports.tail(NOW + 10)
    sent = 0
    while not dropped:
        reports.read(a_call(), 200, 0, 0, 0.1, 0.1)
        sent += 1
        assert sent < 1_000_000
    assert sent * 300 < 2 * (WAITING + 1) * FULL
    told = sum(dropped)
    reports.close()
    assert sum(dropped) > told  # what waited is lost, too


def test_a_batch_that_the_system_never_takes_does_not_hold_up_the_others(reports, operator, dropped):
    reports._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least there is: some kilobytes
    reports.tail(NOW + 10)
    for _ in range(100):
        reports.read(a_call(), 200, 0, 0, 0.1, 0.1)
    reports.flush()
    assert dropped == [100]
    reports.read(a_call(), 200, 0, 0, 0.1, 0.1)
    reports.flush()
    assert [kinds for kinds, _ in operator.lines()] == [TAIL]


def test_no_batch_is_larger_than_a_datagram(reports, operator):
    reports.tail(NOW + 10)
    count = 0
    for _ in range(5):
        for _ in range(100):
            reports.read(a_call(), 200, 0, 0, 0.1, 0.1)
        reports.flush()
        batches = operator.batches()
        count += sum(kinds == TAIL for _, lines in batches for kinds, _ in lines)
    assert count == 500


def test_the_end_tells_the_slowest_of_the_running_second(tmp_path, operator, clock, dropped):
    reports = Reports(tmp_path / "reports.sock", "1", dropped.append, clock)
    reports.read(a_call(), 200, 0, 0, 2.0, 0.0)
    reports.close()
    assert [kinds for kinds, _ in operator.lines()] == [SLOW]
