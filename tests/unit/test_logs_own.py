"""The gateway's own messages: one line each, which nobody can forge, and not too many of the same."""

import fcntl
import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.logs import own_log
from gateway.logs.own_limit import MOST, MOST_PLACES, WINDOW, Limit
from gateway.logs.own_log import OwnLog

HEAD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR) gateway[.\w]*: ")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Said:
    """A logger of its own whose messages go through the handler, and what came out."""

    def __init__(self, name: str = "gateway.test") -> None:
        self.stream, self.clock = io.StringIO(), Clock()
        self.handler = OwnLog(self.stream, self.clock)
        self.log = logging.Logger(name, logging.DEBUG)
        self.log.addHandler(self.handler)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def objects(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def said() -> Said:
    return Said()


def test_a_message_as_text(said: Said) -> None:
    said.log.warning("circuit of %s: %s", "orders", "open")
    (line,) = said.lines
    assert HEAD.match(line)
    assert line.endswith(" WARNING gateway.test: circuit of orders: open")


def test_a_message_as_json_has_every_field(said: Said) -> None:
    said.handler.write_as("json")
    said.handler.begin("worker")
    said.log.info("hello %s", "you")
    (line,) = said.objects
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("time")))
    assert isinstance(line.pop("pid"), int)
    assert line == {
        "level": "info",
        "logger": "gateway.test",
        "message": "hello you",
        "process": "worker",
        "exception": None,
    }


def test_a_traceback_follows_its_message_in_lines_that_no_message_begins_with(said: Said) -> None:
    forged = "boom\n2026-11-21 00:00:00,000 ERROR gateway.auth: all keys are lost\r\x1b[2J\u2028x"
    try:
        raise ValueError(forged)
    except ValueError:
        said.log.exception("it failed")
    first, *rest = said.stream.getvalue().removesuffix("\n").split("\n")
    assert HEAD.match(first)
    assert len(rest) > 3
    assert all(line.startswith("    ") and line.isprintable() for line in rest)
    assert any("all keys are lost" in line for line in rest)


def test_a_traceback_in_json_stays_in_its_line(said: Said) -> None:
    said.handler.write_as("json")
    try:
        raise ValueError("boom\u2028\x85\x1b[2J")
    except ValueError:
        said.log.exception("it failed")
    (line,) = said.objects
    assert str(line["exception"]).startswith("Traceback (most recent call last):\n")
    assert str(line["exception"]).endswith("ValueError: boom\\u2028\\x85\\x1b[2J")


def test_a_long_traceback_is_cut_at_its_beginning(said: Said) -> None:
    try:
        raise ValueError("\n".join(f"line {n}" for n in range(500)))
    except ValueError:
        said.log.exception("it failed")
    assert len(said.lines) == 62
    assert said.lines[-1] == "    line 499"
    assert said.lines[1].startswith("    … ")


@pytest.mark.parametrize("form", ["text", "json"])
@given(value=st.text(max_size=60))
def test_h10_no_value_forges_a_line_of_the_gateways_own(form: own_log.Form, value: str) -> None:
    """H10: line ends, ANSI sequences, C1, directions of writing, lone surrogates."""
    said = Said()
    said.handler.write_as(form)
    said.log.warning("they said %s", value)
    (line,) = said.lines
    assert line.isprintable()
    assert said.stream.getvalue() == line + "\n"


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("value", ["x", "\x1b", "\n", "\u2028"])
def test_h10_a_value_of_a_megabyte_is_cut_in_the_gateways_own_log(form: own_log.Form, value: str) -> None:
    """H10."""
    said = Said()
    said.handler.write_as(form)
    said.log.warning("they said %s", value * 1_000_000)
    try:
        raise ValueError(value * 1_000_000)
    except ValueError:
        said.log.exception("it failed")
    assert len(said.stream.getvalue()) < 64 * 1024
    assert "1000010 characters" in said.lines[0]


def test_h10_a_flood_of_the_same_message_is_ten_lines_and_one_that_tells_the_number(said: Said) -> None:
    """H10."""
    for number in range(1000):
        said.log.warning("bad thing %d", number)
    assert [line[-1] for line in said.lines] == [str(n) for n in range(MOST)]
    assert said.handler.tick() == 1000 - MOST
    assert len(said.lines) == MOST  # the window is not over
    said.clock.now = WINDOW
    assert said.handler.tick() == 0  # each is counted once
    assert said.lines[MOST:] == [said.lines[-1]]
    assert said.lines[-1].endswith(" WARNING gateway.test: 990 more like this were left out: bad thing %d")
    said.log.warning("bad thing %d", 0)
    assert said.lines[-1].endswith("bad thing 0")  # a new window


def test_what_was_left_out_is_told_before_the_next_message(said: Said) -> None:
    for number in range(12):
        said.log.warning("bad thing %d", number)
    said.clock.now = WINDOW
    said.log.error("another")
    assert [line.partition(": ")[2] for line in said.lines[MOST:]] == [
        "2 more like this were left out: bad thing %d",
        "another",
    ]


def test_what_was_left_out_is_told_at_the_end(said: Said) -> None:
    for number in range(12):
        said.log.warning("bad thing %d", number)
    assert said.handler.tick(last=True) == 2
    assert said.lines[-1].endswith("2 more like this were left out: bad thing %d")


def test_other_messages_are_not_limited_with_it(said: Said) -> None:
    for number in range(20):
        said.log.warning("bad thing %d", number)
        said.log.warning("worse thing %d", number)
    assert len(said.lines) == 2 * MOST


def test_messages_that_are_nothing_but_a_value_are_told_apart_by_it(said: Said) -> None:
    for number in range(50):
        said.log.error("%s", f"routes.yaml:{number}:1: is wrong")
    assert len(said.lines) == 50


def test_messages_of_a_library_are_told_apart_by_their_place_alone() -> None:
    said = Said("asyncio")
    for number in range(50):
        said.log.error(f"Task exception was never retrieved\nfuture: <Task at {number}>")  # as asyncio does
    assert len(said.lines) == MOST
    said.handler.tick(last=True)
    assert "40 more like this were left out: Task exception was never retrieved\\nfuture: <Task at 0>" in said.lines[-1]


def test_debug_messages_and_the_audit_log_are_never_left_out(said: Said) -> None:
    audit = Said("gateway.audit")
    for number in range(50):
        said.log.debug("look %d", number)
        audit.log.info("reloaded %d", number)
    assert (len(said.lines), len(audit.lines)) == (50, 50)


def test_the_memory_of_a_limit_is_bounded() -> None:
    limit = Limit()
    for number in range(3 * MOST_PLACES):
        record = logging.LogRecord("gateway", logging.ERROR, "a.py", number, "boom", (), None)
        assert limit.lets(record, 0.0)
    assert len(limit._windows) <= MOST_PLACES


def test_a_child_has_left_out_nothing_yet(said: Said) -> None:
    for number in range(20):
        said.log.warning("bad thing %d", number)
    said.handler.begin("worker")
    assert said.handler.tick(last=True) == 0


def test_standard_error_that_is_closed_stops_nobody() -> None:
    said = Said()
    said.stream.close()
    said.log.warning("nobody hears this")


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root of logging as it was before, afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield root
    root.handlers[:] = before
    root.setLevel(level)
    own_log.HANDLER.write_as("text")


def test_it_is_configured_once_and_again(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    own_log.configure("warning", "text")
    own_log.configure("error", "json")
    assert root.handlers.count(own_log.HANDLER) == 1
    assert own_log.level() == "error"
    log = logging.getLogger("gateway.test")
    log.warning("not this")
    own_log.set_level("warning")
    log.warning("but this")
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["but this"]


def test_it_writes_to_standard_error_as_it_is_then(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    handler, stream = OwnLog(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    handler.handle(logging.LogRecord("gateway", logging.ERROR, "a.py", 1, "boom", (), None))
    assert stream.getvalue().endswith("ERROR gateway: boom\n")


# -- a standard error that nobody reads ------------------------------------------------------------------


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Said, int]]:
    """Its handler writes to a pipe; the other is the end that reads."""
    monkeypatch.setattr(own_log, "PATIENCE", 0.001)
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(write, "w") as stream, os.fdopen(read, "rb", buffering=0):
        said = Said()
        said.handler = OwnLog(stream, said.clock)
        said.log.handlers[:] = [said.handler]
        yield said, read


def test_a_pipe_that_nobody_reads_costs_messages_not_time(stalled: tuple[Said, int]) -> None:
    said, read = stalled
    for number in range(100):
        said.log.debug("%d %s", number, "x" * 100)  # which blocked for ever once the pipe was full
    assert said.handler.tick() > 50
    assert said.handler.tick() == 0  # each is counted once
    first = os.read(read, 8192).decode()
    assert all(HEAD.match(line) for line in first.splitlines())
    kept = first.count("\n")
    said.log.warning("well again")
    told, again = os.read(read, 8192).decode().splitlines()
    assert told.endswith(f" WARNING gateway: {100 - kept} messages are lost: standard error took no more")
    assert again.endswith("well again")


def test_a_child_does_not_tell_of_what_its_parent_has_lost(stalled: tuple[Said, int]) -> None:
    said, read = stalled
    for number in range(100):
        said.log.debug("%d %s", number, "x" * 100)
    os.read(read, 8192)
    said.handler.begin("worker")
    assert said.handler.tick() == 0
    said.log.warning("hello")
    assert HEAD.sub("", os.read(read, 8192).decode()) == "hello\n"


def test_what_fits_only_in_part_does_not_spoil_the_next_message(stalled: tuple[Said, int]) -> None:
    said, read = stalled
    try:
        raise ValueError("\n".join(["x" * 400] * 40))
    except ValueError:
        said.log.exception("it failed")
    assert len(os.read(read, 8192)) == own_log.PIECE
    said.log.warning("well again")
    end, told, again = os.read(read, 8192).decode().split("\n", 2)
    assert end == ""
    assert told.endswith("1 messages are lost: standard error took no more")
    assert HEAD.match(again)
