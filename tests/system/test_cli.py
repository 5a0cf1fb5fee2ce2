"""The command as a user runs it: a process of its own, with real files, pipes, terminals and signals."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GATEWAY = [sys.executable, "-m", "gateway"]


def environment(**changes):
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    return {**kept, **changes}


def gateway(*argv, **changes):
    return subprocess.run(
        [*GATEWAY, *argv], cwd=ROOT, env=environment(**changes), capture_output=True, text=True, timeout=30, check=False
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_example_configuration_is_found_and_fine():
    done = gateway("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("config/routes.yaml: fine")


def test_a_wrong_configuration_is_told_line_by_line(tmp_path):
    path = tmp_path / "routes.yaml"
    path.write_text("routes: []\nlissten: {}\nwire: {connections: many}\n")
    for command in ("check", "run", "routes"):
        done = gateway(command, "-c", str(path))
        assert done.returncode == 2
        assert done.stdout == ""
        assert [line.split(":")[1:3] for line in done.stderr.splitlines()] == [["2", "1"], ["3", "21"]]
        assert "did you mean 'listen'?" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error_message(tmp_path):
    many = "\n".join(f"  - {{name: r{n}, match: {{path: /{n}}}, upstream: api}}" for n in range(2000))
    path = tmp_path / "routes.yaml"
    path.write_text(f"upstreams: {{api: {{targets: [http://127.0.0.1:9001]}}}}\nroutes:\n{many}\n")
    with subprocess.Popen(
        [*GATEWAY, "routes", "-c", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) in (0, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*GATEWAY, "routes"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "gateway: [Errno 28] No space left on device\n"


def test_a_terminal_without_unicode_gets_question_marks():
    done = gateway("routes", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "orders ? http://127.0.0.1:9001" in done.stdout


@pytest.mark.parametrize(("no_color", "escapes"), [("", True), ("1", False)])
def test_a_terminal_gets_style_unless_it_asks_for_none(no_color, escapes):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*GATEWAY, "routes"], cwd=ROOT, stdout=theirs, env=environment(NO_COLOR=no_color, TERM="xterm", COLUMNS="200")
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not piece:
                break
            shown += piece
        assert process.wait(30) == 0
    os.close(ours)
    assert b"/orders/**" in shown
    assert (b"\x1b[" in shown) is escapes


def test_a_token_goes_straight_into_a_variable():
    done = gateway("token", "--provider", "demo", "--sub", "u", "--scope", "orders:read")
    assert done.stdout.count(".") == 2
    assert done.stdout.count("\n") == 1


def test_explain_answers_for_the_example():
    done = gateway("explain", "--json", "GET", "http://127.0.0.1:8080/orders/7")
    assert done.returncode == 0
    assert json.loads(done.stdout)["route"] == "orders"


@pytest.fixture
def running(tmp_path):
    """A gateway on free ports, told to run, and a way to await its words."""
    http, admin = free_port(), free_port()
    path = tmp_path / "routes.yaml"
    path.write_text(
        f"listen: {{http: '127.0.0.1:{http}', admin: '127.0.0.1:{admin}'}}\n"
        f"upstreams: {{api: {{targets: ['http://127.0.0.1:{free_port()}']}}}}\n"
        "routes: [{name: all, match: {path: /**}, upstream: api}]\n"
    )
    with subprocess.Popen(
        [*GATEWAY, "run", "-c", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        try:
            process.path, process.http, process.admin = path, http, admin
            process.first = process.stderr.readline()
            yield process
        finally:
            process.kill()


def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()


def test_run_says_where_it_listens_and_serves_there(running):
    assert running.first.startswith("gateway ")
    assert f"listening on http://127.0.0.1:{running.http}, admin on http://127.0.0.1:{running.admin}" in running.first
    assert fetch(f"http://127.0.0.1:{running.admin}/healthz") == (200, b'{"status":"ok"}')
    assert fetch(f"http://127.0.0.1:{running.admin}/readyz")[0] == 200
    status, body = fetch(f"http://127.0.0.1:{running.http}/x")
    assert (status, json.loads(body)["code"]) == (502, "upstream_unreachable")
    ends = time.monotonic() + 5
    # The reply may be here a moment before it is counted.
    while 'gateway_refusals_total{code="upstream_unreachable",route="all"} 1.0' not in (
        metrics := fetch(f"http://127.0.0.1:{running.admin}/metrics")[1].decode()
    ):
        assert time.monotonic() < ends, metrics
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_ends_when_it_is_told_to(running, number):
    running.send_signal(number)
    _, err = running.communicate(timeout=10)
    assert running.returncode == 0
    assert "Traceback" not in err


def test_the_access_log_is_complete_when_the_process_has_ended(running):
    fetch(f"http://127.0.0.1:{running.http}/x?secret=1")
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=10)
    line = json.loads(out)
    assert (line["path"], line["status"], line["code"]) == ("/x", 502, "upstream_unreachable")
    assert line["route"] == "all"
    assert "secret" not in out


def test_an_address_in_use_is_one_line_and_status_1(running):
    done = gateway("run", "-c", str(running.path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"127.0.0.1:{running.http}" in done.stderr
    assert "in use" in done.stderr.lower()


def test_run_is_ready_soon(running):
    began = time.monotonic()
    running.kill()
    with subprocess.Popen(
        [*GATEWAY, "run", "-c", str(running.path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert "listening" in process.stderr.readline()
        process.kill()
    assert time.monotonic() - began < 10  # the figure to reach is one second; a busy machine must not fail a test
