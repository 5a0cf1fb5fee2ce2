"""Another upstream in the place of one that fails, and one whose own quota is used up, over real sockets."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.wire.actors import OK, Gateway, Script, Upstream, Visit, replying
from tests.wire.conftest import Start
from tests.wire.payloads import CHUNKED, get, post

PLAIN = "retry: off, breaker: off"
DEGRADED = '{json: {id: "{request.id}", why: "{reason}"}, headers: {X-Route: "{route}"}}'
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno"
SPARE = b"HTTP/1.1 200 OK\r\nX-Gateway-Fallback: static\r\nContent-Length: 5\r\n\r\nspare"
LAST = b"HTTP/1.1 200 OK\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 1\r\nContent-Length: 2\r\n\r\nok"
TOO_MANY = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
async def spare() -> AsyncIterator[Upstream]:
    spare = await Upstream(replying(SPARE)).start()
    try:
        yield spare
    finally:
        await spare.stop()


def two(upstream: Upstream, spare: Upstream, *after: str, up: str = PLAIN) -> str:
    """A route to `up`, then to `spare`, then to the answers in `after`."""
    return f"""
listen: {{admin: "off"}}
upstreams:
  up: {{targets: ["http://127.0.0.1:{upstream.port}"], {up}}}
  spare: {{targets: ["http://127.0.0.1:{spare.port}"], {PLAIN}}}
routes:
  - {{name: all, match: {{path: "/**"}}, upstream: up, fallback: [{", ".join(["{upstream: spare}", *after])}]}}
"""


async def resetting(visit: Visit) -> None:
    await visit.request()
    visit.reset()


async def silent(visit: Visit) -> None:
    await visit.request()
    await visit.ended.wait()


async def streaming(visit: Visit) -> None:
    """A failure whose body does not end."""
    await visit.request()
    await visit.write(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nTrace\r\n")
    await visit.read()


def counted(gateway: Gateway) -> dict[tuple[str, ...], float]:
    samples = [sample for metric in gateway.runtime.metrics.registry.collect() for sample in metric.samples]
    return {
        tuple(sample.labels.values()): sample.value
        for sample in samples
        if sample.name == "gateway_fallbacks_total" and sample.value
    }


@pytest.mark.parametrize(
    ("script", "kind"),
    [(resetting, "reset"), (silent, "timeout"), (streaming, "500"), (replying(UNAVAILABLE), "503")],
    ids=["reset", "timeout", "streaming", "503"],
)
@pytest.mark.parametrize("retry", ["retry: off", "retry: {attempts: 2, backoff: {base: 1ms, max: 1ms}}"])
async def test_another_upstream_answers_in_the_place_of_one_that_fails(
    start: Start, upstream: Upstream, spare: Upstream, script: Script, kind: str, retry: str
) -> None:
    upstream.script = script
    gateway = await start(two(upstream, spare, up=f"{retry}, breaker: off, timeouts: {{try: 100ms, total: 150ms}}"))
    client = await gateway.client()
    for _ in range(2):  # on one connection, which is left in order
        answer = await client.ask(get())
        assert (answer.status, answer.body, answer.headers["x-gateway-fallback"]) == (200, b"spare", "upstream")
    [(route, by, reason)] = counted(gateway)
    assert (route, by) == ("all", "upstream")
    assert reason in {kind, "deadline_passed"}


async def test_an_upstream_that_answers_is_left_to_it(start: Start, upstream: Upstream, spare: Upstream) -> None:
    client = await (await start(two(upstream, spare))).client()
    answer = await client.ask(get())
    assert answer.body == b"ok"
    assert "x-gateway-fallback" not in answer.headers
    assert spare.visits == []


async def test_a_body_in_pieces_reaches_the_other_upstream_in_whole(
    start: Start, upstream: Upstream, spare: Upstream
) -> None:
    async def breaking_off(visit: Visit) -> None:
        while b"one" not in visit.received:
            await visit.read()
        visit.reset()

    upstream.script = breaking_off
    client = await (await start(two(upstream, spare))).client()
    await client.send(post(CHUNKED, body=b"3\r\none\r\n").replace(b"POST", b"PUT"))
    await spare.hears(b"one")
    await client.send(b"3\r\ntwo\r\n0\r\n\r\n")
    assert (await client.answer()).body == b"spare"
    assert b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n" in spare.received


async def test_when_the_other_upstream_fails_too_a_prepared_answer_tells_of_the_first_failure(
    start: Start, upstream: Upstream, spare: Upstream
) -> None:
    upstream.script, spare.script = resetting, replying(UNAVAILABLE)
    gateway = await start(two(upstream, spare, DEGRADED))
    answer = await (await gateway.client()).ask(get())
    assert json.loads(answer.body) == {"id": answer.headers["x-request-id"], "why": "reset"}
    assert (answer.headers["x-route"], answer.headers["x-gateway-fallback"]) == ("all", "static")
    assert counted(gateway) == {("all", "static", "reset"): 1}


async def test_when_both_upstreams_fail_the_first_failure_stands(
    start: Start, upstream: Upstream, spare: Upstream
) -> None:
    upstream.script, spare.script = replying(UNAVAILABLE), resetting
    answer = await (await (await start(two(upstream, spare))).client()).ask(get())
    assert (answer.status, answer.body) == (503, b"no")
    assert "x-gateway-fallback" not in answer.headers


async def test_a_file_answers_with_the_type_of_its_suffix(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = resetting
    (tmp_path / "away.html").write_text("<h1>{back soon}</h1>")
    gateway = await start(route="fallback: [{file: away.html, status: 503}]")
    answer = await (await gateway.client()).ask(get())
    assert (answer.status, answer.body) == (503, b"<h1>{back soon}</h1>")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-gateway-fallback"] == "file"


async def test_a_client_that_leaves_while_the_other_upstream_is_asked_leaves_nothing_behind(
    start: Start, upstream: Upstream, spare: Upstream
) -> None:
    upstream.script, spare.script = streaming, silent
    gateway = await start(two(upstream, spare))
    client = await gateway.client()
    await client.send(get())
    await spare.hears(b"\r\n\r\n")
    assert gateway.busy() == 2
    client.reset()
    await gateway.quiet()


@pytest.mark.parametrize("last", [LAST, TOO_MANY], ids=["remaining", "429"])
async def test_an_upstream_whose_quota_is_used_up_is_not_asked_until_its_reset(
    start: Start, upstream: Upstream, last: bytes
) -> None:
    upstream.script = replying(last)
    client = await (await start(up=f"{PLAIN}, quota: {{respect: true}}")).client()
    await client.ask(get(target=b"/last"))
    before = time.monotonic()
    upstream.script = replying(OK)
    answer = await client.ask(get(target=b"/shed"))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert json.loads(answer.body)["code"] == "upstream_quota"
    await asyncio.sleep(max(0.0, before + 1.0 - time.monotonic()))
    assert (await client.ask(get(target=b"/again"))).status in {200, 429}
    assert upstream.requests == [b"GET /last", b"GET /again"]


async def test_during_the_pause_the_other_upstream_answers(start: Start, upstream: Upstream, spare: Upstream) -> None:
    upstream.script = replying(LAST)
    gateway = await start(two(upstream, spare, up=f"{PLAIN}, quota: {{respect: true}}"))
    client = await gateway.client()
    assert (await client.ask(get())).body == b"ok"
    assert (await client.ask(get())).body == b"spare"
    assert counted(gateway) == {("all", "upstream", "quota"): 1}
    assert len(upstream.requests) == 1


async def test_whoever_answers_or_has_a_copy_is_told_the_version_and_does_not_tell_it_himself(
    start: Start, upstream: Upstream, spare: Upstream
) -> None:
    """`spare` is the route's fallback and its mirror: both get what the upstream gets."""
    upstream.script = replying(UNAVAILABLE)
    spare.script = replying(
        b"HTTP/1.1 200 OK\r\nX-API-Version: v9\r\nDeprecation: true\r\nContent-Length: 5\r\n\r\nspare"
    )
    gateway = await start(f"""
listen: {{admin: "off"}}
upstreams:
  up: {{targets: ["http://127.0.0.1:{upstream.port}"], {PLAIN}}}
  spare: {{targets: ["http://127.0.0.1:{spare.port}"], {PLAIN}}}
routes:
  - name: orders
    match: {{path: /orders/**}}
    versions: {{available: {{v1: {{upstream: up, deprecated: 2026-01-01}}}}}}
    fallback: [{{on: [503], upstream: spare}}]
    mirror: {{upstream: spare, share: 100%}}
    transform: {{add_prefix: /in, request_headers: {{set: {{X-Route: "{{route}}"}}, remove: [Cookie]}}}}
""")
    answer = await (await gateway.client()).ask(get(b"Cookie: secret", b"X-API-Version: v7", target=b"/v1/orders"))
    assert (answer.body, answer.headers["x-api-version"], answer.headers["deprecation"]) == (
        b"spare",
        "v1",
        "@1767225600",
    )
    await spare.hears(b"x-gateway-mirror: 1")
    for visit in (*upstream.visits, *spare.visits):
        head = bytes(visit.received).lower()
        for one in head.split(b"\r\n\r\n")[:-1]:
            assert one.startswith(b"get /in/orders ")
            assert [line for line in one.split(b"\r\n") if b"version:" in line] == [b"x-api-version: v1"]
            assert b"\r\nx-route: orders" in one
            assert b"cookie" not in one
    assert spare.requests == [b"GET /in/orders"] * 2
