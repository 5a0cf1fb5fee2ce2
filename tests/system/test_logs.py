"""Both logs of a running gateway, as its operator gets them."""

import contextlib
import json
import os
import re
import select
import shlex
from pathlib import Path

from tests.system.gateways import Process, Start, proxy
from tests.system.upstream import Upstream

COMBINED = re.compile(r'(\S+) (\S+) (\S+) \[([^\]]+)\] "([^"]*)" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"')


def messages(gateway: Process) -> list[dict[str, str]]:
    """What it has said of itself; each line has to be an object."""
    return [json.loads(line) for line in gateway.errors.read_text().splitlines()]


def test_all_processes_speak_json_and_combined_lines_are_whole(start: Start, upstream: Upstream):
    routes = [
        {"name": "all", "match": {"path": "/**"}, "upstream": "up"},
        {"name": "broken", "match": {"path": "/broken"}, "upstream": "nobody"},
    ]
    up = {
        "up": {"targets": [f"http://127.0.0.1:{upstream.port}"]},
        "nobody": {"targets": ["http://127.0.0.1:1"], "retry": "off", "breaker": {"consecutive_failures": 1}},
    }
    logging = {"access": "combined", "format": "json"}
    gateway = start(proxy(upstream.port, workers=2, logging=logging, routes=routes, upstreams=up))
    assert [gateway.ask(f"/{n}?token=secret")[0] for n in range(9)] == [200] * 9
    assert gateway.ask("/broken")[0] == 502
    gateway.wait_metric(0, "gateway_log_suppressed_total")
    gateway.process.send_signal(1)  # SIGHUP
    gateway.wait_for("reloaded")
    assert gateway.stop() == 0
    lines = gateway.output.read_text().splitlines()
    assert [bool(COMBINED.fullmatch(line)) for line in lines] == [True] * 10
    assert "secret" not in gateway.output.read_text() + gateway.errors.read_text()
    said = messages(gateway)
    (opened,) = [each for each in said if each["message"].startswith("circuit of nobody")]
    assert (opened["process"], opened["level"], opened["logger"]) == ("worker", "warning", "gateway.resilience")
    assert {each["process"] for each in said} >= {"supervisor", "worker"}
    assert any(each["message"].startswith("listening on http://") for each in said)


def test_a_reload_changes_the_form_of_both_logs_in_every_process(start: Start, upstream: Upstream):
    off = {"breaker": "off", "retry": "off", "timeouts": {"connect": "200ms"}}
    gateway = start(proxy(upstream.port, workers=2, logging={"access": "json"}))
    assert gateway.ask("/a")[0] == 200
    before = len(gateway.errors.read_text())
    wanted = {"access": "ecs", "format": "json", "level": "debug"}
    up = {"up": {"targets": [f"http://127.0.0.1:{upstream.port}"], **off}}
    gateway.configure(proxy(upstream.port, workers=2, logging=wanted, upstreams=up))
    assert gateway.reload()[0] == 200
    assert gateway.ask("/b")[0] == 200
    assert gateway.stop() == 0
    first, second = (json.loads(line) for line in gateway.output.read_text().splitlines())
    assert (first["path"], second["url"]["path"]) == ("/a", "/b")
    # The message about the reload itself is the first in the new form.
    said = gateway.errors.read_text()[before:].splitlines()
    assert [json.loads(line)["level"] for line in said if line.startswith("{")]
    assert json.loads(said[-1])["process"] in ("supervisor", "worker", "operator")


def test_a_route_that_logs_nothing_still_logs_its_problems(start: Start, upstream: Upstream):
    routes = [
        {"name": "quiet", "match": {"path": "/quiet/**"}, "log": "off", "upstream": "up"},
        {"name": "broken", "match": {"path": "/broken"}, "log": "off", "upstream": "nobody"},
    ]
    up = {
        "up": {"targets": [f"http://127.0.0.1:{upstream.port}"]},
        "nobody": {"targets": ["http://127.0.0.1:1"], "retry": "off", "breaker": "off"},
    }
    gateway = start(proxy(upstream.port, logging={"access": "json"}, routes=routes, upstreams=up))
    assert [gateway.ask(path)[0] for path in ("/quiet/1", "/broken", "/quiet/2", "/nowhere")] == [200, 502, 200, 404]
    assert gateway.stop() == 0
    lines = [json.loads(line) for line in gateway.output.read_text().splitlines()]
    assert [(line["route"], line["status"], line["sampled"]) for line in lines] == [
        ("broken", 502, None),
        (None, 404, None),
    ]
    assert [hop[:2] for hop in lines[0]["hops"]] == [[stage, "http://127.0.0.1:1"] for stage in ("connect", "try")]
    assert lines[0]["reason"] == lines[0]["code"] == "upstream_unreachable"


def test_a_pipe_that_nobody_reads_stops_neither_requests_nor_the_end(start: Start, upstream: Upstream, tmp_path: Path):
    stuck = tmp_path / "pipe"
    os.mkfifo(stuck)
    pipe = os.open(stuck, os.O_RDWR | os.O_NONBLOCK)
    try:
        # Both logs into it, as with `2>&1 |`; the shell's descriptors block.
        by = ("sh", "-c", f'exec "$@" > {shlex.quote(str(stuck))} 2>&1', "sh")
        gateway = start(proxy(upstream.port, logging={"access": "json"}), by=by, ready=False)
        assert select.select([pipe], [], [], 10)[0]
        assert b"listening on" in os.read(pipe, 4096)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(pipe, b"x" * 4096)
        assert [gateway.ask()[0] for _ in range(20)] == [200] * 20
        assert gateway.reload()[0] == 200  # of which the supervisor has something to say
        assert gateway.ask()[0] == 200
        assert gateway.stop() == 0
    finally:
        os.close(pipe)
