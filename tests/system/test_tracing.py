"""Traces of an installed gateway with two workers: all of them arrive, also at its end, and none costs a request."""

import asyncio
import re

from tests.collector import Receiver, attributes
from tests.servers import free_port
from tests.system.gateways import Process, Start, fetch, proxy
from tests.system.proc import needs_proc
from tests.system.upstream import Upstream

pytestmark = needs_proc

COUNT = 60
SPAN = "b7ad6b7169203331"


def trace_id(number: int) -> str:
    return f"{number:032x}"


def ask(gateway: Process, number: int, path: str = "/orders") -> int:
    """On a connection of its own, so that both workers get some."""
    parent = {"traceparent": f"00-{trace_id(number)}-{SPAN}-01"}
    return fetch(f"http://127.0.0.1:{gateway.port}{path}", headers=parent)[0]


async def test_every_trace_of_two_workers_arrives_once_also_when_the_gateway_stops(start: Start, upstream: Upstream):
    async with Receiver() as receiver:
        tracing = {"otlp": receiver.url, "sample": "0%"}
        settings = proxy(upstream.port, workers=2, tracing=tracing)
        gateway = await asyncio.to_thread(start, settings)
        for number in range(1, COUNT + 1):
            assert await asyncio.to_thread(ask, gateway, number) == 200
        assert (await asyncio.to_thread(gateway.reload))[0] == 200
        for number in range(COUNT + 1, 2 * COUNT + 1):
            assert await asyncio.to_thread(ask, gateway, number) == 200
        assert await asyncio.to_thread(gateway.stop) == 0
        assert receiver.broken == []
        servers = [span for span in receiver.spans if span["kind"] == 2]
        assert sorted(span["traceId"] for span in servers) == [trace_id(number) for number in range(1, 2 * COUNT + 1)]
        assert {span["parentSpanId"] for span in servers} == {SPAN}
        own = {span["spanId"] for span in servers}
        clients = [span for span in receiver.spans if span["kind"] == 3]
        assert {span["parentSpanId"] for span in clients} == own
        assert len({span["spanId"] for span in receiver.spans}) == len(receiver.spans)
        assert attributes(servers[0])["gateway.route"] == "all"


async def test_a_collector_that_is_away_is_told_of_and_costs_nothing(start: Start, upstream: Upstream):
    tracing = {"otlp": f"http://127.0.0.1:{free_port()}", "sample": "100%"}
    gateway = await asyncio.to_thread(start, proxy(upstream.port, workers=2, tracing=tracing))
    for number in range(1, 20):
        assert await asyncio.to_thread(ask, gateway, number) == 200
    assert await asyncio.to_thread(gateway.stop) == 0
    said = re.findall(r"(\d+) spans dropped", gateway.errors.read_text())
    assert 0 < len(said) <= 4
