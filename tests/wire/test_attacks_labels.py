"""H9: whatever clients call things, the number of series stays what it was (CVE-2022-21698)."""

import asyncio
import random

import pytest

from tests.tokens import SECRET, b64, sign
from tests.wire.actors import Client, Gateway, Upstream
from tests.wire.conftest import Start
from tests.wire.payloads import get, message

REQUESTS = 10_000


def yaml(upstream: Upstream) -> str:
    return f"""
listen: {{admin: "off"}}
logging: {{access: "off"}}
reason_header: true
tracing: {{otlp: "http://127.0.0.1:1", sample: 100%}}
auth:
  providers:
    idp: {{type: jwt, secret: "{SECRET.decode()}", algorithms: [HS256]}}
    keys: {{type: api_key, header: X-API-Key}}
    legacy: {{type: basic}}
  consumers: {{acme: {{keys: ["sha256:{"0" * 64}"]}}}}
rate_limits: {{each: {{by: header:X-Tenant, limit: 3/hour}}}}
upstreams:
  up: {{targets: ["http://127.0.0.1:{upstream.port}"], retry: off, breaker: off, concurrency: {{limit: 9}}}}
  dead:
    targets: ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    retry: {{attempts: 2, backoff: {{base: 1ms, max: 1ms}}, budget: 100%}}
    breaker: {{consecutive_failures: 1, open_for: 1h}}
    eject: {{consecutive_failures: 2, for: 1h}}
routes:
  - {{name: open, match: {{path: "/open/**"}}, upstream: up}}
  - {{name: limited, match: {{path: "/limited"}}, upstream: up, rate_limit: [each]}}
  - {{name: once, match: {{path: "/once"}}, upstream: up, idempotency: {{}}}}
  - {{name: private, match: {{path: "/private"}}, upstream: up, auth: {{providers: [idp, keys, legacy]}}}}
  - name: versioned
    match: {{path: "/versioned"}}
    versions: {{from: header, header: X-Version, available: {{v1: {{upstream: up}}}}}}
  - name: ending
    match: {{path: "/ending"}}
    auth: {{providers: [idp], optional: true}}
    versions: {{default: v1, available: {{v1: {{upstream: up, deprecated: 2026-01-01, sunset: 2199-01-01}}}}}}
  - {{name: covered, match: {{path: "/covered/**"}}, upstream: dead, fallback: [{{status: 200, text: ok}}]}}
  - {{name: rehearsed, match: {{path: "/rehearsed/**"}}, upstream: up, fault: {{share: 100%, status: 503}}}}
  - name: parted
    match: {{path: "/parted/**"}}
    split: {{up: 100}}
    mirror: {{upstream: up, share: 100%}}
    slo: {{availability: 99.9%, latency: {{p: 99, under: 300ms}}}}
"""


UNCONFIGURED = {
    *("gateway_upstream_paused_seconds", "gateway_store_up", "gateway_keyset_age_seconds"),
    "gateway_issuer_duration_seconds",
    *("gateway_probe_runs_total", "gateway_probe_up", "gateway_probe_duration_seconds", "gateway_notifications_total"),
}
"""Metrics of what this gateway does without: their labels are names of the configuration, and results."""
OF_THE_PROCESS = {"gateway_connections"}
"""What the worker process counts, and not the runtime that is tested here."""
RARE = {"gateway_hedges_total", "gateway_queue_seconds", "gateway_shed_total"}
"""What happens under load only; nothing of a request's words gets there."""


def signed(subject: str, *, scope: str = "read", kid: str = "one") -> bytes:
    return sign({"sub": subject, "exp": 4_000_000_000, "scope": scope}, header={"kid": kid})


def token(word: bytes, *, subject: str = "alice", kid: str = "one") -> bytes:
    bearer = signed(subject, scope=word.decode(), kid=kid)
    return get(b"Authorization: Bearer " + bearer, target=b"/private")


def hostile(word: bytes) -> dict[str, bytes]:
    """One request of each kind, each with this word in the place of a name."""
    text = word.decode()
    return {
        "method": message(word.upper().replace(b"-", b"") + b" /open/a HTTP/1.1"),
        "known method": message(b"PROPFIND /open/" + word + b" HTTP/1.1"),
        "path of a route": get(target=b"/open/" + word),
        "path of none": get(target=b"/" + word + b"/%22%0A"),
        "path that is refused": get(target=b"/open/%00" + word),
        "query": get(target=b"/open/a?" + word),
        "host": get(target=b"/open/a", host=b"Host: " + word + b".example"),
        "user": token(b"read", subject=text),
        "kid": token(b"read", kid=text),
        "scope": token(word),
        "unknown key": get(b"X-API-Key: gwk_" + word, target=b"/private"),
        "algorithm": get(b"Authorization: Bearer " + b64(b'{"alg":"%b"}' % word) + b".e30.AA", target=b"/private"),
        "User-Agent": get(b"User-Agent: " + word, target=b"/open/a"),
        "version": get(b"X-Version: " + word, target=b"/versioned"),
        "header": get(b"X-" + word + b": " + word, b"X-Request-Id: " + word, target=b"/open/a"),
        "address": get(b"X-Forwarded-For: " + word, b"Forwarded: for=" + word, target=b"/open/a"),
        "trace": get(b"traceparent: 00-%032x-%016x-01" % (int.from_bytes(word, "big") % 2**128, 7), target=b"/open/a"),
        "tenant": get(b"X-Tenant: " + word, target=b"/limited"),
        "idempotency key": message(b"POST /once HTTP/1.1", b'Idempotency-Key: "' + word + b'"', b"Content-Length: 0"),
        "ending version": get(b"Authorization: Bearer " + signed(text), b"X-Version: " + word, target=b"/ending"),
        "fallback": get(b"X-Debug: " + word, target=b"/covered/" + word),
        "fallback of a circuit": message(b"DELETE /covered/" + word + b" HTTP/1.1"),
        "fault": get(target=b"/rehearsed/" + word + b"?" + word),
        "split and mirror": get(b"Cookie: a=" + word, target=b"/parted/" + word),
        "HTTP version": message(b"GET /open/a HTTP/" + word),
    }


class Attacker:
    """Asks one question after another, on a new connection where the old one has ended."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._client: Client | None = None
        self.statuses: dict[str, set[int]] = {}

    async def ask(self, kind: str, request: bytes) -> None:
        if self._client is None:
            self._client = await self._gateway.client()
        answer = await self._client.ask(request)
        self.statuses.setdefault(kind, set()).add(answer.status)
        if answer.headers.get("connection") == "close":
            self._client.close()
            self._client = None


def series(gateway: Gateway) -> set[tuple[str, ...]]:
    """All there are, by name and labels; gauges are what a worker would write now."""
    gateway.runtime.gauges()
    samples = [sample for metric in gateway.runtime.metrics.registry.collect() for sample in metric.samples]
    return {(sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))) for sample in samples}


def counted(gateway: Gateway) -> float:
    """All requests."""
    return sum(counter.value for _, counter in gateway.runtime.metrics.requests)


@pytest.mark.one_loop
async def test_h9_ten_thousand_names_of_clients_make_no_series(start: Start, upstream: Upstream) -> None:
    gateway = await start(yaml(upstream))
    attacker, dice = Attacker(gateway), random.Random(9)
    for _ in range(3):  # circuits open, and are tried again after half a second
        for kind, request in hostile(b"nobodys-name").items():
            await attacker.ask(kind, request)
        await asyncio.sleep(0.6)
    before, asked = series(gateway), 3 * len(attacker.statuses)
    while asked < REQUESTS:
        word = b"%x-%x" % (dice.getrandbits(64), asked)
        for kind, request in hostile(word).items():
            await attacker.ask(kind, request)
            asked += 1

    assert series(gateway) - before == set()
    assert counted(gateway) == asked
    assert {kind for kind, statuses in attacker.statuses.items() if len(statuses) > 1} == set()
    labelled = {family.name for family in gateway.runtime.metrics.families if family.labels}
    counted_here = {metric.name for metric in gateway.runtime.metrics.registry.collect() if metric.samples}
    unseen = {name for name in labelled if name.removesuffix("_total") not in counted_here}
    assert unseen == UNCONFIGURED | OF_THE_PROCESS | RARE
    shown = " ".join(" ".join(each) for each in before)
    assert [word for word in ("nobodys", "NOBODYS", "alice", "PROPFIND") if word in shown] == []
