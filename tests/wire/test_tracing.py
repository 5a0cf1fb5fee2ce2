"""Traces over real sockets: what upstreams are told, and what the collector gets of it."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from gateway.assemble import assemble
from gateway.config import load
from gateway.tracing.collector import Collector
from gateway.tracing.exporter import Exporter
from gateway.tracing.otlp import Answer
from tests.collector import Receiver, Span, attributes
from tests.servers import free_port
from tests.wire.actors import OK, Gateway, Upstream, Visit, replying
from tests.wire.conftest import Start
from tests.wire.payloads import get
from tests.wire.test_websocket_raw import converse, echoing

ID, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TOLD = re.compile(rb"\r\ntraceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\r\n")
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
SERVER, CLIENT = 2, 3


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


def tracing(receiver: Receiver, settings: str = "sample: 100%") -> str:
    return f"tracing: {{otlp: {receiver.url}, {settings}}}"


def parent(flags: str = "01", more: bytes = b"") -> bytes:
    return b"traceparent: 00-%b-%b-%b\r\n%b" % (ID.encode(), SPAN.encode(), flags.encode(), more)


def told(upstream: Upstream) -> list[tuple[str, str, str]]:
    """Trace, span and flags of each try, in their order."""
    return [(trace.decode(), span.decode(), flags.decode()) for trace, span, flags in TOLD.findall(upstream.received)]


def request(headers: bytes = b"", path: bytes = b"/orders/1?token=secret") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (path, headers)


def by_kind(spans: list[Span], kind: int) -> list[Span]:
    return [span for span in spans if span["kind"] == kind]


def outcomes(*replies: bytes) -> Upstream:
    """Answers with these, one after the other, and then with OK."""
    left = list(replies)

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.write(left.pop(0) if left else OK)

    return Upstream(script)


async def test_a_trace_arrives_whole_and_upstreams_were_told_the_spans_that_it_has(
    start: Start, receiver: Receiver, upstream: Upstream
) -> None:
    upstream.script = outcomes(BUSY).script
    gateway = await start(more=tracing(receiver), up="retry: {attempts: 2}, breaker: off")
    answer = await (await gateway.client()).ask(request(parent(more=b"tracestate: vendor=1\r\n")))
    assert answer.status == 200
    spans = await receiver.spans_come(4)
    (server,), clients = by_kind(spans, SERVER), by_kind(spans, CLIENT)
    assert {span["traceId"] for span in spans} == {ID}
    assert server["parentSpanId"] == SPAN
    assert server["name"] == "GET /**"
    assert told(upstream) == [(ID, span["spanId"], "01") for span in clients]
    assert len({span["spanId"] for span in (*clients, server)} | {SPAN}) == 4
    assert {span["parentSpanId"] for span in clients} == {server["spanId"]}
    assert [attributes(span)["http.response.status_code"] for span in clients] == [503, 200]
    assert [attributes(span).get("http.request.resend_count") for span in clients] == [None, 1]
    assert [span["name"] for span in spans if span["kind"] == 1].count("connect") == 2
    assert upstream.received.count(b"tracestate: vendor=1\r\n") == 2
    assert all(span["traceState"] == "vendor=1" for span in spans)
    assert attributes(server)["gateway.request_id"] == answer.headers["x-request-id"]
    assert "secret" not in str(spans)
    assert receiver.asked == ["/v1/traces"]
    (resource,) = receiver.resources
    assert resource["service.name"] == "resilient-gateway"
    assert resource.keys() == {"service.name", "service.version", "service.instance.id", "host.name"}
    for span in spans:
        assert int(server["startTimeUnixNano"]) <= int(span["startTimeUnixNano"])
        assert int(span["endTimeUnixNano"]) <= int(server["endTimeUnixNano"])


async def test_a_trace_begins_here_when_the_client_has_none(
    start: Start, receiver: Receiver, upstream: Upstream
) -> None:
    gateway = await start(more=tracing(receiver))
    await (await gateway.client()).ask(get())
    spans = await receiver.spans_come(3)
    (server,), (client,) = by_kind(spans, SERVER), by_kind(spans, CLIENT)
    assert "parentSpanId" not in server
    assert told(upstream) == [(server["traceId"], client["spanId"], "01")]
    assert b"tracestate" not in upstream.received


async def test_what_the_client_wrote_never_stands_beside_what_the_gateway_says(
    start: Start, receiver: Receiver, upstream: Upstream
) -> None:
    gateway = await start(more=tracing(receiver))
    client = await gateway.client()
    await client.ask(request(parent() + parent() + b"tracestate: a=1\r\n"))
    await client.ask(request(b"traceparent: 00-junk\r\nTraceState: b=2\r\n"))
    await client.ask(request(parent(more=b"tracestate: =\r\nConnection: traceparent, tracestate\r\n")))
    assert upstream.received.count(b"traceparent") == 3
    assert b"tracestate" not in upstream.received
    assert [trace == ID for trace, _, _ in told(upstream)] == [False, False, True]


async def test_without_tracing_its_headers_pass_like_any_others(start: Start, upstream: Upstream) -> None:
    gateway = await start()
    sent = b"traceparent: anything\r\ntracestate: =\r\ntraceparent: else\r\n"
    await (await gateway.client()).ask(request(sent))
    assert sent in upstream.received
    assert gateway.runtime.parts.of(Exporter) == []


async def test_a_failure_is_recorded_although_upstreams_were_told_that_it_is_not(
    start: Start, receiver: Receiver, upstream: Upstream
) -> None:
    upstream.script = outcomes(OK, BUSY).script
    gateway = await start(more=tracing(receiver, "sample: 0%"))
    client = await gateway.client()
    await client.ask(get())
    assert (await client.ask(request(parent("00")))).status == 503
    spans = await receiver.spans_come(2)
    (server,) = by_kind(spans, SERVER)
    assert (server["traceId"], server["flags"]) == (ID, 0)
    assert attributes(server)["error.type"] == "503"
    assert [flags for _, _, flags in told(upstream)] == ["00", "00"]


async def test_what_the_gateway_ends_itself_is_a_trace_without_a_try(start: Start, receiver: Receiver) -> None:
    gateway = await start(route='fault: {status: 503, share: "100%"}', more=tracing(receiver, "sample: 0%"))
    assert (await (await gateway.client()).ask(get())).status == 503
    server, fault = await receiver.spans_come(2)
    assert attributes(server)["http.response.status_code"] == 503
    assert "status" in server
    assert fault["name"] == "fault all"


async def test_of_tries_at_the_same_time_each_has_its_own_span(start: Start, receiver: Receiver) -> None:
    async def never(visit: Visit) -> None:
        while await visit.read():
            pass

    late, quick = Upstream(never), Upstream(replying())
    try:
        await late.start()
        await quick.start()
        gateway = await start(f"""
listen: {{admin: "off"}}
{tracing(receiver)}
upstreams:
  up:
    targets: ["http://127.0.0.1:{late.port}", "http://127.0.0.1:{quick.port}"]
    retry: {{attempts: 1, budget: 100%}}
    hedge: {{after: 20ms, max: 1}}
    breaker: off
routes: [{{name: all, match: {{path: "/**"}}, upstream: up}}]
""")
        assert (await (await gateway.client()).ask(get())).status == 200
        spans = await receiver.spans_come(6)
    finally:
        await late.stop()
        await quick.stop()
    outcome = {span["spanId"]: attributes(span)["gateway.outcome"] for span in by_kind(spans, CLIENT)}
    ((_, lost, _),), ((_, won, _),) = told(late), told(quick)
    assert outcome == {lost: "cancelled", won: "200"}


async def test_a_copy_goes_with_spans_of_its_own_in_the_same_trace(
    start: Start, receiver: Receiver, upstream: Upstream
) -> None:
    shadow = await Upstream().start()
    try:
        gateway = await start(f"""
listen: {{admin: "off"}}
{tracing(receiver)}
upstreams:
  up: {{targets: ["http://127.0.0.1:{upstream.port}"]}}
  shadow: {{targets: ["http://127.0.0.1:{shadow.port}"]}}
routes: [{{name: all, match: {{path: "/**"}}, upstream: up, mirror: {{upstream: shadow}}}}]
""")
        await (await gateway.client()).ask(request(parent()))
        spans = await receiver.spans_come(6)
    finally:
        await shadow.stop()
    ((_, ours, _),), ((trace, theirs, _),) = told(upstream), told(shadow)
    assert trace == ID
    assert ours != theirs
    (server,) = by_kind(spans, SERVER)
    above = {span["spanId"]: span["parentSpanId"] for span in spans}
    (copy,) = [span for span in spans if span["name"] == "mirror shadow"]
    assert (above[ours], above[theirs], copy["parentSpanId"]) == (server["spanId"], copy["spanId"], server["spanId"])


async def test_a_tunnel_is_a_trace_once_it_is_over_and_its_upstream_was_told(
    start: Start, receiver: Receiver, upstream: Upstream
) -> None:
    upstream.script = echoing
    gateway = await start(more=tracing(receiver))
    tunnel = await gateway.client()
    await converse(tunnel)
    tunnel.writer.close()
    spans = await receiver.spans_come(4)
    (server,), (client,) = by_kind(spans, SERVER), by_kind(spans, CLIENT)
    assert told(upstream) == [(server["traceId"], client["spanId"], "01")]
    assert attributes(server)["http.response.status_code"] == 101
    assert "status" not in server


async def test_a_collector_that_is_away_costs_requests_nothing_and_is_counted(
    start: Start, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start(more=f"tracing: {{otlp: http://127.0.0.1:{free_port()}, sample: 100%}}")
    client = await gateway.client()
    for _ in range(50):
        assert (await client.ask(get())).status == 200
    await gateway.runtime.close()  # what is left is tried once more, and then given up
    metrics = gateway.runtime.metrics
    assert metrics.spans.child("dropped").value == 50 * 2 + 1
    assert metrics.spans.child("exported").value == 0
    assert [each for each in caplog.records if each.levelno >= logging.WARNING and "spans dropped" in each.msg]


async def test_a_gateway_that_stops_sends_what_is_left(start: Start, receiver: Receiver) -> None:
    gateway = await start(more=tracing(receiver))
    await (await gateway.client()).ask(get())
    await gateway.runtime.close()
    assert len(receiver.spans) == 3
    assert gateway.runtime.metrics.spans.child("exported").value == 3


async def reloaded(gateway: Gateway, folder: Path, yaml: str) -> None:
    """As a worker does it."""
    (folder / "routes.yaml").write_text(yaml)
    old = gateway.runtime
    gateway.runtime = assemble(load(folder / "routes.yaml", {}), previous=old)
    gateway.runtime.start()
    gateway.server.app = gateway.runtime.handler
    await old.retire(gateway.runtime)


async def test_a_reload_keeps_the_exporter_or_swaps_it_and_loses_nothing(
    start: Start, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.runtime.PATIENCE", 0.01)
    gateway = await start(more=tracing(receiver))
    before = (tmp_path / "routes.yaml").read_text()
    (exporter,) = gateway.runtime.parts.of(Exporter)
    client = await gateway.client()
    await client.ask(get())
    await reloaded(gateway, tmp_path, before.replace("sample: 100%", "sample: 100%, parent: never"))
    assert gateway.runtime.parts.of(Exporter) == [exporter]
    await client.ask(get())
    await reloaded(gateway, tmp_path, before.replace("sample: 100%", "sample: 100%, service: other"))
    assert gateway.runtime.parts.of(Exporter) != [exporter]
    assert len(by_kind(receiver.spans, SERVER)) == 2  # the old one has sent what it had
    await client.ask(get())
    await gateway.runtime.close()
    assert len(by_kind(receiver.spans, SERVER)) == 3
    assert [each["service.name"] for each in receiver.resources][-1] == "other"


# -- what a collector may answer -------------------------------------------------------------------------


async def answered(
    receiver: Receiver, reply: web.StreamResponse | None = None, within: float = 5.0, **headers: str
) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        if reply is None:
            await asyncio.sleep(1)
        return reply or web.Response()

    receiver.answer = answer
    collector = Collector(receiver.url, headers, within=within)
    try:
        return await collector.send(b"{}")
    finally:
        await collector.close()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_statuses_that_invite_to_come_again(receiver: Receiver, status: int) -> None:
    answer = await answered(receiver, web.Response(status=status))
    assert (answer.accepted, answer.again, answer.retry_after) == (False, True, 0.0)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 413, 500, 501])
async def test_every_other_status_is_final_and_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    answer = await answered(receiver, web.Response(status=status, headers={"Location": receiver.url}))
    assert (answer.accepted, answer.again) == (False, False)
    assert answer.reason == f"it replied with status {status}"
    assert len(receiver.asked) == 1


async def test_a_collector_may_ask_to_be_left_alone(receiver: Receiver) -> None:
    answer = await answered(receiver, web.Response(status=503, headers={"Retry-After": "17"}))
    assert answer.retry_after == 17.0


async def test_a_collector_may_take_a_part(receiver: Receiver) -> None:
    body = {"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too\nold"}}
    answer = await answered(receiver, web.json_response(body))
    assert (answer.accepted, answer.rejected, answer.reason) == (True, 2, "too old")


async def test_an_answer_without_an_end_is_not_read_to_it(receiver: Receiver) -> None:
    answer = await answered(receiver, web.Response(body=b" " * 100_000))
    assert (answer.accepted, answer.again) == (False, False)


async def test_an_answer_that_does_not_come_may_come_the_next_time(receiver: Receiver) -> None:
    answer = await answered(receiver, within=0.02)
    assert (answer.accepted, answer.again) == (False, True)


async def test_the_collector_gets_its_credentials_and_the_right_type(receiver: Receiver) -> None:
    await answered(receiver, web.Response(), Authorization="Bearer x")
    (asked,) = receiver.requests
    assert asked.headers["Authorization"] == "Bearer x"
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["User-Agent"].startswith("resilient-gateway/")


async def test_a_header_that_is_configured_stands_in_the_place_of_the_gateways_own(receiver: Receiver) -> None:
    answer = await answered(receiver, web.Response(), **{"user-agent": "mine", "accept-encoding": "gzip"})
    assert answer.accepted  # a server refuses what is there twice
    (asked,) = receiver.requests
    assert asked.headers.getall("User-Agent") == ["mine"]
    assert asked.headers.getall("Accept-Encoding") == ["gzip"]
