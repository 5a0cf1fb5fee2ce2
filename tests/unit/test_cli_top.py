"""`gateway top` against a feed of the test's own: one look as text or JSON, and what the screen shows for which key."""

import json
import os
import pty
import select
import subprocess
import sys
import termios
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from rich.console import Console

from gateway.cli.main import main
from gateway.cli.top import Screen
from gateway.cli.top_view import SORTS, VIEWS, everything, frame
from tests.unit.test_telemetry_recent import record

EVIL = "\x1b]0;owned\x07[bold]\n\x9b"
TARGETS = [
    {"url": "http://a:9001", "circuit": "closed", "held": False, "healthy": True, "ejected": False, "rate": 60.0,
     "error_rate": 0.0, "p99_ms": 4.5},
    {"url": "http://b:9001", "circuit": "open", "held": True, "healthy": False, "ejected": False, "rate": 0.0,
     "error_rate": 0.0, "p99_ms": None},
]  # fmt: skip
STATE = {
    "at": "2026-11-21T09:00:00Z",
    "instance": {
        "version": "1.2.3", "started": "2026-11-21T08:00:00Z", "workers": {"configured": 2, "ready": 1}, "ready": False,
        "reasons": ["the store is away"], "hash": "abc", "reload_ok": False, "listeners": {"http": 7, "https": 3},
        "loop_lag_ms": 1.5,
    },
    "totals": {"requests": 1000, "errors": 5, "ended": 9, "rate": 123.4, "error_rate": 0.0005, "p50_ms": 1.25,
               "p95_ms": 20.0, "p99_ms": 12_345.0, "bytes_in": 1, "bytes_out": 2},
    "routes": [
        {"name": "orders", "requests": 900, "errors": 5, "refused": 3, "rate": 100.0, "error_rate": 0.06,
         "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 30.0, "own_p99_ms": 0.25, "upstreams": ["up"]},
        {"name": EVIL, "requests": 0, "errors": 0, "refused": 0, "rate": 0.0, "error_rate": 0.0,
         "p50_ms": None, "p95_ms": None, "p99_ms": None, "own_p99_ms": None, "upstreams": []},
    ],
    "statuses": {"2xx": 990}, "reasons": [],
    "upstreams": [{"name": "up", "rate": 60.0, "error_rate": 0.0, "p99_ms": 4.5, "retries": 0, "paused": 12.0,
                   "connections": {"busy": 1, "idle": 4}, "targets": TARGETS}],
    "consumers": [{"name": "ada", "requests": 900, "rate": 90.0, "errors": 1, "refused": 2},
                  {"name": "", "requests": 100, "rate": 9.0, "errors": 4, "refused": 0}],
    "probes": [], "alerts": [{"name": "CircuitOpen", "state": "firing", "labels": {}, "summary": "x"}], "slo": [],
    "errors": [{**record(7, explanation="The circuits are open."), "path": EVIL}], "slowest": [],
}  # fmt: skip


def printed(renderable, width=80):
    console = Console(width=width, color_system=None, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def words(text):
    return [" ".join(line.split()) for line in text.splitlines()]


@contextmanager
def feeding(*events, until=None):
    """A gateway that says this, and then ends: at once, or when this has happened."""

    class Gateway(BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path == "/api/v1/live"
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for event in events:
                self.wfile.write(event if isinstance(event, bytes) else state_event(event))
                self.wfile.flush()
            if until is not None:
                until.wait(20)
            self.close_connection = True

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def state_event(state):
    return b"event: state\ndata: " + json.dumps(state).encode() + b"\n\n"


# -- one look -----------------------------------------------------------------------------------------------


def test_into_a_pipe_goes_one_look_at_everything(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)  # which tests in parallel are given
    with feeding(b": waiting\n\n", {}, STATE) as url:
        assert main(["top", "--admin", url]) == 0
    found = words(capsys.readouterr().out)
    assert found[:4] == [
        "gateway 1.2.3 1 of 2 workers not ready the last reload failed since 2026-11-21T08:00:00Z lag 1.5 ms",
        "123/s errors <0.1% p50 1.2 ms p95 20.0 ms p99 12.3 s clients 10",
        "the store is away",
        "alerts: CircuitOpen",
    ]
    assert "orders 100 6.0% 1.0 ms 30.0 ms 0.25 ms 3" in found
    assert "http://a:9001 60.0 0.0% 4.5 ms in use" in found
    assert "http://b:9001 0.0 0.0% - ill, circuit open, held open" in found
    assert "up 60.0 0.0% 4.5 ms 1 busy, 4 idle, paused for 12 s" in found
    assert "(anonymous) 9.0 100 4 0" in found
    assert found[-1] == "The circuits are open."


def test_as_json_one_state_is_printed(capsys):
    with feeding({}, STATE) as url:
        assert main(["top", "--json", "--admin", url]) == 0
    assert json.loads(capsys.readouterr().out) == STATE


def test_a_gateway_that_ends_is_an_error(capsys):
    with feeding(STATE) as url:
        assert main(["top", "--once", "--admin", url]) == 1
    assert "has ended" in capsys.readouterr().err


def test_what_is_no_gateway_is_an_error(capsys):
    assert main(["top", "--once", "--admin", "http://127.0.0.1:1"]) == 1
    assert "nobody listens at" in capsys.readouterr().err


# -- the screen ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("width", [80, 200])
def test_every_view_fits_and_holds_no_control_characters(view, width):
    text = printed(frame(STATE, view, "rate", 19), width)
    assert all(line.isprintable() and len(line) <= width for line in text.split("\n"))
    assert len(text.splitlines()) <= 24
    assert "[bold]" in text  # of EVIL: text, not a style


def test_problems_are_failures_before_refusals_and_what_they_mean_is_said_once():
    refused = [record(number, 429, id=f"r{number}", explanation="A limit.") for number in (9, 8)]
    failed = [record(number, id=f"f{number}", explanation="The circuits are open.") for number in (3, 2)]
    found = words(printed(frame({**STATE, "errors": refused + failed}, "problems", "rate", 19)))
    said = [line.split()[-1] if line.startswith("09:") else line for line in found[-6:]]
    assert said == ["f3", "The circuits are open.", "f2", "r9", "A limit.", "r8"]


@pytest.mark.parametrize("sort", SORTS)
def test_tables_are_sorted(sort):
    text = printed(everything(STATE, sort, 20), 200)
    names = [line.split()[0] for line in text.splitlines() if line.startswith(("ada", "(anonymous)"))]
    assert names == (["(anonymous)", "ada"] if sort in ("errors", "name") else ["ada", "(anonymous)"])


def test_long_tables_say_what_is_left_out():
    many = {**STATE, "routes": [{**STATE["routes"][0], "name": f"r{number}"} for number in range(50)]}
    assert "… and 39 lines more" in printed(frame(many, "routes", "rate", 19))


@pytest.mark.parametrize("state", [{}, {"routes": 7, "errors": [7], "instance": "x", "upstreams": [{}]}])
def test_a_feed_of_another_version_shows_what_it_has(state):
    assert "workers" in printed(everything(state, "rate", 20))


def test_keys_choose_the_view_and_the_order():
    screen = Screen()
    for key, view, sort in [("3", 2, 0), ("\t", 3, 0), ("\t", 0, 0), ("9", 0, 0), ("s", 0, 1), ("x", 0, 1)]:
        screen.press(key)
        assert (screen.view, screen.sort, screen.left) == (view, sort, False)
    assert "sorted by errors" in printed(screen.draw(STATE, 24))
    assert "waiting" in printed(screen.draw(None, 24))
    screen.press("q")
    assert screen.left


def test_on_a_terminal_it_is_shown_until_q_and_leaves_the_terminal_as_it_was():
    held = threading.Event()
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    before = termios.tcgetattr(theirs)

    with feeding(STATE, until=held) as url:
        command = [sys.executable, "-m", "gateway", "top", "--admin", url]
        process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm"}
        )
        try:
            assert "orders" in seen(ours, "s sorted by rate")
            os.write(ours, b"2")
            assert "in use" in seen(ours, "in use")
            os.write(ours, b"q")
            seen(ours, "\x1b[?1049l")  # the screen from before
            _, err = process.communicate(timeout=10)
            assert (process.returncode, err) == (0, b"")
            assert termios.tcgetattr(theirs) == before
        finally:
            held.set()
            process.kill()
            process.communicate()
            os.close(ours)
            os.close(theirs)


def seen(terminal, wanted):
    """What is on the terminal when this has been written."""
    text, ends = "", time.monotonic() + 10
    while wanted not in text:
        assert time.monotonic() < ends, text
        if select.select([terminal], [], [], 0.1)[0]:
            text += os.read(terminal, 65536).decode(errors="replace")
    return text
