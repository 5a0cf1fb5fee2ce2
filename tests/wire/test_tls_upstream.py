"""https:// upstreams with real certificates: what is trusted, and that nothing is sent to what is not."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.wire.actors import OK, Upstream, Visit
from tests.wire.certificates import Authority
from tests.wire.conftest import Start
from tests.wire.test_websocket_raw import SWITCH, converse, echoing, handshake

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def secure(authority: Authority) -> AsyncIterator[Upstream]:
    """An upstream with a certificate for 127.0.0.1."""
    upstream = await Upstream().start(tls=authority.server("127.0.0.1"))
    yield upstream
    await upstream.stop()


def https(upstream: Upstream, tls: str, host: str = "127.0.0.1") -> str:
    return f"""
listen: {{admin: "off"}}
upstreams:
  up: {{targets: ["https://{host}:{upstream.port}"], tls: {tls}, retry: off, breaker: off}}
routes: [{{name: all, match: {{path: "/**"}}, upstream: up}}]
"""


async def test_an_upstream_with_a_trusted_certificate_is_asked(
    start: Start, secure: Upstream, authority: Authority
) -> None:
    gateway = await start(https(secure, f"{{ca: {authority.file}}}"))
    client = await gateway.client()
    for _ in range(3):
        assert (await client.ask(GET)).body == b"ok"
    assert len(secure.visits) == 1
    assert b"x-forwarded-proto: http\r\n" in secure.received


async def test_large_bodies_pass_both_ways(start: Start, secure: Upstream, authority: Authority) -> None:
    async def script(visit: Visit) -> None:
        body = (await visit.request()).partition(b"\r\n\r\n")[2]
        await visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    secure.script = script
    body = hashlib.shake_256(b"body").digest(3_000_000)
    client = await (await start(https(secure, f"{{ca: {authority.file}}}"))).client()
    sending = asyncio.ensure_future(
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    )
    assert (await client.answer()).body == body
    await sending


@pytest.mark.parametrize("why", ["unknown authority", "system's authorities", "wrong name"])
async def test_an_upstream_that_cannot_be_trusted_is_a_502_and_gets_nothing(
    start: Start, secure: Upstream, authority: Authority, tmp_path: Path, why: str
) -> None:
    tls = {
        "unknown authority": f"{{ca: {Authority(tmp_path, 'somebody else').file}}}",
        "system's authorities": "{server_name: 127.0.0.1}",
        "wrong name": f"{{ca: {authority.file}, server_name: orders.internal}}",
    }[why]
    answer = await (await (await start(https(secure, tls))).client()).ask(GET)
    assert answer.status == 502
    assert b'"upstream_unreachable"' in answer.body
    assert not any(word in answer.body for word in (b"certificate", b"127.0.0.1", b"orders.internal", b"ssl"))
    assert secure.received == b""


async def test_the_name_to_verify_can_differ_from_the_address(start: Start, authority: Authority) -> None:
    named: list[str | None] = []
    context = authority.server("orders.internal")
    context.sni_callback = lambda _socket, name, _context: named.append(name)
    upstream = await Upstream().start(tls=context)
    gateway = await start(https(upstream, f"{{ca: {authority.file}, server_name: orders.internal}}"))
    assert (await (await gateway.client()).ask(GET)).status == 200
    assert named == ["orders.internal"]
    await upstream.stop()


@pytest.mark.parametrize("shown", [True, False])
async def test_an_upstream_that_asks_for_a_certificate_gets_the_configured_one(
    start: Start, authority: Authority, shown: bool
) -> None:
    context = authority.server("127.0.0.1", ask_for=authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 a client hears of its missing certificate only later
    upstream = await Upstream().start(tls=context)
    certificate, key = authority.sign("gateway.internal")
    shows = f", certificate: {certificate}, key: {key}" if shown else ""
    gateway = await start(https(upstream, f"{{ca: {authority.file}{shows}}}"))
    answer = await (await gateway.client()).ask(GET)
    assert answer.status == (200 if shown else 502)
    assert bool(upstream.received) == shown
    await upstream.stop()


async def test_a_plain_upstream_behind_https_is_a_502_and_gets_no_request(
    start: Start, upstream: Upstream, authority: Authority
) -> None:
    async def script(visit: Visit) -> None:
        await visit.read()
        await visit.write(OK)

    upstream.script = script
    answer = await (await (await start(https(upstream, f"{{ca: {authority.file}}}"))).client()).ask(GET)
    assert answer.status == 502
    assert b"GET" not in upstream.received


async def test_websocket_bytes_and_ends_pass_over_tls(start: Start, secure: Upstream, authority: Authority) -> None:
    secure.script = echoing
    client = await (await start(https(secure, f"{{ca: {authority.file}}}"))).client()
    await converse(client)


async def test_a_client_that_leaves_a_tunnel_over_tls_ends_it(
    start: Start, secure: Upstream, authority: Authority
) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(SWITCH)
        await visit.read()

    secure.script = script
    client = await (await start(https(secure, f"{{ca: {authority.file}}}"))).client()
    assert (await client.ask(handshake())).status == 101
    client.close()
    async with asyncio.timeout(1):
        await secure.visits[0].ended.wait()
