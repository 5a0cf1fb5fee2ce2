import socket

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from gateway.admin.app import admin_app, start_admin
from gateway.telemetry.metrics import Metrics


@pytest.fixture
def reasons():
    return []


@pytest.fixture
async def client(reasons):
    metrics = Metrics()
    metrics.auth.child("idp", "ok").inc()
    async with TestClient(TestServer(admin_app(metrics.registry, lambda: reasons))) as client:
        yield client


async def test_metrics_are_text_for_prometheus(client):
    reply = await client.get("/metrics")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain; version=")
    assert 'gateway_auth_total{provider="idp",result="ok"} 1.0' in await reply.text()


async def test_metrics_are_openmetrics_for_who_asks(client):
    reply = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
    assert (await reply.text()).endswith("# EOF\n")


async def test_a_process_that_answers_is_alive(client, reasons):
    reasons.append("draining")
    reply = await client.get("/healthz")
    assert (reply.status, await reply.json()) == (200, {"status": "ok"})


async def test_ready_until_there_is_a_reason_not_to_be(client, reasons):
    reply = await client.get("/readyz")
    assert (reply.status, await reply.json()) == (200, {"status": "ready"})
    reasons.append("draining")
    reply = await client.get("/readyz")
    assert (reply.status, await reply.json()) == (503, {"status": "unavailable", "reasons": ["draining"]})


async def test_everything_else_is_a_problem(client):
    reply = await client.get("/metrics/../etc/passwd/%3cscript%3e")
    assert reply.status == 404
    assert reply.headers["Content-Type"] == "application/problem+json"
    problem = await reply.json(content_type=None)
    assert problem["code"] == "no_route"
    assert "script" not in await reply.text()


async def test_another_method_is_told_which_ones_work(client):
    reply = await client.post("/healthz")
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")
    assert (await reply.json(content_type=None))["code"] == "method_not_allowed"


async def test_it_listens_on_a_free_port_and_frees_it_again():
    runner = await start_admin("127.0.0.1:0", CollectorRegistry(), list)
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz") as reply:
        assert reply.status == 200
    await runner.cleanup()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_it_listens_on_a_unix_socket(tmp_path):
    path = str(tmp_path / "admin.sock")
    runner = await start_admin(f"unix:{path}", CollectorRegistry(), list)
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
        session.get("http://admin/healthz") as reply,
    ):
        assert reply.status == 200
    await runner.cleanup()


async def test_an_address_in_use_is_an_os_error_and_leaves_nothing_behind():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            await start_admin(f"127.0.0.1:{taken.getsockname()[1]}", CollectorRegistry(), list)
