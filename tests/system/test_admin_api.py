"""The admin API through the installed command: TLS and certificates, levels in all processes, the record of changes."""

import json
import os
import shutil
import signal
import socket
import ssl
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.admin.openapi import document
from tests.system.gateways import Process, Start, command, proxy, quiet_port
from tests.system.upstream import Upstream
from tests.wire.certificates import Authority


class Operators:
    """Whom the gateway and its operators trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.authority = Authority(folder)
        self.clients = Authority(folder, "clients")
        self.certificate, self.key = self.authority.sign("localhost", "127.0.0.1", file="admin")
        self.mine = self.clients.sign(subject="CN=ada")

    def listen(self) -> dict[str, object]:
        files = {"certificate": str(self.certificate), "key": str(self.key), "client_ca": str(self.clients.file)}
        return {"admin_tls": files, "admin_token": "a token for operators"}

    def renew(self) -> bytes:
        """Its new certificate (DER)."""
        made = self.authority.sign("localhost", "127.0.0.1", file="renewed")
        for source, target in zip(made, (self.certificate, self.key), strict=True):
            shutil.copy(source, target.with_suffix(".new"))
            target.with_suffix(".new").replace(target)
        return ssl.PEM_cert_to_DER_cert(made[0].read_text())

    def environ(self) -> dict[str, str]:
        certificate, key = map(str, self.mine)
        return {
            "GATEWAY_ADMIN_CA": str(self.authority.file),
            "GATEWAY_ADMIN_CERTIFICATE": certificate,
            "GATEWAY_ADMIN_KEY": key,
            "GATEWAY_ADMIN_TOKEN": "",
        }

    def get(self, gateway: Process, path: str) -> bytes:
        context = self.authority.client(self.mine)
        with urllib.request.urlopen(f"https://localhost:{gateway.admin}{path}", timeout=5, context=context) as reply:
            content: bytes = reply.read()
            return content


@pytest.fixture
def operators(tmp_path: Path) -> Operators:
    return Operators(tmp_path / "certificates")


def test_operators_come_over_tls_with_a_certificate(start: Start, upstream: Upstream, operators: Operators):
    gateway = start(proxy(upstream.port, workers=2), listen=operators.listen())
    assert f"admin on https://127.0.0.1:{gateway.admin}" in gateway.errors.read_text()
    url = f"https://localhost:{gateway.admin}"
    done = command("reload", "--admin", url, **operators.environ())
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(operators.get(gateway, "/api/v1/log-level")) == {"level": "info", "configured": "info"}
    expiry = f'gateway_certificate_expiry_seconds{{certificate="{operators.certificate}"}}'
    assert expiry.encode() in operators.get(gateway, "/metrics")
    refused = command(
        "reload", "--admin", url, **{**operators.environ(), "GATEWAY_ADMIN_CERTIFICATE": "", "GATEWAY_ADMIN_KEY": ""}
    )
    assert refused.returncode == 1
    assert "token" in refused.stderr
    said = gateway.errors.read_text()
    assert 'by="certificate ada" address=127.0.0.1 method=POST path=/api/v1/reload status=200' in said
    assert "event=refused" in said


def test_a_renewed_certificate_is_shown_to_operators_soon(start: Start, upstream: Upstream, operators: Operators):
    gateway = start(proxy(upstream.port), listen=operators.listen())
    renewed = operators.renew()
    ends = time.monotonic() + 5
    while ssl.PEM_cert_to_DER_cert(shown(gateway)) != renewed:
        assert time.monotonic() < ends, gateway.errors.read_text()
        time.sleep(0.05)
    gateway.wait_for("renewed certificates are in use")
    assert operators.get(gateway, "/healthz")


def shown(gateway: Process) -> str:
    return ssl.get_server_certificate(("127.0.0.1", gateway.admin), timeout=5)


def test_tls_comes_and_goes_with_a_reload(start: Start, upstream: Upstream, operators: Operators):
    gateway = start(proxy(upstream.port))
    assert gateway.ready() == 200
    gateway.configure(proxy(upstream.port), **operators.listen())
    assert gateway.reload()[0] == 200
    assert operators.get(gateway, "/readyz")
    for name in ("admin_tls", "admin_token"):
        del gateway.listen[name]
    gateway.configure(proxy(upstream.port))
    done = command("reload", "--admin", f"https://localhost:{gateway.admin}", **operators.environ())
    assert (done.returncode, done.stderr) == (0, "")
    assert gateway.ready() == 200


def ask(gateway: Process, method: str, path: str, body: object = None) -> dict[str, Any]:
    headers = {"X-Gateway-Client": "test", "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{gateway.admin}{path}", content, headers, method=method)
    with urllib.request.urlopen(request, timeout=5) as reply:
        said: dict[str, Any] = json.load(reply)
        return said


def test_another_level_is_in_force_in_all_processes_until_a_reload(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port, workers=2))
    assert ask(gateway, "PUT", "/api/v1/log-level", {"level": "error"}) == {"level": "error", "configured": "info"}
    ask(gateway, "POST", "/api/v1/circuits/up/open", {})  # a warning of the operator process, which nobody hears
    said = gateway.errors.read_text()
    assert "held open" not in said
    assert "path=/api/v1/circuits/up/open" in said, "but it is on record"
    gateway.process.send_signal(signal.SIGHUP)
    gateway.wait_for("event=reload by=signal reloaded=True")
    assert ask(gateway, "GET", "/api/v1/log-level") == {"level": "info", "configured": "info"}


def test_every_worker_has_the_new_level_and_those_that_come_later_too(start: Start, upstream: Upstream, tmp_path: Path):
    certificate, key = Authority(tmp_path).sign("localhost")
    https = {"address": f"127.0.0.1:{(port := quiet_port())}", "certificate": str(certificate), "key": str(key)}
    gateway = start(proxy(upstream.port, workers=2), listen={"https": https})
    babble(port)
    ask(gateway, "PUT", "/api/v1/log-level", {"level": "debug"})
    time.sleep(0.3)
    assert "TLS handshake" not in gateway.errors.read_text()
    babble(port)  # so many that each worker has some of them
    gateway.wait_for("TLS handshake", 20)
    dead, *_ = gateway.workers()
    os.kill(dead, signal.SIGKILL)
    gateway.wait_workers(2, but=dead)
    time.sleep(0.3)
    babble(port)
    gateway.wait_for("TLS handshake", 40)


def babble(port: int, times: int = 20) -> None:
    """Speak no TLS where it is spoken; a worker says so at the level debug."""
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"nonsense, not TLS\r\n\r\n")
            with suppress(ConnectionError):
                while connection.recv(4096):
                    pass


def test_what_clients_do_wrong_is_no_error_of_the_gateway(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port))
    for nonsense in (b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", gateway.admin), timeout=5) as connection:
            connection.sendall(nonsense)
            assert b" 400 " in connection.recv(4096)
    assert gateway.ready() == 200
    assert "Traceback" not in gateway.errors.read_text()


def test_the_live_feed_and_what_went_wrong_are_as_the_document_describes(start: Start, upstream: Upstream):
    probes = [{"name": "up", "path": "/0", "every": "1s", "timeout": "1s"}]
    gateway = start(proxy(upstream.port, probes=probes))
    assert gateway.ask("/../etc")[0] == 400
    ends = time.monotonic() + 10
    while not (said := ask(gateway, "GET", "/api/v1/errors"))["errors"] or not probed(gateway):
        assert time.monotonic() < ends, said
        time.sleep(0.1)
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.admin}/api/v1/live", timeout=5) as feed:
        data = next(line for line in feed if line.startswith(b"data: "))
    for name, value in (
        ("Live", json.loads(data.removeprefix(b"data: "))),
        ("Request", said["errors"][0]),
        ("Probe", probed(gateway)[0]),
    ):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document()["components"]}
        assert [error.message for error in Draft202012Validator(schema).iter_errors(value)] == [], value


def probed(gateway: Process) -> list[dict[str, Any]]:
    return [each for each in ask(gateway, "GET", "/api/v1/probes")["probes"] if each["runs"]]


def test_the_document_and_the_routes_are_those_of_the_gateway(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port, rate_limits={"few": {"by": "ip", "limit": "100/second"}}))
    assert ask(gateway, "GET", "/api/v1/openapi.json")["openapi"] == "3.1.0"
    (route,) = ask(gateway, "GET", "/api/v1/routes")["routes"]
    assert (route["name"], route["upstreams"][0]["name"]) == ("all", "up")
    assert [each["name"] for each in ask(gateway, "GET", "/api/v1/limits")["limits"]] == ["few"]
