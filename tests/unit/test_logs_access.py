import json
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ClientGone, GatewayError, Refused, Shed, UpstreamFailed
from gateway.exchange import Call, Caller, Fields, Hop, Peer, Request
from gateway.logs.access_log import FIELDS, AccessLog
from gateway.logs.combined import CombinedLog
from gateway.logs.configured import access_log
from gateway.logs.ecs import OWN, Ecs
from gateway.logs.sampling import Sampled
from gateway.logs.text import LoggedHeaders
from tests.configs import complaint, loaded

COMBINED = re.compile(r'(\S+) (\S+) (\S+) \[([^\]]+)\] "([^"]*)" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"')
"""As log analysers have it."""

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
    call.trace = SimpleNamespace(id="0af7651916cd43dd8448eb211c80319c", sampled=True)
    call.request.received = 1000.0
    call.hops = [
        Hop("auth", "idp", "ok", 1000.0, 0.0000625),
        Hop("limit", "standard", "allowed", 1000.0625, 0),
        Hop("try", "http://b", "503", 1000.125, 0.25),
        Hop("try", "http://b", "200", 1000.5, 0.5),
    ]
    log.add(call, 200, 120, 7, 0.8125, 0.0625)
    assert lines.last == {
        "time": "2026-01-01T00:00:00.062Z",
        "id": "id-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "client": "192.0.2.7",
        "method": "GET",
        "path": "/orders/7",
        "route": "orders",
        "version": None,
        "consumer": "user-17",
        "provider": "idp",
        "status": 200,
        "reason": None,
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
        "headers": None,
        "sampled": None,
        "hops": [
            ["auth", "idp", "ok", 0.0, 0.062],
            ["limit", "standard", "allowed", 62.5, 0.0],
            ["try", "http://b", "503", 125.0, 250.0],
            ["try", "http://b", "200", 500.0, 500.0],
        ],
    }
    assert tuple(lines.last) == FIELDS


def test_one_line_tells_nothing_of_the_call_before(log, lines):
    first = a_call(headers=[(b"user-agent", b"curl/8.0")])
    first.hops = [Hop("fallback", "static", "open", 0, 0), Hop("limit", "standard", "allowed", 0, 0)]
    first.error = Refused("no_route", 404)
    log.add(first, 404, 0, 0, 0.001, 0.001)
    assert (lines.last["fallback"], lines.last["limit"], lines.last["code"]) == ("static", "allowed", "no_route")
    assert lines.last["reason"] == "no_route"
    log.add(a_call(), 200, 0, 0, 0.001, 0.001)
    line = lines.last
    absent = ("fallback", "limit", "code", "user_agent", "upstream", "reason", "trace_id")
    assert [line[key] for key in absent] == [None] * len(absent)
    assert line["hops"] == []


def test_a_reason_that_is_no_problem_has_no_code(log, lines):
    call = a_call()
    call.reason = "redirect"
    log.add(call, 308, 0, 0, 0.001, 0.001)
    assert (lines.last["reason"], lines.last["code"]) == ("redirect", None)


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


FORMS = {
    "json": lambda lines: AccessLog(lines, lambda: MOMENT, headers=LoggedHeaders(["Referer", "X-Own"], ())),
    "ecs": lambda lines: AccessLog(lines, lambda: MOMENT, render=Ecs("shop"), headers=LoggedHeaders(["X-Own"], ())),
    "combined": lambda lines: CombinedLog(lines, lambda: MOMENT),
}


@pytest.mark.parametrize("form", FORMS)
@given(agent=st.binary(max_size=40), target=st.binary(max_size=40), consumer=st.text(max_size=20))
def test_h10_nothing_a_client_sends_can_forge_a_line_or_reach_a_terminal(form, agent, target, consumer):
    """H10: line ends, ANSI sequences, C1, directions of writing, bytes that are no text."""
    lines = Lines()
    fields = [(b"user-agent", agent), (b"referer", agent), (b"x-own", agent)]
    call = a_call(target=target, path=b"", headers=fields)
    call.caller = Caller(consumer, "idp", "idp")
    FORMS[form](lines).add(call, 400, 0, 0, 0, 0)
    (line,) = lines
    assert line.endswith(b"\n")
    assert line[:-1].decode().isprintable()
    assert line.decode().splitlines() == [line[:-1].decode()]  # which knows U+2028 and its like, too
    if form == "combined":
        assert COMBINED.fullmatch(line[:-1].decode())
    else:
        json.loads(line)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [b"x" * 1_000_000, b"\x1b[31m" * 200_000, b"\r\n" * 500_000, b"\xff" * 1_000_000])
def test_h10_a_value_of_a_megabyte_is_cut(form, value):
    """H10: each to 1 KiB at most, before it is escaped."""
    lines = Lines()
    fields = [(b"user-agent", value), (b"referer", value), (b"x-own", value)]
    call = a_call(target=value, path=b"", headers=fields)
    call.caller = Caller(value.decode("latin-1"), "idp", "idp")
    FORMS[form](lines).add(call, 400, 0, 0, 0, 0)
    assert len(lines[0]) < 6 * 4 * 1024  # four values, of which JSON may make six characters a byte
    assert lines[0].count(b"\n") == 1


@pytest.mark.parametrize("form", FORMS)
def test_d21_no_form_shows_a_query(form):
    """D21: a token in a query is never logged: neither in the path, refused or not, nor in the referer."""
    lines = Lines()
    referer = [(b"referer", b"https://app.example.com/cart?token=secret#secret")]
    for target, path in (
        (b"/orders/7?token=secret", b"/orders/7"),
        (b"/a b?token=secret", b""),
        (b"http://user:secret@host/x?token=secret", b""),
        (b"/v2/orders?token=secret", b"/orders"),
    ):
        call = a_call(target=target, path=path, headers=referer if form == "combined" else ())
        call.version = "v2" if target.startswith(b"/v2") else ""
        FORMS[form](lines).add(call, 200, 0, 0, 0, 0)
    assert len(lines) == 4
    assert not any(b"secret" in line for line in lines)


def test_a_consumer_that_is_no_valid_text_is_escaped(log, lines):
    call = a_call()
    call.caller = Caller("a\ud800b", "idp", "idp")
    log.add(call, 200, 0, 0, 0, 0)
    assert lines.last["consumer"] == "a\\ud800b"


# -- headers -----------------------------------------------------------------------------------------


def test_configured_headers_are_shown_and_redacted_ones_only_named(lines):
    headers = LoggedHeaders(["X-Tenant", "Authorization", "X-Many", "X-None"], {b"authorization"})
    fields = [
        (b"x-tenant", b"acme"),
        (b"authorization", b"Bearer secret"),
        (b"x-many", b"a"),
        (b"x-many", b"b\x1b"),
    ]
    AccessLog(lines, headers=headers).add(a_call(headers=fields), 200, 0, 0, 0, 0)
    assert lines.last["headers"] == {
        "x-tenant": "acme",
        "authorization": "[redacted]",
        "x-many": "a, b\x1b",
        "x-none": None,
    }
    assert b"secret" not in lines[0]
    assert b"\x1b" not in lines[0]


@pytest.mark.parametrize("form", [AccessLog, CombinedLog])
def test_a_user_agent_that_is_redacted_is_not_shown(form, lines):
    form(lines, redacted={b"user-agent"}).add(a_call(headers=[(b"user-agent", b"curl/8.0")]), 200, 0, 0, 0, 0)
    assert b"curl" not in lines[0]
    assert b'"[redacted]"' in lines[0]


# -- combined ----------------------------------------------------------------------------------------


def test_a_combined_line_is_taken_apart_by_the_usual_expression(lines):
    headers = [(b"user-agent", b'Mozilla "5.0" \\ (x)'), (b"referer", b"https://a.example/cart?x=1")]
    call = a_call(headers=headers, path=b'/a "b" c')
    call.caller = Caller("ada lovelace", "idp", "idp")
    CombinedLog(lines, lambda: MOMENT).add(call, 200, 229, 7, 0.5, 0.1)
    found = COMBINED.fullmatch(lines[0].decode().rstrip("\n"))
    assert found.groups() == (
        "192.0.2.7",
        "-",
        "ada\\x20lovelace",
        "01/Jan/2026:00:00:00 +0000",
        "GET /a\\x20\\x22b\\x22\\x20c HTTP/1.1",
        "200",
        "229",
        "https://a.example/cart",
        "Mozilla \\x225.0\\x22 \\x5c (x)",
    )


def test_what_a_combined_line_does_not_know_is_a_dash(lines):
    call = Call(Request("", b"", Fields([]), Peer("unix", 0)), "id-1")
    CombinedLog(lines, lambda: MOMENT).add(call, 400, 0, 0, 0, 0)
    assert lines[0] == b'unix - - [01/Jan/2026:00:00:00 +0000] "-" 400 - "-" "-"\n'


def test_the_time_of_combined_lines_moves_on(lines):
    times = iter([MOMENT, MOMENT + 0.5, MOMENT + 31 * 86400])
    log = CombinedLog(lines, lambda: next(times))
    for _ in range(3):
        log.add(a_call(), 200, 0, 0, 0, 0)
    assert [COMBINED.match(line.decode())[4] for line in lines] == [
        "01/Jan/2026:00:00:00 +0000",
        "01/Jan/2026:00:00:00 +0000",
        "01/Feb/2026:00:00:00 +0000",
    ]


# -- ECS ---------------------------------------------------------------------------------------------


def test_a_whole_call_in_ecs(lines):
    call = a_call(headers=[(b"user-agent", b"curl/8.0")])
    call.client_ip = "198.51.100.9"
    call.route = "orders"
    call.caller = Caller("user-17", "idp", "idp")
    call.error = UpstreamFailed("upstream_failed", sent=True)
    call.request.received = 1000.0
    call.hops = [Hop("try", "http://b", "reset", 1000.0, 0.25)]
    AccessLog(lines, lambda: MOMENT, render=Ecs("shop")).add(call, 502, 120, 7, 0.8125, 0.0625)
    assert lines.last == {
        "@timestamp": "2026-01-01T00:00:00.062Z",
        "ecs": {"version": "8.17.0"},
        "service": {"name": "shop", "type": "gateway"},
        "event": {
            "kind": "event",
            "category": ["web"],
            "type": ["access"],
            "module": "gateway",
            "dataset": "gateway.access",
            "outcome": "failure",
            "duration": 812_500_000,
            "reason": "upstream_failed",
        },
        "http": {
            "version": "1.1",
            "request": {"id": "id-1", "method": "GET", "body": {"bytes": 7}},
            "response": {"status_code": 502, "body": {"bytes": 120}},
        },
        "url": {"path": "/orders/7"},
        "client": {"address": "198.51.100.9", "ip": "198.51.100.9"},
        "source": {"address": "192.0.2.7", "ip": "192.0.2.7"},
        "user": {"name": "user-17"},
        "user_agent": {"original": "curl/8.0"},
        "trace": {"id": None},
        "error": {"code": "upstream_failed"},
        "gateway": {
            "route": "orders",
            "version": None,
            "provider": "idp",
            "reason": "upstream_failed",
            "own_ms": 62.5,
            "upstream": None,
            "target": None,
            "tries": 0,
            "upstream_ms": 250.0,
            "auth": None,
            "limit": None,
            "fallback": None,
            "hops": [["try", "http://b", "reset", 0.0, 250.0]],
            "headers": None,
            "sampled": None,
        },
    }


def test_every_fact_of_a_line_is_in_ecs_somewhere():
    elsewhere = {
        *("time", "id", "trace_id", "client", "method", "path", "consumer", "status", "code", "duration_ms"),
        *("bytes_in", "bytes_out", "user_agent"),
    }
    assert {*OWN, *elsewhere} == {*FIELDS}


def test_a_zone_is_no_part_of_an_ip_address_to_elasticsearch(lines):
    call = Call(Request("GET", b"/x", Fields([]), Peer("fe80::1%eth0", 1)), "id-1")
    AccessLog(lines, render=Ecs("shop")).add(call, 200, 0, 0, 0, 0)
    assert lines.last["client"] == {"address": "fe80::1%eth0", "ip": "fe80::1"}


def test_a_unix_socket_is_no_ip_address_to_elasticsearch(lines):
    call = Call(Request("GET", b"/", Fields([]), Peer("unix", 0)), "id-1")
    AccessLog(lines, render=Ecs("shop")).add(call, 200, 0, 0, 0, 0)
    assert lines.last["client"] == lines.last["source"] == {"address": "unix", "ip": None}
    assert lines.last["event"]["outcome"] == "success"


# -- sampling ----------------------------------------------------------------------------------------


def sampled(lines, share, thrown):
    return Sampled(AccessLog(lines), {"health": share}, lambda: thrown)


def test_one_in_ten_says_that_it_stands_for_ten(lines):
    call = a_call()
    call.route = "health"
    sampled(lines, 0.1, 0.1).add(call, 200, 0, 0, 0, 0)
    assert lines == []
    sampled(lines, 0.1, 0.0999).add(call, 200, 0, 0, 0, 0)
    assert lines.last["sampled"] == 0.1


def test_other_routes_log_everything(lines):
    sampled(lines, 0.0, 0.5).add(a_call(), 200, 0, 0, 0, 0)
    assert lines.last["sampled"] is None


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [
        (503, "", None),
        (200, "fallback", None),
        (200, "", UpstreamFailed("upstream_failed", sent=True)),  # which broke off
        (429, "", Shed("upstream_quota", 429)),
        (500, "", GatewayError()),
    ],
)
def test_a_problem_is_logged_even_where_nothing_else_is(lines, status, reason, error):
    call = a_call()
    call.route, call.reason, call.error = "health", reason, error
    sampled(lines, 0.0, 0.5).add(call, status, 0, 0, 0, 0)
    assert lines.last["status"] == status
    assert lines.last["sampled"] is None


@pytest.mark.parametrize(
    ("status", "error"),
    [(200, None), (404, None), (401, Refused("unauthenticated", 401)), (499, ClientGone())],
)
def test_what_is_the_callers_own_fault_is_sampled(lines, status, error):
    call = a_call()
    call.route, call.error = "health", error
    sampled(lines, 0.0, 0.0).add(call, status, 0, 0, 0, 0)
    assert lines == []


# -- from the configuration --------------------------------------------------------------------------

BEHIND = "upstreams:\n  u: {targets: [http://127.0.0.1:9001]}\nroutes:\n"


def configured(folder, settings, routes=""):
    lines = Lines()
    return access_log(
        loaded(folder, f"logging: {settings}\n{BEHIND if routes else 'routes: []'}{routes}"), lines
    ), lines


def test_the_log_that_is_off_is_nobody(tmp_path):
    assert configured(tmp_path, "{access: off}") == (None, [])


@pytest.mark.parametrize(("access", "begins"), [("json", b'{"time"'), ("ecs", b'{"@timestamp"'), ("combined", b"192.")])
def test_the_form_is_that_of_the_configuration(tmp_path, access, begins):
    read, lines = configured(tmp_path, f"{{access: {access}}}")
    read(a_call(), 200, 0, 0, 0, 0)
    assert lines[0].startswith(begins)


def test_sampling_is_by_route(tmp_path):
    routes = "  - {name: a, match: {path: /a}, log: off, upstream: u}\n  - {name: b, match: {path: /b}, upstream: u}\n"
    read, lines = configured(tmp_path, "{access: json}", routes)
    for name in "ab":
        call = a_call()
        call.route = name
        read(call, 200, 0, 0, 0, 0)
    assert [json.loads(line)["route"] for line in lines] == ["b"]


def test_what_holds_credentials_is_redacted_whatever_the_configuration_says(tmp_path):
    names = "Authorization, Proxy-Authorization, Cookie, Set-Cookie, X-Api-Key, X-Own, X-Token"
    text = (
        f"logging: {{headers: [{names}], redact: [x-OWN]}}\n"
        "auth: {providers: {keys: {type: api_key, header: X-API-Key}}}\n" + BEHIND + "  - {name: a, "
        "match: {path: /a}, upstream: u, auth: {providers: [keys]}}\n"
    )
    lines = Lines()
    fields = [(name.lower().encode(), b"secret") for name in names.split(", ")]
    access_log(loaded(tmp_path, text), lines)(a_call(headers=fields), 200, 0, 0, 0, 0)
    shown = lines.last["headers"]
    assert shown.pop("x-token") == "secret"  # nobody has said that it is one
    assert list(shown.values()) == ["[redacted]"] * 6


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("headers: [X-A, x-a]", "logging.headers[1]: x-a is here twice: case makes no difference"),
        ("redact: [X-A, Y, X-a]", "logging.redact[2]: X-a is here twice: case makes no difference"),
        ("headers: ['a b']", "logging.headers[0]: 'a b' is not a header name"),
        ("redact: ['a:b']", "logging.redact[0]: 'a:b' is not a header name"),
        (
            "access: combined, headers: [X-A]",
            "logging.headers: has no effect: access is combined, which has no place for them",
        ),
    ],
)
def test_what_makes_no_sense_is_a_complaint(tmp_path, settings, said):
    assert complaint(tmp_path, f"logging: {{{settings}}}\nroutes: []").partition(" ")[2] == said


@pytest.mark.parametrize(
    ("written", "share"), [("on", 1.0), ("off", 0.0), ("true", 1.0), ("false", 0.0), ("10%", 0.1), ("100%", 1.0)]
)
def test_the_share_of_a_route(tmp_path, written, share):
    text = f"{BEHIND}  - {{name: a, match: {{path: /a}}, log: {written}, upstream: u}}\n"
    assert loaded(tmp_path, text).routes[0].log == share


@pytest.mark.parametrize("written", ["10", "101%", "sometimes", "{share: 10%}"])
def test_a_share_that_is_none_is_a_complaint(tmp_path, written):
    text = f"{BEHIND}  - {{name: a, match: {{path: /a}}, log: {written}, upstream: u}}\n"
    assert "routes[0].log: must be on, off or a share such as 10%, not" in complaint(tmp_path, text)
