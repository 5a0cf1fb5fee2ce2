"""Why the gateway itself has ended a request: one code in the header, the metrics and the problem document."""

import json

import pytest

from tests.wire.actors import Gateway, Upstream, Visit
from tests.wire.conftest import Start
from tests.wire.payloads import message


def everything(upstream: Upstream) -> str:
    return f"""
listen: {{admin: "off"}}
reason_header: true
rate_limits: {{once: {{by: route, limit: 1/hour}}}}
auth:
  providers: {{keys: {{type: api_key, header: X-API-Key}}}}
upstreams:
  up: {{targets: ["http://127.0.0.1:{upstream.port}"]}}
  gone: {{targets: ["http://127.0.0.1:1"], retry: off, breaker: {{consecutive_failures: 1, open_for: 1m}}}}
routes:
  - {{name: plain, match: {{path: /plain}}, upstream: up, cors: {{origins: ["https://app.example.com"]}}}}
  - {{name: keyed, match: {{path: /keyed}}, upstream: up, auth: {{providers: [keys]}}}}
  - {{name: limited, match: {{path: /limited}}, upstream: up, rate_limit: [once]}}
  - {{name: once, match: {{path: /once}}, upstream: up, idempotency: {{}}}}
  - {{name: gone, match: {{path: /gone}}, upstream: gone}}
  - {{name: spared, match: {{path: /spared}}, upstream: gone, fallback: [{{status: 200, text: spare}}]}}
  - {{name: struck, match: {{path: /struck}}, upstream: up, fault: {{share: 100%, status: 503}}}}
  - {{name: away, match: {{path: /away}}, redirect: {{to: "https://docs.example.com"}}}}
  - {{name: fixed, match: {{path: /fixed}}, respond: {{status: 200, text: ok}}}}
"""


def counted(gateway: Gateway, name: str) -> dict[tuple[str, ...], float]:
    samples = [sample for metric in gateway.runtime.metrics.registry.collect() for sample in metric.samples]
    return {tuple(each.labels.values()): each.value for each in samples if each.name == name and each.value}


def ask(path: str, *fields: bytes, method: str = "GET") -> bytes:
    return message(f"{method} {path} HTTP/1.1".encode(), *fields)


KEYED = ask("/once", b"Idempotency-Key: 1", b"Content-Length: 0", method="POST")
PREFLIGHT = ask("/plain", b"Origin: https://app.example.com", b"Access-Control-Request-Method: GET", method="OPTIONS")


@pytest.mark.parametrize(
    ("requests", "route", "reason"),
    [
        ([ask("/nowhere")], "none", "no_route"),
        ([ask("/plain", method="BREW")], "none", "method_not_allowed"),
        ([ask("/keyed")], "keyed", "unauthenticated"),
        ([ask("/limited")] * 2, "limited", "rate_limited"),
        ([ask("/gone")], "gone", "upstream_unreachable"),
        ([ask("/gone")] * 2, "gone", "circuit_open"),
        ([ask("/spared")], "spared", "fallback"),
        ([ask("/away")], "away", "redirect"),
        ([ask("/fixed")], "fixed", "respond"),
        ([ask("/struck")], "struck", "fault"),
        ([KEYED] * 2, "once", "replayed"),
        ([ask("*", method="OPTIONS")], "none", "options"),
        ([PREFLIGHT], "plain", "preflight"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_request_that_the_gateway_ended_says_why(
    start: Start, upstream: Upstream, requests: list[bytes], route: str, reason: str
) -> None:
    gateway = await start(everything(upstream))
    client = await gateway.client()
    for request in requests:
        answer = await client.ask(request)
    assert answer.headers["x-gateway-reason"] == reason
    await gateway.quiet()
    assert counted(gateway, "gateway_ended_total")[route, reason] == 1
    told = answer.headers.get("content-type") == "application/problem+json"
    if told:
        assert json.loads(answer.body)["code"] == reason
    refused = told and reason != "fault"  # that is an upstream's failure, rehearsed
    assert counted(gateway, "gateway_refusals_total").get((route, reason), 0) == refused


async def test_what_an_upstream_has_answered_has_no_reason(start: Start, upstream: Upstream) -> None:
    gateway = await start(everything(upstream))
    client = await gateway.client()
    assert "x-gateway-reason" not in (await client.ask(ask("/plain"))).headers
    await gateway.quiet()
    assert counted(gateway, "gateway_ended_total") == {}


async def test_bytes_that_were_no_request_have_a_reason(start: Start, upstream: Upstream) -> None:
    gateway = await start(everything(upstream))
    answer = await (await gateway.client()).ask(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")
    assert (answer.status, answer.headers["x-gateway-reason"]) == (400, "bad_request")


async def test_clients_are_told_only_where_that_is_wanted(start: Start, upstream: Upstream) -> None:
    gateway = await start(everything(upstream).replace("reason_header: true", ""))
    answer = await (await gateway.client()).ask(ask("/fixed"))
    assert answer.status == 200
    assert "x-gateway-reason" not in answer.headers


async def test_a_reply_that_broke_off_is_ended_by_what_broke_it(start: Start, upstream: Upstream) -> None:
    async def breaking(visit: Visit) -> None:
        await visit.request()
        await visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        visit.close()

    upstream.script = breaking
    gateway = await start(everything(upstream))
    client = await gateway.client()
    await client.send(ask("/plain"))
    await client.ends()
    await gateway.quiet()
    assert counted(gateway, "gateway_ended_total") == {("plain", "upstream_failed"): 1}
