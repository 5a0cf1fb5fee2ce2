"""Where the gateway can be reached besides an IPv4 address, and where it can reach upstreams."""

import asyncio
import socket
from pathlib import Path

import pytest

from gateway.http.server import ListenError
from tests.wire.actors import Client, Upstream
from tests.wire.conftest import Start

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


async def test_a_unix_socket_serves_like_a_port(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    gateway = await start()
    path = tmp_path / "gateway.sock"
    assert await gateway.server.listen(f"unix:{path}") == f"unix:{path}"
    client = Client(*await asyncio.open_unix_connection(str(path)))
    gateway.clients.append(client)
    for _ in range(2):
        assert (await client.ask(GET)).body == b"ok"
    assert b"\r\nx-forwarded-for: unknown\r\n" in upstream.received
    assert b"\r\nforwarded: for=unknown;host=a;proto=http\r\n" in upstream.received
    await gateway.stop()
    assert not path.exists()


async def test_a_unix_socket_left_behind_is_replaced_and_a_live_one_is_not(start: Start, tmp_path: Path) -> None:
    gateway = await start()
    path = str(tmp_path / "gateway.sock")
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(path)
    await gateway.server.listen(f"unix:{path}")
    with pytest.raises(ListenError, match="in use"):
        await gateway.server.listen(f"unix:{path}")


@needs_ipv6
async def test_an_ipv6_listener_tells_the_clients_address(start: Start, upstream: Upstream) -> None:
    gateway = await start()
    address = await gateway.server.listen("[::1]:0")
    client = Client(*await asyncio.open_connection("::1", int(address.rpartition(":")[2])))
    gateway.clients.append(client)
    assert address.startswith("[::1]:")
    assert (await client.ask(b"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n")).status == 200
    assert b"\r\nx-forwarded-for: ::1\r\n" in upstream.received
    assert b'\r\nforwarded: for="[::1]";host="[::1]:8080";proto=http\r\n' in upstream.received


@needs_ipv6
async def test_an_upstream_on_ipv6_is_reached(start: Start) -> None:
    upstream = await Upstream().start("::1")
    gateway = await start(f"""
listen: {{admin: "off"}}
upstreams: {{up: {{targets: ["http://[::1]:{upstream.port}"]}}}}
routes: [{{name: all, match: {{path: "/**"}}, upstream: up}}]
""")
    assert (await (await gateway.client()).ask(GET)).status == 200
    assert b"\r\nhost: [::1]:%d\r\n" % upstream.port in upstream.received
    await upstream.stop()
