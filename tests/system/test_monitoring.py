"""A gateway that watches itself: probes through its own listeners, and a webhook that hears what is wrong."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.system.gateways import Process, Start, proxy, quiet_port
from tests.system.proc import needs_proc
from tests.system.upstream import Upstream
from tests.wire.certificates import Authority

PROBE = {"name": "up", "path": "/0", "every": "500ms", "timeout": "400ms"}
ALERTS = {"after": "0s", "labels": {"instance": "gw-1"}}


class Receiver:
    """A webhook that takes messages while it is open."""

    def __init__(self, port: int = 0) -> None:
        self.messages: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.status == 200:
                    receiver.heads.append({name.lower(): value for name, value in self.headers.items()})
                    receiver.messages.append(json.loads(body))
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def about(self, name: str) -> list[str]:
        """The statuses that were told of alerts with this name."""
        return [each["status"] for each in self.messages if each["groupLabels"] == {"alertname": name}]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()


def until(condition: Callable[[], object], patience: float = 15.0) -> None:
    ends = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def probes(gateway: Process) -> dict[str, Any]:
    found = json.loads(gateway.operate("/api/v1/probes")[1])["probes"]
    return {each["name"]: each for each in found}


def alerts(gateway: Process) -> dict[str, str]:
    return {each["name"]: each["state"] for each in json.loads(gateway.operate("/api/v1/alerts")[1])["alerts"]}


def up(gateway: Process) -> bool | None:
    found: bool | None = probes(gateway)["up"]["up"]
    return found


def test_a_probe_that_fails_and_recovers_is_told_to_the_webhook(
    start: Start, upstream: Upstream, receiver: Receiver
) -> None:
    webhook = f"http://127.0.0.1:{receiver.port}/hook/k-456"
    probe = {**PROBE, "headers": {"X-API-Key": "k-123"}, "expect": {"status": "200", "within": "300ms"}}
    told = {**ALERTS, "webhook": webhook, "headers": {"Authorization": "Bearer k-789"}}
    gateway = start(proxy(upstream.port, probes=[probe], alerts=told))
    until(lambda: up(gateway))
    assert alerts(gateway) == {}
    assert upstream.requests > 0

    gateway.configure(proxy(quiet_port(), probes=[probe], alerts=told))
    assert gateway.reload()[0] == 200
    until(lambda: receiver.about("GatewayProbeFailing") == ["firing"])
    assert alerts(gateway)["GatewayProbeFailing"] == "firing"
    last = probes(gateway)["up"]["last"]
    assert last["result"] == "status"
    assert last["status"] in (502, 503)  # as long as its circuit is closed, and then
    assert gateway.metric("gateway_probe_up", probe="up") == 0.0

    gateway.configure(proxy(upstream.port, probes=[probe], alerts=told))
    assert gateway.reload()[0] == 200
    until(lambda: receiver.about("GatewayProbeFailing") == ["firing", "resolved"])
    assert gateway.metric("gateway_probe_up", probe="up") == 1.0
    runs = sum(probes(gateway)[name]["runs"] for name in ("up",))
    assert gateway.metric("gateway_probe_runs_total", probe="up") >= runs > 3  # reloads have kept what was counted
    assert gateway.metric("gateway_notifications_total", result="sent") == len(receiver.messages)

    assert receiver.heads[0]["authorization"] == "Bearer k-789"
    said = json.dumps(receiver.messages) + gateway.errors.read_text() + gateway.operate("/api/v1/config")[1]
    assert "k-" not in said
    assert gateway.errors.read_text().count("probe up ") == 2


def test_a_circuit_that_opens_and_closes_is_told_when_the_receiver_is_back(start: Start, upstream: Upstream) -> None:
    port = quiet_port()
    up = {"targets": [f"http://127.0.0.1:{upstream.port}"], "retry": "off"}
    told = {**ALERTS, "webhook": f"http://127.0.0.1:{port}/"}
    gateway = start(proxy(0, upstreams={"up": up}, alerts=told))
    assert gateway.operate("/api/v1/circuits/up/open", "POST")[0] == 200
    until(lambda: alerts(gateway).get("GatewayCircuitOpen") == "firing")
    until(lambda: gateway.metric("gateway_notifications_total", result="failed") > 0)

    receiver = Receiver(port)
    try:
        receiver.status = 302  # nobody follows it
        until(lambda: gateway.metric("gateway_notifications_total", result="failed") > 1)
        receiver.status = 200
        until(lambda: receiver.about("GatewayCircuitOpen") == ["firing"], 30)
        assert gateway.operate("/api/v1/circuits/up/close", "POST")[0] == 200
        until(lambda: receiver.about("GatewayCircuitOpen") == ["firing", "resolved"])
        until(lambda: receiver.about("GatewayUpstreamDown") == ["firing", "resolved"])
        assert alerts(gateway) == {}
    finally:
        receiver.close()
    assert gateway.errors.read_text().count("alerts are not taken") == 1


def test_a_probe_that_is_gone_loses_its_gauge_and_one_that_stays_goes_on(start: Start, upstream: Upstream) -> None:
    other = {**PROBE, "name": "other"}
    gateway = start(proxy(upstream.port, probes=[PROBE, other]))
    until(lambda: probes(gateway)["other"]["runs"] and probes(gateway)["up"]["runs"])
    before = probes(gateway)["up"]["runs"]
    gateway.configure(proxy(upstream.port, probes=[PROBE]))
    assert gateway.reload()[0] == 200

    assert list(probes(gateway)) == ["up"]
    assert probes(gateway)["up"]["runs"] >= before
    assert {dict(labels)["probe"] for name, labels in gateway.metrics() if name == "gateway_probe_up"} == {"up"}


def test_a_unix_socket_and_a_port_that_nobody_chose_are_found(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    by_file = start(proxy(upstream.port, probes=[PROBE]), listen={"http": f"unix:{tmp_path}/gw.sock"})
    by_port = start(proxy(upstream.port, probes=[PROBE]), listen={"http": "127.0.0.1:0"})
    until(lambda: up(by_file) and up(by_port))


def test_where_everybody_is_sent_to_https_probes_go_there(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).sign("gateway.example")
    addresses = [f"unix:{tmp_path}/tls.sock", "127.0.0.1:0"]  # over the first of which probes cannot speak TLS
    https = {"address": addresses, "certificate": str(certificate), "key": str(key)}
    gateway = start(proxy(upstream.port, probes=[PROBE]), listen={"https": https, "redirect_to_https": True})
    until(lambda: up(gateway))


@needs_proc
def test_a_new_operator_process_counts_on(start: Start, upstream: Upstream) -> None:
    gateway = start(proxy(upstream.port, probes=[PROBE]))
    until(lambda: gateway.metric("gateway_probe_runs_total") > 1)
    counted = gateway.metric("gateway_probe_runs_total")
    os.kill(gateway.operator(), signal.SIGKILL)
    gateway.wait_for("the operator process (pid")
    time.sleep(0.3)
    until(lambda: gateway.ready() == 200)
    until(lambda: gateway.metric("gateway_probe_runs_total") > counted)


def test_nothing_is_asked_while_the_gateway_drains(start: Start, upstream: Upstream) -> None:
    gateway = start(proxy(upstream.port, probes=[PROBE], wire={"lame_duck": "1500ms"}))
    until(lambda: up(gateway))
    gateway.operate("/api/v1/drain", "POST")
    time.sleep(0.2)
    asked = upstream.requests
    time.sleep(1.0)
    assert upstream.requests == asked
    assert gateway.process.wait(10) == 0
