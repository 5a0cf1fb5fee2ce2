"""PROXY headers on real connections: whose address counts, who must send one, and whose is just a bad request."""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.http.proxy_protocol import SIGNATURE
from gateway.http.server import Limits
from gateway.http.tls import server_context
from tests.wire.actors import Client, Gateway, Upstream
from tests.wire.certificates import Authority
from tests.wire.conftest import Start
from tests.wire.payloads import get

SHORT = 0.15
TRUSTED = "trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]"
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
V2 = SIGNATURE + bytes.fromhex("2111 0010 c0000207 c6336401 dc04 01bb 03000101")


async def behind_proxy(start: Start, trusted: str = TRUSTED, **limits: float) -> Gateway:
    gateway = await start(more=trusted, limits=Limits(**{"drain_timeout": 0.2, **limits}))  # type: ignore[arg-type]
    gateway.server.proxy_protocol = True
    return gateway


@pytest.mark.parametrize("header", [V1, V2])
async def test_the_address_in_the_header_is_the_clients(start: Start, upstream: Upstream, header: bytes) -> None:
    gateway = await behind_proxy(start)
    client = await gateway.client()
    assert (await client.ask(header + get())).body == b"ok"
    assert (await client.ask(get(b"X-Forwarded-For: 198.51.100.9"))).body == b"ok"
    (connection,) = gateway.server.connections
    assert (connection.peer.address, connection.peer.port, connection.peer.trusted) == ("192.0.2.7", 56324, False)
    assert upstream.received.count(b"\r\nx-forwarded-for: 192.0.2.7\r\n") == 2
    assert b"PROXY" not in upstream.received
    assert b"198.51.100.9" not in upstream.received


@pytest.mark.parametrize("header", [V1, V2])
async def test_a_header_may_come_in_single_bytes(start: Start, upstream: Upstream, header: bytes) -> None:
    client = await (await behind_proxy(start)).client()
    for byte in header:
        await client.send(bytes((byte,)))
        await asyncio.sleep(0.001)
    assert (await client.ask(get())).body == b"ok"
    assert b"\r\nx-forwarded-for: 192.0.2.7\r\n" in upstream.received


async def test_waiting_for_the_rest_of_a_header_costs_nothing(start: Start) -> None:
    gateway = await behind_proxy(start)
    client = await gateway.client()
    await client.send(V1[:20])
    await asyncio.sleep(0.02)
    before = time.process_time()
    await asyncio.sleep(0.2)
    spent = time.process_time() - before
    assert spent < 0.1, f"{spent:.3f} s of CPU time while nothing happened"
    assert (await client.ask(V1[20:] + get())).body == b"ok"


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\x00\x00\x00"], ids=["UNKNOWN", "LOCAL"])
async def test_a_health_check_of_the_load_balancer_itself_keeps_its_address(
    start: Start, upstream: Upstream, header: bytes
) -> None:
    gateway = await behind_proxy(start)
    assert (await (await gateway.client()).ask(header + get())).body == b"ok"
    assert b"\r\nx-forwarded-for: 127.0.0.1\r\n" in upstream.received


async def test_trust_is_decided_by_the_address_in_the_header(start: Start, upstream: Upstream) -> None:
    gateway = await behind_proxy(start)
    header = b"PROXY TCP4 10.1.2.3 198.51.100.1 56324 443\r\n"
    request = get(b"X-Forwarded-For: 192.0.2.99")
    assert (await (await gateway.client()).ask(header + request)).body == b"ok"
    assert b"\r\nx-forwarded-for: 192.0.2.99, 10.1.2.3\r\n" in upstream.received


@pytest.mark.parametrize("data", [get(), V1.replace(b"TCP4", b"TCP9") + get(), V1[:-2] + b"\n" + get() + bytes(60)])
async def test_a_trusted_proxy_without_a_sound_header_is_cut_off(
    start: Start, upstream: Upstream, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await behind_proxy(start)
    for _ in range(3):
        client = await gateway.client()
        await client.send(data)
        assert await client.ends()
    assert upstream.received == b""
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1, said
    assert "127.0.0.1" in said[0]


@pytest.mark.parametrize("leave", [Client.close, Client.reset])
async def test_a_proxy_that_only_looks_whether_somebody_listens_is_no_trouble(
    start: Start, caplog: pytest.LogCaptureFixture, leave: Callable[[Client], None]
) -> None:
    gateway = await behind_proxy(start, connections=1)
    leave(await gateway.client())
    async with asyncio.timeout(5):
        while (await (await gateway.client()).ask(V1 + get())).status != 200:
            await asyncio.sleep(0.005)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize("begun", [b"", V1[:-1], V2[:15]])
async def test_a_header_must_come_in_time(start: Start, begun: bytes) -> None:
    gateway = await behind_proxy(start, header_timeout=SHORT)
    before = asyncio.get_running_loop().time()
    client = await gateway.client()
    await client.send(begun)
    assert await client.ends()
    assert SHORT * 0.9 <= asyncio.get_running_loop().time() - before < SHORT + 1


async def test_who_waits_for_a_header_counts_towards_the_limit(start: Start) -> None:
    gateway = await behind_proxy(start, connections=1)
    waiting = await gateway.client()
    async with asyncio.timeout(5):
        while not gateway.server.full:
            await asyncio.sleep(0.002)
    assert (await (await gateway.client()).answer()).status == 503
    assert (await waiting.ask(V1 + get())).status == 200


@pytest.mark.parametrize(("header", "status"), [(V1, 501), (V2, 400)])
async def test_a_header_of_an_untrusted_peer_is_just_a_bad_request(
    start: Start, upstream: Upstream, header: bytes, status: int
) -> None:
    gateway = await behind_proxy(start, trusted="trusted_proxies: [10.0.0.0/8]")
    client = await gateway.client()
    assert (await client.ask(header + get())).status == status  # version 1 looks like a request with an odd method
    assert await client.ends()
    assert upstream.received == b""
    assert (await (await gateway.client()).ask(get())).status == 200
    assert b"\r\nx-forwarded-for: 127.0.0.1\r\n" in upstream.received


async def test_without_the_option_a_header_is_a_bad_request(start: Start, upstream: Upstream) -> None:
    gateway = await start(more=TRUSTED)
    client = await gateway.client()
    assert (await client.ask(V1 + get())).status == 501
    assert upstream.received == b""


async def test_a_unix_socket_is_no_trusted_proxy(start: Start, tmp_path: Path) -> None:
    gateway = await behind_proxy(start)
    path = tmp_path / "gateway.sock"
    await gateway.server.listen(f"unix:{path}")
    client = Client(*await asyncio.open_unix_connection(str(path)))
    gateway.clients.append(client)
    assert (await client.ask(get())).status == 200
    assert (await client.ask(V1 + get())).status == 501


@pytest.mark.parametrize("header", [V1, V2])
async def test_the_header_comes_before_the_handshake_of_tls(
    start: Start, upstream: Upstream, tmp_path: Path, header: bytes
) -> None:
    authority = Authority(tmp_path)
    gateway = await behind_proxy(start)
    port = await gateway.secure(server_context([authority.sign("gateway.test")]))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = Client(reader, writer)
    gateway.clients.append(client)
    await client.send(header)
    await writer.start_tls(authority.client(), server_hostname="gateway.test")
    assert (await client.ask(get())).body == b"ok"
    assert b"\r\nforwarded: for=192.0.2.7;host=a;proto=https\r\n" in upstream.received

    without = Client(*await asyncio.open_connection("127.0.0.1", port))
    gateway.clients.append(without)
    hello = ssl.MemoryBIO()
    connection = authority.client().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="gateway.test")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    await without.send(hello.read())
    assert await without.ends()
