"""Where the gateway can be reached, how its sockets are shared and handed on, and what a new configuration changes."""

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from gateway.exchange import Call, Reply
from gateway.http import sockets
from gateway.http.server import App
from gateway.http.sockets import ListenError
from gateway.http.tls import server_context
from tests.wire.actors import Client, Gateway, Upstream
from tests.wire.certificates import Authority
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


# -- sockets -----------------------------------------------------------------------------------------


@contextmanager
def bound(address: str, count: int = 1) -> Iterator[list[sockets.Group]]:
    groups = sockets.bind(address, count)
    try:
        yield groups
    finally:
        for group in groups:
            sockets.close(group)


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


@contextmanager
def listening(*options: int) -> Iterator[socket.socket]:
    """Somebody else's listener."""
    with socket.socket() as other:
        for option in options:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other


on_linux = pytest.mark.skipif(not sockets.SPREADS, reason="only Linux spreads connections over sockets")


@on_linux
def test_each_worker_gets_a_socket_on_the_same_port() -> None:
    with bound("127.0.0.1:0", 3) as (group,):
        assert len(group.sockets) == 3
        assert {f"127.0.0.1:{port_of(sock)}" for sock in group.sockets} == {group.address}
        wider = sockets.widen(group, 5)
        assert wider.address == group.address
        assert wider.sockets[:3] == group.sockets
        assert {port_of(sock) for sock in wider.sockets} == {port_of(group.sockets[0])}
        assert sockets.widen(wider, 2) is wider
        assert not any(sock.getblocking() for sock in wider.sockets)
        sockets.close(wider)


@on_linux
def test_the_kernel_spreads_connections_over_the_sockets() -> None:
    with bound("127.0.0.1:0", 2) as (group,), ExitStack() as clients:
        for _ in range(64):
            clients.enter_context(socket.create_connection(group.sockets[0].getsockname()))
        for sock in group.sockets:
            accepted = clients.enter_context(sock.accept()[0])
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == sockets.UNSENT


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,), (socket.SO_REUSEPORT, socket.SO_REUSEADDR)])
def test_a_port_on_which_another_process_listens_is_in_use(options: tuple[int, ...]) -> None:
    with listening(*options) as other, pytest.raises(ListenError, match=r"cannot listen on 127.* in use"):
        sockets.bind(f"127.0.0.1:{port_of(other)}", 2)


def test_a_second_gateway_finds_the_port_in_use_and_can_have_it_afterwards() -> None:
    with bound("127.0.0.1:0", 2) as (group,):
        with pytest.raises(ListenError, match="in use"):
            sockets.bind(group.address)
        client = socket.create_connection(group.sockets[0].getsockname())
    client.close()
    with bound(group.address):
        """Connections of the last one do not keep it."""


@needs_ipv6
def test_a_name_with_several_addresses_is_listened_on_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    ipv4, ipv6 = (socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0] for host in ("127.0.0.1", "::1"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [ipv6, ipv4, ipv4])
    with bound("localhost:0") as groups:
        assert [group.address.rpartition(":")[0] for group in groups] == ["[::1]", "127.0.0.1"]


@needs_ipv6
def test_a_listener_for_all_of_ipv6_leaves_the_port_free_for_ipv4() -> None:
    with bound("[::]:0") as (group,), bound(f"0.0.0.0:{port_of(group.sockets[0])}") as (other,):
        assert port_of(other.sockets[0]) == port_of(group.sockets[0])


def test_an_address_that_is_not_this_machines_is_left_out_unless_it_is_the_only_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ListenError, match=r"192\.0\.2\.1:0: Cannot assign"):
        sockets.bind("192.0.2.1:0")
    infos = [socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0] for host in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)
    with bound("gateway.test:0") as (group,):
        assert group.address.startswith("127.0.0.1:")


def test_an_unknown_name_says_so() -> None:
    with pytest.raises(ListenError, match=r"no-such-host\.invalid:80: .*(not known|resolution)"):
        sockets.bind("no-such-host.invalid:80")


def test_a_privileged_port_tells_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Denied(socket.socket):
        def bind(self, _: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Denied)
    with pytest.raises(ListenError, match="CAP_NET_BIND_SERVICE, or systemd"):
        sockets.bind("127.0.0.1:443")
    with pytest.raises(ListenError, match="Permission denied"):
        sockets.bind("127.0.0.1:4433")


def test_the_address_of_a_socket_is_written_as_configured(tmp_path: Path) -> None:
    for address in (f"unix:{tmp_path}/a.sock", "127.0.0.1:0"):
        with bound(address, 2) as (group,):
            assert sockets.bound_address(group.sockets[0]) == group.address
            if address.startswith("unix:"):
                assert len(group.sockets) == 1
                assert sockets.widen(group, 4) is group
    assert not (tmp_path / "a.sock").exists()


# -- accepting ---------------------------------------------------------------------------------------


async def connected(gateway: Gateway, sock: socket.socket) -> Client:
    client = Client(*await asyncio.open_connection(*sock.getsockname()))
    gateway.clients.append(client)
    return client


async def test_nagles_algorithm_delays_no_reply(start: Start) -> None:
    gateway = await start()
    client = await gateway.client()
    assert (await client.ask(GET)).status == 200
    (connection,) = gateway.server.connections
    accepted = connection._transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_sockets_can_be_handed_from_one_worker_to_another(start: Start) -> None:
    gateway = await start()
    server = gateway.server
    with bound("127.0.0.1:0") as (first,), bound("127.0.0.1:0") as (second,):
        one, two = first.sockets[0], second.sockets[0]
        server.accept_on([(one, False), (two, False)])
        kept = await connected(gateway, one)
        assert (await kept.ask(GET)).status == 200
        server.accept_on([(two, False)])
        queued = await connected(gateway, one)
        await queued.send(GET)
        await asyncio.sleep(0.05)
        assert (await (await connected(gateway, two)).ask(GET)).status == 200
        assert len(server.connections) == 2  # the queued one waits for whoever accepts there next
        assert (await kept.ask(GET)).status == 200
        server.accept_on([(one, False), (two, False)])
        assert (await queued.answer()).status == 200
        server.accept_on([])


async def test_what_the_kernel_has_queued_is_served_before_a_socket_is_left(start: Start) -> None:
    gateway = await start()
    with bound("127.0.0.1:0") as (group,):
        gateway.server.add(group.sockets[0], secure=False)
        clients = []
        for _ in range(5):
            client = socket.create_connection(group.sockets[0].getsockname())  # blocks the loop: nobody accepts
            client.sendall(GET)
            clients.append(client)
        gateway.server.remove(group.sockets[0])
        for client in clients:
            reader, writer = await asyncio.open_connection(sock=client)
            gateway.clients.append(Client(reader, writer))
            assert (await gateway.clients[-1].answer()).status == 200


async def test_a_burst_of_connections_is_served(start: Start) -> None:
    gateway = await start()
    clients = await asyncio.gather(*(gateway.client() for _ in range(300)))
    answers = await asyncio.gather(*(client.ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n") for client in clients))
    assert {answer.status for answer in answers} == {204}


# -- replacing what is served ------------------------------------------------------------------------


class Other:
    """An app that answers 418 to everything, and is the old one else."""

    def __init__(self, app: App) -> None:
        self.open = app.open
        self.refuse = app.refuse
        self.finished = app.finished

    async def handle(self, call: Call) -> Reply:
        return Reply(418, [])


async def test_a_new_app_serves_the_next_request_of_an_open_connection(start: Start) -> None:
    gateway = await start()
    server = gateway.server
    client = await gateway.client()
    assert (await client.ask(GET)).status == 200
    server.configure(Other(server.app), server.limits, ())
    answer = await client.ask(GET)
    assert answer.status == 418
    assert "connection" not in answer.headers
    assert (await client.ask(GET)).status == 418


@pytest.mark.parametrize("what", ["limits", "trusted", "proxy_protocol"])
async def test_connections_that_began_under_other_rules_leave_with_their_next_reply(start: Start, what: str) -> None:
    gateway = await start()
    server = gateway.server
    client = await gateway.client()
    assert (await client.ask(GET)).status == 200
    server.configure(
        server.app,
        replace(server.limits, header_limit=1000) if what == "limits" else server.limits,
        [ip_network("10.0.0.0/8")] if what == "trusted" else [],
        proxy_protocol=what == "proxy_protocol",
    )
    answer = await client.ask(GET)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await client.ends()
    if what == "limits":
        assert (await (await gateway.client()).ask(GET[:-2] + b"X: " + bytes(1000) + b"\r\n\r\n")).status in (400, 431)


async def test_other_certificates_end_only_connections_over_tls(start: Start, tmp_path: Path) -> None:
    gateway = await start()
    server = gateway.server
    authority = Authority(tmp_path)
    pair = authority.sign("gateway.test")
    port = await gateway.secure(server_context([pair]))
    plain, secure = await gateway.client(), await gateway.tls_client(port, authority.client())
    server.configure(server.app, server.limits, (), tls=server.tls)
    for client in (plain, secure):
        assert "connection" not in (await client.ask(GET)).headers
    server.configure(server.app, server.limits, (), tls=server_context([pair]))
    assert "connection" not in (await plain.ask(GET)).headers
    assert (await secure.ask(GET)).headers["connection"] == "close"
    assert (await (await gateway.tls_client(port, authority.client())).ask(GET)).status == 200
