"""The gateway in a process of its own while things happen around it: Redis dies, names lead nowhere, it is stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

from tests.servers import free_port, redis_server
from tests.system.gateways import Start
from tests.system.upstream import Upstream


def limited(port: int, redis: int) -> str:
    return f"""
store: {{url: "redis://127.0.0.1:{redis}/0", timeout: 50ms}}
rate_limits: {{some: {{by: ip, limit: 1000/minute}}}}
upstreams: {{up: {{targets: ["http://127.0.0.1:{port}"]}}}}
routes: [{{name: all, match: {{path: /**}}, rate_limit: [some], upstream: up}}]
"""


def test_redis_dies_and_comes_back_and_no_request_notices(start: Start, upstream: Upstream):
    with redis_server() as redis:
        gateway = start(limited(upstream.port, redis.port))
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


def test_a_redis_that_was_never_there_does_not_keep_the_gateway_from_starting(start: Start, upstream: Upstream):
    gateway = start(limited(upstream.port, free_port()))
    assert [gateway.ask()[0] for _ in range(5)] == [200] * 5


def test_a_target_that_has_no_address_is_one_line_at_start_and_502_later(start: Start):
    gateway = start("""
upstreams: {up: {targets: ["http://no-such-host.invalid:80"], retry: off, breaker: off}}
routes: [{name: all, match: {path: /**}, upstream: up}]
""")
    gateway.wait_for("http://no-such-host.invalid:80 cannot be resolved")
    assert gateway.ask()[0] == 502
    assert "Traceback" not in gateway.errors.read_text()


def test_a_stop_lets_the_request_under_way_finish(start: Start, upstream: Upstream):
    gateway = start(f"""
upstreams: {{up: {{targets: ["http://127.0.0.1:{upstream.port}"]}}}}
routes: [{{name: all, match: {{path: /**}}, upstream: up}}]
""")
    answers: list[tuple[int, float]] = []
    asking = Thread(target=lambda: answers.append(gateway.ask("/wait/0.6")))
    asking.start()
    time.sleep(0.2)
    gateway.process.send_signal(signal.SIGTERM)
    asking.join(10)
    assert [status for status, _ in answers] == [200]
    assert gateway.process.wait(5) == 0


def test_a_second_signal_ends_at_once(start: Start, upstream: Upstream):
    gateway = start(f"""
upstreams: {{up: {{targets: ["http://127.0.0.1:{upstream.port}"], timeouts: {{try: 8s}}}}}}
routes: [{{name: all, match: {{path: /**}}, upstream: up}}]
""")
    broken: list[OSError] = []

    def ask() -> None:
        try:
            gateway.ask("/wait/5")
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


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "run", "-c", str(tmp_path / "nowhere.yaml")],
        capture_output=True, text=True, timeout=20, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "nowhere.yaml:1:1" in done.stderr
