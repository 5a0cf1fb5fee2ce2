import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import WSMsgType
from aiohttp.test_utils import TestClient, TestServer

from gateway.cli.demo import SHIPPED
from gateway.cli.demo_processes import DemoUpstream, stop_all
from gateway.cli.demo_steps import curl_for, steps
from gateway.cli.demo_upstreams import orders_app, payments_app
from gateway.cli.main import main
from gateway.cli.output import Failure


@pytest.fixture
async def orders():
    async with TestClient(TestServer(orders_app("orders-1"))) as client:
        yield client


@pytest.fixture
async def payments():
    async with TestClient(TestServer(payments_app("payments"))) as client:
        yield client


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_shipped_configuration_is_the_repositorys():
    assert SHIPPED.read_text() == (Path(__file__).parents[2] / "config" / "routes.yaml").read_text()


async def test_an_instance_says_who_it_is_and_what_it_was_told(orders):
    reply = await orders.get("/orders/7?x=1", headers={"X-User-Id": "u1", "X-Secret": "s"})
    assert await reply.json() == {
        "instance": "orders-1",
        "method": "GET",
        "path": "/orders/7?x=1",
        "headers": {"X-User-Id": "u1"},
    }


async def test_echo_returns_what_it_got(orders):
    reply = await orders.post("/orders/echo", data=b"abc" * 1000, headers={"Content-Type": "application/x-abc"})
    assert (reply.content_type, await reply.read()) == ("application/x-abc", b"abc" * 1000)


async def test_the_websocket_repeats_text_and_bytes(orders):
    async with orders.ws_connect("/ws") as socket:
        assert "orders-1" in await socket.receive_str()
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
        await socket.send_bytes(b"\x00\xff")
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.BINARY, b"\x00\xff")


async def test_events_come_one_by_one(orders):
    reply = await orders.get("/events")
    assert reply.content_type == "text/event-stream"
    assert await reply.content.readline() == b"event: tick\n"
    assert await reply.content.readline() == b"data: 1 from orders-1\n"


async def test_the_first_try_of_each_request_fails_and_the_second_works(payments):
    for request in ("a", "b"):
        headers = {"X-Request-Id": request}
        assert (await payments.get("/payments/1", headers=headers)).status == 503
        reply = await payments.get("/payments/1", headers=headers)
        assert (reply.status, (await reply.json())["try"]) == (200, 2)


async def test_down_is_down(payments):
    for _ in range(3):
        assert (await payments.get("/payments/down")).status == 503


def test_an_upstream_is_ready_when_it_says_so_and_gone_when_it_is_stopped():
    port = free_port()
    upstream = DemoUpstream("orders-1", "127.0.0.1", port)
    try:
        upstream.wait_ready()
        socket.create_connection(("127.0.0.1", port)).close()
    finally:
        stop_all([upstream])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_in_use_is_told_in_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        upstream = DemoUpstream("orders-1", "127.0.0.1", port)
        try:
            with pytest.raises(Failure, match=f"orders-1 cannot listen on 127.0.0.1:{port}: Address already in use"):
                upstream.wait_ready()
        finally:
            stop_all([upstream])


def test_upstreams_end_with_their_parent_even_if_it_is_killed():
    port = free_port()
    parent = (
        "import time; from gateway.cli.demo_processes import DemoUpstream\n"
        f"DemoUpstream('payments', '127.0.0.1', {port}).wait_ready()\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            process.kill()
            connection.settimeout(10)
            assert connection.recv(1) == b""  # the upstream has closed it, for it is ending


def test_the_tour_needs_its_routes(tmp_path, capsys):
    path = tmp_path / "routes.yaml"
    path.write_text(SHIPPED.read_text().replace("name: limited", "name: unlimited"))
    assert main(["demo", "-c", str(path)]) == 2
    err = capsys.readouterr().err
    assert "lacks routes limited" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("address", "command", "base"),
    [
        ("127.0.0.1:8080", "curl -s", "http://127.0.0.1:8080"),
        ("0.0.0.0:80", "curl -s", "http://127.0.0.1:80"),
        ("[::]:80", "curl -s", "http://[::1]:80"),
        ("unix:/tmp/g w.sock", "curl -s --unix-socket '/tmp/g w.sock'", "http://localhost"),
    ],
)
def test_how_an_address_is_reached(address, command, base):
    assert curl_for(address) == (command, base)


def test_without_an_admin_listener_there_are_no_metrics_to_show():
    with_admin, without = (steps("127.0.0.1:80", admin, "t") for admin in ("127.0.0.1:81", None))
    assert len(without) == len(with_admin) - 1
    assert not any("metrics" in step.command for step in without)
