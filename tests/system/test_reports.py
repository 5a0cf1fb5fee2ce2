"""What operators see of requests, with two workers: recent errors by their ids, and a tail without gaps."""

import json
import os
import signal
import subprocess
import time
from argparse import Namespace
from pathlib import Path

from gateway.cli.live import events, json_object
from tests.system.callers import ask
from tests.system.gateways import GATEWAY, Process, Start, proxy, quiet_port
from tests.system.proc import children, needs_proc
from tests.system.upstream import Upstream

PATIENCE = 10.0


def failing(upstream: Upstream) -> str:
    """One route that works, and one whose upstream is not there."""
    return proxy(
        upstream.port,
        workers=2,
        upstreams={
            "up": {"targets": [f"http://127.0.0.1:{upstream.port}"]},
            "down": {"targets": [f"http://127.0.0.1:{quiet_port()}"], "breaker": "off", "retry": "off"},
        },
        routes=[
            {"name": "bad", "match": {"path": "/bad/**"}, "upstream": "down"},
            {"name": "all", "match": {"path": "/ok/**"}, "upstream": "up"},
        ],
    )


def problems(gateway: Process, query: str = "") -> list[dict[str, object]]:
    status, body = gateway.operate(f"/api/v1/errors{query}")
    assert status == 200, body
    found: list[dict[str, object]] = json.loads(body)["errors"]
    return found


def failed_ids(gateway: Process, count: int) -> set[str]:
    """The request ids of so many requests that fail, on connections of their own."""
    answers = [ask(gateway.port, {}, f"/bad/{number}") for number in range(count)]
    assert {answer.status for answer in answers} == {502}
    return {json.loads(answer.body)["instance"] for answer in answers}


def wait_for_problems(gateway: Process, wanted: set[str]) -> None:
    ends = time.monotonic() + PATIENCE
    while {each["id"] for each in problems(gateway)} != wanted:
        assert time.monotonic() < ends, (len(problems(gateway)), len(wanted))
        time.sleep(0.05)


def test_requests_that_fail_are_remembered_under_the_ids_that_their_replies_had(start: Start, upstream: Upstream):
    gateway = start(failing(upstream))
    wanted = failed_ids(gateway, 30)
    assert ask(gateway.port, {}, "/ok/1").status == 200
    wait_for_problems(gateway, wanted)
    (newest,) = problems(gateway, "?limit=1")
    assert (newest["route"], newest["reason"], newest["status"]) == ("bad", "upstream_unreachable", 502)
    assert "connection" in str(newest["explanation"])
    assert problems(gateway, "?route=all") == []
    assert len({str(each["id"])[:12] for each in problems(gateway)}) == 2  # ids begin with what is a worker's own


@needs_proc
def test_a_new_operator_process_is_told_what_failed_while_there_was_none(start: Start, upstream: Upstream):
    gateway = start(failing(upstream))
    wait_for_problems(gateway, failed_ids(gateway, 3))
    operator = next(pid for pid in children(gateway.pid) if b"reports" in sockets_of(pid))
    os.kill(operator, signal.SIGKILL)
    wanted = failed_ids(gateway, 3)
    ends = time.monotonic() + PATIENCE
    while not wanted <= remembered(gateway):
        assert time.monotonic() < ends
        time.sleep(0.1)


def remembered(gateway: Process) -> set[str]:
    try:
        return {str(each["id"]) for each in problems(gateway)}
    except OSError:  # the admin listener waits for its process
        return set()


def sockets_of(pid: int) -> bytes:
    """The named Unix sockets that a process has bound."""
    held = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    rows = Path("/proc/net/unix").read_bytes().splitlines()[1:]
    return b"\n".join(row for row in rows if f"socket:[{row.split()[6].decode()}]" in held)


class Tail:
    """`gateway tail --json` beside the test."""

    def __init__(self, gateway: Process, folder: Path, *options: str) -> None:
        self.output = folder / f"tail{len(options)}"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*GATEWAY, "tail", "--json", "--admin", f"http://127.0.0.1:{gateway.admin}", *options],
                stdout=output, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def end(self) -> tuple[int, str]:
        """As Ctrl-C does: its status, and what it had to say."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors


def ready(gateway: Process, tail: Tail) -> None:
    """Requests are sent until one is shown: from here on every one must be."""
    ends = time.monotonic() + PATIENCE
    while not tail.lines():
        assert time.monotonic() < ends
        ask(gateway.port, {}, "/bad/before")
        time.sleep(0.1)
    time.sleep(0.6)  # two flushes: the last of these, too, is on the way no more


def test_a_tail_shows_every_request_from_its_first_line_on(start: Start, upstream: Upstream, tmp_path: Path):
    gateway = start(failing(upstream))
    tails = [Tail(gateway, tmp_path), Tail(gateway, tmp_path, "--status", "5xx")]
    try:
        for tail in tails:
            ready(gateway, tail)
        for number in range(60):
            ask(gateway.port, {"User-Agent": "x"}, f"/{'bad' if number % 3 == 0 else 'ok'}/after-{number}")
        shown: list[list[object]] = [[], []]
        ends = time.monotonic() + PATIENCE
        while [len(paths) for paths in shown] != [60, 20] and time.monotonic() < ends:
            time.sleep(0.1)
            shown = [[each["path"] for each in tail.lines() if "after" in str(each["path"])] for tail in tails]
        assert sorted(shown[0]) == sorted(f"/{'bad' if n % 3 == 0 else 'ok'}/after-{n}" for n in range(60))
        assert sorted(shown[1]) == sorted(f"/bad/after-{n}" for n in range(0, 60, 3))
        assert tails[0].end() == (130, "")
        gateway.process.send_signal(signal.SIGTERM)
        _, errors = tails[1].process.communicate(timeout=PATIENCE)
        assert tails[1].process.returncode == 1
        assert "has ended" in errors
    finally:
        for tail in tails:
            tail.process.kill()
            tail.process.communicate()
    gateway.process.wait(PATIENCE)


def test_from_the_moment_that_a_tail_is_ready_nothing_is_missing(start: Start, upstream: Upstream):
    gateway = start(failing(upstream))
    asked = Namespace(command="tail", admin=f"http://127.0.0.1:{gateway.admin}")
    for times in range(3):
        with events(asked, "/api/v1/tail?method=GET") as coming:
            assert next(coming) == ("ready", b'{"silent":[]}')
            for number in range(40):
                ask(gateway.port, {}, f"/ok/{times}/{number}")
            shown = [json_object(next(coming).data)["path"] for _ in range(40)]
            assert sorted(shown) == sorted(f"/ok/{times}/{number}" for number in range(40))


def test_the_socket_goes_with_the_gateway(start: Start, upstream: Upstream, tmp_path: Path):
    gateway = start(failing(upstream) + f"runtime_dir: {tmp_path}\n")
    assert len(list(tmp_path.glob("gateway-*/reports.sock"))) == 1
    gateway.process.send_signal(signal.SIGTERM)
    gateway.process.wait(PATIENCE)
    assert list(tmp_path.glob("gateway-*/reports.sock")) == []
