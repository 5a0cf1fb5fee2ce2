"""What `gateway demo` prints is what happens: each of its command lines is run as it stands."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
PORTS = ("GATEWAY_HTTP", "GATEWAY_ADMIN", "ORDERS_1_URL", "ORDERS_2_URL", "PAYMENTS_URL")
SHIM = Path(__file__).with_name("curl.py")


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def environment(ports):
    kept = {name: value for name, value in os.environ.items() if name not in ("JWT_SECRET", "STORE_URL")}
    addresses = dict(zip(PORTS, (f"127.0.0.1:{port}" for port in ports), strict=True))
    urls = {name: f"http://{address}" for name, address in addresses.items() if name.endswith("_URL")}
    return {**kept, **addresses, **urls}


def start(ports, cwd=ROOT):
    command = [sys.executable, "-m", "gateway", "demo"]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={**environment(ports), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def welcome(process):
    """All that is printed up to the last hint."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Stop an instance"):
            return "".join(lines)
    raise AssertionError(f"the demo ended: {process.stderr.read()}")


@pytest.fixture(scope="module")
def demo():
    ports = free_ports(5)
    with start(ports) as process:
        try:
            text = welcome(process)
            found = re.findall(r"^ +\d+\. (.+) → (\d+)\n +(.+)$", text, re.MULTILINE)
            steps = [SimpleNamespace(title=title, status=status, command=command) for title, status, command in found]
            yield SimpleNamespace(process=process, text=text, steps=steps, ports=ports)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Runs a line as a user's shell does; where there is no curl, with one that does as much as is needed."""
    path = os.environ["PATH"]
    if shutil.which("curl") is None:
        folder = tmp_path_factory.mktemp("bin")
        (folder / "curl").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SHIM}" "$@"\n')
        (folder / "curl").chmod(0o755)
        path = f"{folder}:{path}"

    def run(command):
        done = subprocess.run(["sh", "-c", command], env={"PATH": path}, capture_output=True, timeout=30, check=False)
        return done.stdout.decode(errors="replace").replace("\r\n", "\n")  # WebSocket frames are no text

    return run


def step(demo, about):
    return next(each for each in demo.steps if about in each.title)


def shown(demo, shell, about):
    """Status, head and body of what a step's command shows."""
    head, _, body = shell(step(demo, about).command).partition("\n\n")
    return head.split()[1], head.lower(), body


def test_the_tour_has_all_its_steps(demo):
    assert len(demo.steps) == 10


def test_the_page_to_watch_it_by_is_there(demo):
    page = re.search(r"Watch it: (http://\S+/dashboard) in a browser, `python -m gateway top --admin \S+`", demo.text)
    with urllib.request.urlopen(page[1], timeout=10) as reply:
        assert b"<title>gateway</title>" in reply.read()


def test_a_public_request_is_answered_by_both_instances(demo, shell):
    answers = [shown(demo, shell, "public") for _ in range(4)]
    assert {status for status, _, _ in answers} == {"200"}
    assert {re.search("orders-[12]", body)[0] for _, _, body in answers} == {"orders-1", "orders-2"}


def test_without_a_token_it_is_401(demo, shell):
    status, head, body = shown(demo, shell, "without a token")
    assert status == step(demo, "without a token").status == "401"
    assert "www-authenticate: bearer" in head
    assert '"code":"unauthenticated"' in body


def test_with_the_token_it_is_200_and_the_upstream_knows_who_is_calling(demo, shell):
    status, head, body = shown(demo, shell, "with a token")
    assert status == step(demo, "with a token").status == "200"
    assert '"X-User-Id": "you"' in body
    assert "ratelimit" in head


def test_the_wrong_scope_is_403(demo, shell):
    status, _, body = shown(demo, shell, "Writing")
    assert status == step(demo, "Writing").status == "403"
    assert '"code":"forbidden"' in body


def test_too_many_requests_are_429(demo, shell):
    first, _, last = shell(step(demo, "five requests").command).partition("HTTP/1.1")
    assert first.split() == ["200"] * 5 + ["429"]
    assert last.split()[0] == step(demo, "five requests").status == "429"
    assert "retry-after:" in last.lower()


def test_a_failed_try_is_retried(demo, shell):
    status, _, body = shown(demo, shell, "retried")
    assert status == step(demo, "retried").status == "200"
    assert '"try": 2' in body


def test_the_fallback_answers_and_then_the_open_circuit_does_too(demo, shell):
    for _ in range(5):
        status, head, body = shown(demo, shell, "fallback")
        assert status == step(demo, "fallback").status == "200"
        assert "x-gateway-fallback: static" in head
        assert '"degraded":true' in body


def test_events_stream(demo, shell):
    status, head, body = shown(demo, shell, "Server-sent")
    assert status == step(demo, "Server-sent").status == "200"
    assert "text/event-stream" in head
    assert body.count("event: tick") == 5


def test_a_websocket_opens(demo, shell):
    status, head, body = shown(demo, shell, "WebSocket")
    assert status == step(demo, "WebSocket").status == "101"
    assert "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head
    assert "repeats what you say" in body


def test_metrics_have_counted_it(demo, shell):
    shell(step(demo, "retried").command)
    text = shell(step(demo, "counted").command)
    assert 'gateway_requests_total{consumer="",method="GET",route="payments",status="200",version=""}' in text
    assert 'gateway_retries_total{reason="503",upstream="payments"}' in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_everything_ends_together(number, tmp_path):
    ports = free_ports(5)
    # Outside the repository: then the configuration is the one that comes with the package.
    with start(ports, cwd=tmp_path) as process:
        text = welcome(process)
        assert "demo.yaml" in text
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "Traceback" not in err
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("which", [0, 2])
def test_a_port_in_use_is_one_line_and_nothing_is_left_running(which):
    ports = free_ports(5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[which]))
        taken.listen()
        with start(ports) as process:
            _, err = process.communicate(timeout=20)
        assert process.returncode == 1
        assert err.count("\n") == 1
        assert str(ports[which]) in err
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
