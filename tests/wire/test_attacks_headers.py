"""Attacks on headers and identity (C1-C15): what a client claims never looks like what the gateway knows."""

import asyncio
import re
import time

import pytest

from gateway.http.forward import IDENTITY
from tests.tokens import SECRET, claims, sign
from tests.wire.actors import PATIENCE, Client, Gateway, Upstream, Visit, replying
from tests.wire.conftest import Start
from tests.wire.payloads import get, message, refused
from tests.wire.strict import Received, read_requests

TRUST = "trusted_proxies: [127.0.0.1/32]"


def guarded(upstream: Upstream, more: str = "", route: str = "") -> str:
    """A protected /me beside an open catch-all, and a caller's `sub` forwarded as X-User-Id, `plan` as X-Plan."""
    return f"""
listen: {{admin: "off"}}
{more}
auth:
  providers:
    idp:
      {{type: jwt, secret: "{SECRET.decode()}", algorithms: [HS256], forward: {{X-User-Id: sub, X-Plan: plan}}}}
upstreams:
  up: {{targets: ["http://127.0.0.1:{upstream.port}"], retry: off, breaker: off}}
routes:
  - {{name: me, match: {{path: "/me/**"{route}}}, auth: {{providers: [idp]}}, upstream: up}}
  - {{name: open, match: {{path: "/**"}}, upstream: up}}
"""


def token(**changes: object) -> bytes:
    return b"Authorization: Bearer " + sign(claims(exp=time.time() + 600, **changes))


def lines(upstream: Upstream, folded: bytes) -> list[bytes]:
    """The values of all field lines that CGI and its heirs would read as `folded`, in any spelling."""
    fields = re.findall(rb"(?m)^([^\s:]+): ?([^\r\n]*)\r$", upstream.received)
    return [value for name, value in fields if re.sub(rb"[_.]", b"-", name.lower()) == folded]


async def passed(client: Client, upstream: Upstream, *fields: bytes, target: bytes = b"/") -> Received:
    """The request as the upstream reads it, pedantically."""
    answer = await client.ask(get(*fields, target=target))
    assert answer.status == 200, answer
    return read_requests(bytes(upstream.visits[-1].received))[0][-1]


def spellings(name: bytes) -> list[bytes]:
    return [name, name.upper(), name.replace(b"-", b"_"), name.replace(b"-", b"."), name.title().replace(b"-", b"_", 1)]


# -- C1: what Connection names


@pytest.mark.parametrize(
    "spelling", [b"Connection: X-Hop", b"connection: close, x-hOP", b"Connection:x-hop ,, keep-alive"]
)
async def test_c01_what_connection_names_is_not_forwarded(client: Client, upstream: Upstream, spelling: bytes) -> None:
    request = await passed(client, upstream, spelling, b"X-Hop: secret", b"X-End: stays")
    assert b"x-hop" not in request.headers
    assert request.headers[b"x-end"] == b"stays"
    assert b"secret" not in upstream.received


async def test_c01_two_connection_fields_count_as_one(client: Client, upstream: Upstream) -> None:
    request = await passed(client, upstream, b"Connection: X-One", b"X-One: 1", b"Connection: X-Two", b"X-Two: 2")
    assert not {b"x-one", b"x-two"} & request.headers.keys()


@pytest.mark.parametrize(
    "name",
    [
        *(b"Host", b"Authorization", b"Content-Length", b"Transfer-Encoding", b"Cookie", b"X-Request-Id", b"HOST"),
        *(b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"x-forwarded-anything", b"close, Host"),
        *(b"X-Ok,Authorization", b"\tauthorization\t", b"keep-alive , x-Forwarded-For"),
    ],
)
async def test_c01_connection_that_names_an_end_to_end_field_is_refused(
    client: Client, upstream: Upstream, name: bytes
) -> None:
    await refused(client, upstream, get(b"Connection: " + name))


async def test_c01_one_that_hides_in_a_second_connection_field_is_refused_too(
    client: Client, upstream: Upstream
) -> None:
    await refused(client, upstream, get(b"Connection: Authorization", b"Connection: keep-alive"))


@pytest.mark.parametrize("named", [b"X-User-Id", b"Via", b"Forwarded", b"X-Real-IP", b"X-User-Id, Via, Forwarded"])
async def test_c01_what_the_gateway_sets_itself_cannot_be_taken_away(
    start: Start, upstream: Upstream, named: bytes
) -> None:
    client = await (await start(guarded(upstream))).client()
    request = await passed(client, upstream, token(), b"Connection: " + named, target=b"/me")
    assert request.headers[b"x-user-id"] == b"alice"
    assert request.headers[b"via"].startswith(b"1.1 gateway")
    assert request.headers[b"forwarded"] == b"for=127.0.0.1;host=a;proto=http"
    assert request.headers[b"x-forwarded-for"] == b"127.0.0.1"


# -- C2, C3: identity


@pytest.mark.parametrize("name", [*sorted(IDENTITY), b"x-plan"])
async def test_c02_c03_no_identity_of_a_client_passes_an_open_route_in_any_spelling(
    start: Start, upstream: Upstream, name: bytes
) -> None:
    client = await (await start(guarded(upstream))).client()
    await passed(client, upstream, *(spelling + b": root" for spelling in spellings(name)))
    assert lines(upstream, name) == []
    assert b"root" not in upstream.received


async def test_c02_c03_the_upstream_sees_exactly_one_identity_and_it_is_the_tokens(
    start: Start, upstream: Upstream
) -> None:
    client = await (await start(guarded(upstream))).client()
    forged = [spelling + b": root" for spelling in spellings(b"x-user-id") * 2]
    await passed(client, upstream, *forged[:5], token(), *forged[5:], target=b"/me")
    assert lines(upstream, b"x-user-id") == [b"alice"]


async def test_c02_a_claim_that_is_missing_leaves_no_room_for_the_clients_own(start: Start, upstream: Upstream) -> None:
    client = await (await start(guarded(upstream))).client()
    await passed(client, upstream, token(), b"X-Plan: gold", b"X_Plan: gold", target=b"/me")
    assert lines(upstream, b"x-plan") == []


async def test_c02_the_identity_of_one_request_does_not_stay_on_the_connection(
    start: Start, upstream: Upstream
) -> None:
    client = await (await start(guarded(upstream))).client()
    await passed(client, upstream, token(plan="gold"), target=b"/me")
    # The same field lines again, so that whatever is remembered of them is used; then another caller; then nobody.
    await passed(client, upstream, token(), target=b"/")
    await passed(client, upstream, token(sub="bob"), target=b"/me")
    await passed(client, upstream, target=b"/")
    assert lines(upstream, b"x-user-id") == [b"alice", b"bob"]
    assert lines(upstream, b"x-plan") == [b"gold"]


# -- C4, C5: where a request came from

CLAIMED = [
    *(b"X-Forwarded-For: 6.6.6.6", b"X_Forwarded_For: 6.6.6.6", b"Forwarded: for=6.6.6.6;host=evil;proto=https"),
    *(b"X-Real-IP: 6.6.6.6", b"X-Client-IP: 6.6.6.6", b"True-Client-IP: 6.6.6.6", b"X-Forwarded-Server: evil"),
    *(b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil"),
    *(b"X-Forwarded-Port: 666", b"X-Forwarded-Prefix: /evil"),
    *(b"X-Forwarded-Ssl: on", b"X-Forwarded-Scheme: https", b"X_Forwarded_Host: evil", b"X.Real.IP: 6.6.6.6"),
]


async def test_c04_c05_what_an_untrusted_peer_says_about_the_way_is_replaced(
    client: Client, upstream: Upstream
) -> None:
    request = await passed(client, upstream, *CLAIMED, *CLAIMED)
    assert request.headers[b"x-forwarded-for"] == b"127.0.0.1"
    assert request.headers[b"x-forwarded-proto"] == b"http"
    assert request.headers[b"x-forwarded-host"] == b"a"
    assert request.headers[b"forwarded"] == b"for=127.0.0.1;host=a;proto=http"
    for word in (b"6.6.6.6", b"evil", b"https", b"x-forwarded-ssl"):
        assert word not in upstream.received
    assert not {b"x-real-ip", b"x-forwarded-port", b"x-forwarded-prefix"} & request.headers.keys()


async def test_c04_a_trusted_peers_chain_is_continued(start: Start, upstream: Upstream) -> None:
    client = await (await start(more=TRUST)).client()
    fields = b"X-Forwarded-For: 6.6.6.6, 203.0.113.9", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: shop.example"
    request = await passed(client, upstream, *fields, b"X-Real-IP: 6.6.6.6", b"X-Forwarded-Prefix: /evil")
    assert request.headers[b"x-forwarded-for"] == b"6.6.6.6, 203.0.113.9, 127.0.0.1"
    assert request.headers[b"x-forwarded-proto"] == b"https"
    assert request.headers[b"x-forwarded-host"] == b"shop.example"
    assert not {b"x-real-ip", b"x-forwarded-prefix"} & request.headers.keys()


LIMITED = "rate_limit: [{by: ip, limit: 1/hour}]"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        # What is not the rightmost untrusted address is only a claim and makes nobody somebody else.
        (b"1.1.1.1, 203.0.113.9", b"2.2.2.2, 203.0.113.9", True),
        (b"203.0.113.9, 127.0.0.1", b"203.0.113.9", True),
        (b"203.0.113.9:1000", b"203.0.113.9:2000", True),
        (b"x, 203.0.113.9", b"203.0.113.9,203.0.113.9", True),
        (b"203.0.113.9, 203.0.113.7", b"203.0.113.9, 203.0.113.8", False),
        # What is no address ends the search: the last trusted proxy counts.
        (b"203.0.113.9, evil", b"203.0.113.8, unknown", True),
        (b"203.0.113.9,", b"203.0.113.8,", True),
    ],
)
async def test_c04_behind_a_trusted_proxy_the_client_is_counted_from_the_right(
    start: Start, upstream: Upstream, first: bytes, second: bytes, same: bool
) -> None:
    client = await (await start(route=LIMITED, more=TRUST)).client()
    statuses = [(await client.ask(get(b"X-Forwarded-For: " + value))).status for value in (first, second)]
    assert statuses == [200, 429 if same else 200]


async def test_c04_from_others_no_claim_makes_another_client(start: Start, upstream: Upstream) -> None:
    client = await (await start(route=LIMITED)).client()
    statuses = [(await client.ask(get(*CLAIMED))).status, *[(await client.ask(get(f))).status for f in CLAIMED]]
    assert statuses == [200, *[429] * len(CLAIMED)]


async def test_c04_a_proxys_address_in_several_lines_is_read_as_one_list(start: Start, upstream: Upstream) -> None:
    client = await (await start(route=LIMITED, more=TRUST)).client()
    for first, status in ((b"203.0.113.9", 200), (b"203.0.113.8", 429)):
        fields = b"X-Forwarded-For: " + first, b"X-Forwarded-For: 203.0.113.1"
        assert (await client.ask(get(*fields))).status == status


# -- C6, C7: which of several counts


async def test_c06_two_authorization_fields_are_refused(start: Start, upstream: Upstream) -> None:
    gateway = await start(guarded(upstream))
    good, bad = token(), b"Authorization: Bearer x"
    for pair in ((good, bad), (bad, good), (good, good), (good, b"authorization:"), (b"AUTHORIZATION: Basic x", good)):
        await refused(await gateway.client(), upstream, get(*pair, target=b"/me"))


@pytest.mark.parametrize("sent", [b"Bearer %b, Bearer %b", b"Bearer %b Bearer %b", b"Bearer %b,%b", b"Bearer %b\t%b"])
async def test_c06_two_tokens_in_one_field_are_no_token(start: Start, upstream: Upstream, sent: bytes) -> None:
    client = await (await start(guarded(upstream))).client()
    word = token().rpartition(b" ")[2]
    answer = await client.ask(get(b"Authorization: " + sent % (word, word), target=b"/me"))
    assert (answer.status, upstream.received) == (401, b"")


@pytest.mark.parametrize("values", [(b"admin", b"x"), (b"x", b"admin"), (b"", b"admin", b"x"), (b"admin", b"admin")])
async def test_c07_a_header_condition_sees_every_value(
    start: Start, upstream: Upstream, values: tuple[bytes, ...]
) -> None:
    """The protected route asks for the header: no second line makes the request fall through to the open one."""
    yaml = guarded(upstream, route=', headers: {X-Mode: "admin"}').replace("/me/**", "/**")
    client = await (await start(yaml)).client()
    answer = await client.ask(get(*(b"X-Mode: " + value for value in values)))
    assert (answer.status, upstream.received) == (401, b"")
    assert (await client.ask(get(b"X-Mode: other"))).status == 200


# -- C8, C9: fields for one hop


@pytest.mark.parametrize(
    "field",
    [
        *(b"TE: deflate", b"TE: trailers", b"Keep-Alive: timeout=5"),
        *(b"Trailer: X-Sum", b"Proxy-Authorization: Basic x"),
        *(b"Proxy-Connection: keep-alive", b"Proxy-Authenticate: Basic"),
        *(b"HTTP2-Settings: AAMAAABkAARAAAAA", b"Upgrade: x"),
        *(b"Proxy_Authorization: Basic x", b"Proxy: http://evil:3128", b"PROXY: http://evil:3128", b"proxy: x"),
        *(b"Keep_Alive: 5", b"Content_Length: 5", b"Transfer_Encoding: chunked", b"Transfer.Encoding: chunked"),
    ],
)
async def test_c08_c09_hop_by_hop_fields_and_proxy_are_not_forwarded(
    client: Client, upstream: Upstream, field: bytes
) -> None:
    request = await passed(client, upstream, field, b"X-End: stays")
    assert lines(upstream, re.sub(rb"[_.]", b"-", field.partition(b":")[0].lower())) == []
    assert request.headers[b"x-end"] == b"stays"


# -- C10, C11: what is written


async def test_c10_a_claim_with_a_line_end_is_left_out(start: Start, upstream: Upstream) -> None:
    client = await (await start(guarded(upstream))).client()
    for plan in (
        "gold\r\nX-Evil: 1",
        "gold\nX-Evil: 1",
        "gold\rX-Evil: 1",
        "a\x00b",
        "\u010a\u010d",
        ["a", "b\r\nX-Evil: 1"],
    ):
        request = await passed(client, upstream, token(plan=plan), b"X-Plan: gold", target=b"/me")
        assert b"x-plan" not in request.headers
        assert request.headers[b"x-user-id"] == b"alice"
    assert lines(upstream, b"x-evil") == []


@pytest.mark.parametrize(
    "value", [b"/x\rSet-Cookie: a=b", b"/x\nSet-Cookie: a=b", b"/x\x00y", b"/x\r\r\nSet-Cookie: a=b", b"/x\x0by"]
)
async def test_c10_an_upstreams_location_with_a_line_end_is_a_malformed_reply(
    client: Client, upstream: Upstream, value: bytes
) -> None:
    upstream.script = replying(b"HTTP/1.1 302 Found\r\nLocation: " + value + b"\r\nContent-Length: 0\r\n\r\n")
    answer = await client.ask(get())
    assert answer.status == 502
    assert not {"location", "set-cookie"} & answer.headers.keys()


ODD_IDS = [
    b"a b",
    b"a" * 129,
    b"a;b",
    b'"a"',
    b"a\tb",
    b"\xe4",
    b"<a>",
    b"a,b",
    b"{a}",
    b"%0d%0a",
    b"a\\nb",
    b"$(x)",
    b"",
]


@pytest.mark.parametrize("value", [*ODD_IDS, b"from-the-client"])
async def test_c11_a_clients_request_id_is_replaced(client: Client, upstream: Upstream, value: bytes) -> None:
    answer = await client.ask(get(b"X-Request-Id: " + value, b"X_Request_ID: " + value))
    (sent,) = lines(upstream, b"x-request-id")
    assert re.fullmatch(rb"[0-9a-f]{20}", sent)
    assert answer.headers["x-request-id"] == sent.decode()


@pytest.mark.parametrize("value", ODD_IDS)
async def test_c11_an_odd_request_id_is_replaced_even_from_a_trusted_peer(
    start: Start, upstream: Upstream, value: bytes
) -> None:
    client = await (await start(more=TRUST)).client()
    answer = await client.ask(get(b"X-Request-Id: " + value))
    (sent,) = lines(upstream, b"x-request-id")
    assert re.fullmatch(rb"[0-9a-f]{20}", sent)
    assert answer.headers["x-request-id"] == sent.decode()


@pytest.mark.parametrize("value", [b"a" * 128, b"01HZX-3f/a+b=._~"])
async def test_c11_a_sound_request_id_of_a_trusted_peer_is_kept(start: Start, upstream: Upstream, value: bytes) -> None:
    client = await (await start(more=TRUST)).client()
    answer = await client.ask(get(b"X-Request-Id: " + value))
    assert lines(upstream, b"x-request-id") == [value]
    assert answer.headers["x-request-id"] == value.decode()


# -- C12, C13: replies


async def test_c12_hop_by_hop_fields_of_a_reply_and_alt_svc_are_dropped(client: Client, upstream: Upstream) -> None:
    dropped = {
        *("keep-alive: timeout=5", "proxy-connection: keep-alive", "proxy-authenticate: Basic", "te: trailers"),
        *("trailer: X-Sum", "upgrade: h2c", 'alt-svc: h3=":443"', "x-request-id: theirs", "x-hop: 1"),
    }
    head = ["HTTP/1.1 200 OK", "Connection: X-Hop", "X-End: stays", "Content-Length: 2", *dropped]
    upstream.script = replying("\r\n".join([*head, "", "ok"]).encode())
    for _ in range(3):  # a reply that comes again is read by another way
        answer = await client.ask(get())
        assert (answer.status, answer.body, answer.headers["x-end"]) == (200, b"ok", "stays")
        assert answer.headers["x-request-id"] != "theirs"
        names = {line.partition(":")[0] for line in dropped} - {"x-request-id"}
        assert not (names | {"connection"}) & answer.headers.keys()


async def _reset(visit: Visit) -> None:
    await visit.request()
    visit.reset()


async def _silent(visit: Visit) -> None:
    await visit.request()
    await asyncio.sleep(PATIENCE)


def assert_tells_nothing(data: bytes, upstream: Upstream) -> None:
    """Neither address nor port of the upstream, nor how the gateway is made; ids are random digits."""
    said = re.sub(rb"[0-9a-f]{20}", b"", data).lower()
    for word in (b"127.0.0.1", b"%d" % upstream.port, b"traceback", b".py", b"errno", b"exception", b"runtimeerror"):
        assert word not in said, (word, data)


async def raw(gateway: Gateway) -> bytes:
    """All bytes of one answer, head included."""
    client = await gateway.client()
    await client.send(get(b"Connection: close"))
    return await client.rest()


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (_reset, b"502"),
        (_silent, b"504"),
        (replying(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), b"502"),
        (replying(b"secret://127.0.0.1/etc/passwd\r\n\r\n"), b"502"),
    ],
)
async def test_c13_an_upstreams_failure_tells_nothing_of_the_inside(
    start: Start, upstream: Upstream, script: object, status: bytes
) -> None:
    upstream.script = script  # type: ignore[assignment]  # one of the scripts above
    gateway = await start(up="retry: off, breaker: off, timeouts: {try: 100ms}")
    data = await raw(gateway)
    assert data.startswith(b"HTTP/1.1 " + status)
    assert b"secret" not in data
    assert_tells_nothing(data, upstream)


async def test_c13_an_unreachable_upstream_tells_nothing_of_the_inside(start: Start, upstream: Upstream) -> None:
    gateway = await start()
    await upstream.stop()
    data = await raw(gateway)
    assert data.startswith(b"HTTP/1.1 502")
    assert_tells_nothing(data, upstream)


async def test_c13_a_bug_of_the_gateway_tells_nothing_of_the_inside(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start()

    def explosive(*_: object) -> None:
        raise RuntimeError(f"/srv/gateway.py cannot reach 127.0.0.1:{upstream.port}")

    monkeypatch.setattr(gateway.runtime.handler, "_find", explosive)
    data = await raw(gateway)
    assert data.startswith(b"HTTP/1.1 500")
    assert b"cannot reach" not in data
    assert_tells_nothing(data, upstream)
    assert "cannot reach" in caplog.text  # the operator does hear of it
    assert upstream.received == b""


# -- C14: loops


async def test_c14_a_gateway_that_is_its_own_upstream_answers_508_after_one_round(
    start: Start, upstream: Upstream
) -> None:
    gateway = await start()

    async def back_to_the_gateway(visit: Visit) -> None:
        client = await gateway.client()
        await client.send(await visit.request())
        client.end()
        await visit.write(await client.rest())
        visit.close()

    upstream.script = back_to_the_gateway
    answer = await (await gateway.client()).ask(get())
    assert answer.status == 508
    assert b'"loop_detected"' in answer.body
    assert upstream.requests == [b"GET /"]


async def test_c14_its_own_via_is_found_among_others(client: Client, upstream: Upstream) -> None:
    own = (await passed(client, upstream)).headers[b"via"]
    for fields in ([b"Via: " + own], [b"Via: 1.0 x, " + own + b", 1.1 y"], [b"Via: " + own, b"Via: 1.1 y"]):
        answer = await client.ask(get(*fields))
        assert answer.status == 508
    assert len(upstream.requests) == 1


async def test_c14_anothers_via_is_continued(client: Client, upstream: Upstream) -> None:
    request = await passed(client, upstream, b"Via: 1.1 x", b"Via: 1.1 gateway (00000000), 1.1 gateway")
    assert re.fullmatch(
        rb"1\.1 x, 1\.1 gateway \(00000000\), 1\.1 gateway, 1\.1 gateway \(\w+\)", request.headers[b"via"]
    )


# -- C15: ranges


async def test_c15_a_thousand_ranges_pass_in_one_piece_and_cost_nothing(client: Client, upstream: Upstream) -> None:
    value = b"bytes=" + b",".join([b"0-%d" % (1000 + n) for n in range(1000)])
    started = time.process_time()
    request = await passed(client, upstream, b"Range: " + value)
    assert request.headers[b"range"] == value
    assert time.process_time() - started < 0.25
    assert len(upstream.requests) == 1


async def test_c15_a_multipart_answer_to_ranges_is_passed_as_it_is(client: Client, upstream: Upstream) -> None:
    body = b"--x\r\nContent-Range: bytes 0-0/2\r\n\r\no\r\n--x--\r\n"
    kind = b"Content-Type: multipart/byteranges; boundary=x"
    upstream.script = replying(
        message(b"HTTP/1.1 206 Partial Content", kind, b"Content-Length: %d" % len(body), host=b"") + body
    )
    answer = await client.ask(get(b"Range: bytes=0-0,0-0"))
    assert (answer.status, answer.body) == (206, body)
