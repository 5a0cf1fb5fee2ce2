"""The gateway in a process of its own while things happen around it: Redis dies, names lead nowhere, it is stopped."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.servers import free_port, redis_server

Start = Callable[[str], "Process"]


class Service(BaseHTTPRequestHandler):
    """Answers after as many seconds as the path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        time.sleep(float(self.path.strip("/") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args):
        pass


class Process:
    """A running `gateway run`, ready to be asked."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.port = free_port()
        path = folder / "routes.yaml"
        path.write_text(f'listen: {{http: 127.0.0.1:{self.port}, admin: "off"}}\n{settings}')
        self.errors = folder / "stderr"
        with self.errors.open("wb") as errors, (folder / "stdout").open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "-c", str(path)], stdout=output, stderr=errors
            )
        self.wait_for("listening on")

    def wait_for(self, text: str, times: int = 1) -> None:
        ends = time.monotonic() + 10
        while self.errors.read_text().count(text) < times:
            assert time.monotonic() < ends, f"{text!r} never came: {self.errors.read_text()}"
            assert self.process.poll() is None, self.errors.read_text()
            time.sleep(0.02)

    def ask(self, path: str = "/0") -> tuple[int, float]:
        """Status and seconds."""
        began = time.monotonic()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as reply:
                status = reply.status
        except urllib.error.HTTPError as error:
            status = error.code
            error.close()
        return status, time.monotonic() - began


@pytest.fixture
def service() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Process] = []

    def start(settings: str) -> Process:
        started.append(Process(tmp_path, settings))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait(10)


def limited(port: int, redis: int) -> str:
    return f"""
store: {{url: "redis://127.0.0.1:{redis}/0", timeout: 50ms}}
rate_limits: {{some: {{by: ip, limit: 1000/minute}}}}
upstreams: {{up: {{targets: ["http://127.0.0.1:{port}"]}}}}
routes: [{{name: all, match: {{path: /**}}, rate_limit: [some], upstream: up}}]
"""


def test_redis_dies_and_comes_back_and_no_request_notices(start, service):
    with redis_server() as redis:
        gateway = start(limited(service, redis.port))
        assert gateway.ask()[0] == 200
        redis.kill()
        asked = [gateway.ask() for _ in range(20)]
        assert {status for status, _ in asked} == {200}
        assert max(seconds for _, seconds in asked) < 1.0
        gateway.wait_for("gateway.store")
        redis.start()
        ends = time.monotonic() + 5
        while gateway.errors.read_text().count("gateway.store") < 2 and time.monotonic() < ends:
            assert gateway.ask()[0] == 200
            time.sleep(0.05)
        assert gateway.errors.read_text().count("gateway.store") == 2, "one line when it went, one when it was back"


def test_a_redis_that_was_never_there_does_not_keep_the_gateway_from_starting(start, service):
    gateway = start(limited(service, free_port()))
    assert [gateway.ask()[0] for _ in range(5)] == [200] * 5


def test_a_target_that_has_no_address_is_one_line_at_start_and_502_later(start):
    gateway = start("""
upstreams: {up: {targets: ["http://no-such-host.invalid:80"], retry: off, breaker: off}}
routes: [{name: all, match: {path: /**}, upstream: up}]
""")
    gateway.wait_for("http://no-such-host.invalid:80 cannot be resolved")
    assert gateway.ask()[0] == 502
    assert "Traceback" not in gateway.errors.read_text()


def test_a_stop_lets_the_request_under_way_finish(start, service):
    gateway = start(f"""
upstreams: {{up: {{targets: ["http://127.0.0.1:{service}"]}}}}
routes: [{{name: all, match: {{path: /**}}, upstream: up}}]
""")
    answers: list[tuple[int, float]] = []
    asking = Thread(target=lambda: answers.append(gateway.ask("/0.6")))
    asking.start()
    time.sleep(0.2)
    gateway.process.send_signal(signal.SIGTERM)
    asking.join(10)
    assert [status for status, _ in answers] == [200]
    assert gateway.process.wait(5) == 0


def test_a_second_signal_ends_at_once(start, service):
    gateway = start(f"""
upstreams: {{up: {{targets: ["http://127.0.0.1:{service}"], timeouts: {{try: 8s}}}}}}
routes: [{{name: all, match: {{path: /**}}, upstream: up}}]
""")
    broken: list[OSError] = []

    def ask() -> None:
        try:
            gateway.ask("/5")
        except OSError as error:
            broken.append(error)

    asking = Thread(target=ask)
    asking.start()
    time.sleep(0.2)
    gateway.process.send_signal(signal.SIGTERM)
    gateway.wait_for("draining")
    began = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(5) == -signal.SIGTERM
    assert time.monotonic() - began < 2
    asking.join(10)
    assert len(broken) == 1


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "run", "-c", str(tmp_path / "nowhere.yaml")],
        capture_output=True, text=True, timeout=20, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "nowhere.yaml:1:1" in done.stderr
