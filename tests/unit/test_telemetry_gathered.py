"""Finished calls wait for a moment, and are then read together."""

import logging

import pytest

from gateway.exchange import Call, Fields, Peer, Request
from gateway.telemetry.gathered import MOST, WITHIN, Gathered


class Loop:
    """Somebody else's moments."""

    def __init__(self):
        self.due = []

    def later(self, seconds, do):
        self.due.append((seconds, do))

    def pass_by(self):
        due, self.due = self.due, []
        for _, do in due:
            do()


def a_call(id):
    return Call(Request("GET", b"/", Fields([]), Peer("127.0.0.1", 1)), id)


@pytest.fixture
def loop():
    return Loop()


def test_calls_are_read_in_their_order_and_once(loop):
    read = []
    gathered = Gathered(lambda *told: read.append((told[0].id, *told[1:])), loop.later)
    gathered.finished(a_call("a"), 200, 1, 2, 0.5)
    gathered.finished(a_call("b"), 404, 3, 4, 0.25)
    assert read == []
    assert [seconds for seconds, _ in loop.due] == [WITHIN]
    loop.pass_by()
    gathered.flush()
    assert read == [("a", 200, 1, 2, 0.5), ("b", 404, 3, 4, 0.25)]


def test_each_gathering_has_a_moment_of_its_own(loop):
    read = []
    gathered = Gathered(lambda call, *_: read.append(call.id), loop.later)
    for name in "ab":
        gathered.finished(a_call(name), 200, 0, 0, 0)
        loop.pass_by()
    assert read == ["a", "b"]


def test_so_many_do_not_wait(loop):
    read = []
    gathered = Gathered(lambda call, *_: read.append(call.id), loop.later)
    for number in range(MOST + 1):
        gathered.finished(a_call(str(number)), 200, 0, 0, 0)
    assert len(read) == MOST
    loop.pass_by()
    assert len(read) == MOST + 1


def test_one_that_cannot_be_read_keeps_nobody_from_being_read(loop, caplog):
    read = []

    def reading(call, *_):
        if call.id == "bad":
            raise ValueError("a defect")
        read.append(call.id)

    gathered = Gathered(reading, loop.later)
    for name in ("a", "bad", "b"):
        gathered.finished(a_call(name), 200, 0, 0, 0)
    with caplog.at_level(logging.ERROR):
        loop.pass_by()
    assert read == ["a", "b"]
    assert "request bad could not be counted" in caplog.text
