"""Where reports arrive: what is remembered, who is handed lines, when a tail is complete, what is not understood."""

import asyncio
import logging

import orjson
import pytest

from gateway.process import mailbox as module
from gateway.process.mailbox import LINES, MOST_TAPS, TAILED_FOR, Mailbox, Tap, TooManyTapsError
from gateway.telemetry.reports import ERROR, SLOW, TAIL, Reports
from gateway.telemetry.wanted import Wanted
from tests.fakes import Clock
from tests.unit.test_telemetry_recent import record
from tests.unit.test_telemetry_reports import a_call

NOW = 1_795_251_600.0


class Board:
    """Notes what is posted."""

    def __init__(self):
        self.posted = []

    def post(self, **changes):
        self.posted.append(changes["tail_until"])
        return True


@pytest.fixture
def clock():
    return Clock(NOW)


@pytest.fixture
def board():
    return Board()


@pytest.fixture
def mailbox(tmp_path, clock, board):
    return Mailbox(tmp_path / "reports.sock", board.post, lambda: ["1", "2"], clock)


def batch(*lines, name="1", until=0.0):
    head = orjson.dumps({"from": name, "tail_until": until})
    return b"\n".join([head, *(b"%d%b" % (kinds, orjson.dumps(said)) for kinds, said in lines)]) + b"\n"


def test_errors_and_slow_ones_are_remembered(mailbox):
    mailbox.hear(batch((ERROR, record(1)), (SLOW, record(2)), (TAIL, record(3)), (ERROR | SLOW, record(4))))
    assert [each["id"] for each in mailbox.recent.errors()] == ["id-4", "id-1"]
    assert {each["id"] for each in mailbox.recent.slowest(NOW)} == {"id-2", "id-4"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"{}\n",
        b"not json",
        batch((ERROR, {})),
        batch((ERROR, {**record(), "status": "503"})),
        batch((ERROR, [])),
        batch() + b"1{\n",
        batch() + b"\n",
        b"\x00" * 1000,
    ],
)
def test_what_is_no_report_is_left_out_and_said(mailbox, caplog, raw):
    with caplog.at_level(logging.WARNING):
        mailbox.hear(raw)
    assert mailbox.recent.errors() == []
    assert "was not understood" in caplog.text


async def test_who_tails_gets_what_fits(mailbox):
    tap, other = mailbox.attach(Wanted(route="orders")), mailbox.attach(Wanted(status=(200, 299)))
    mailbox.hear(batch((TAIL, record(1)), (TAIL, record(2, route="x")), (ERROR, record(3))))
    lines, lost = await tap.take(1.0)
    assert [orjson.loads(line)["id"] for line in lines] == ["id-1"]
    assert lost == 0
    assert await other.take(0.0) == ([], 0)


async def test_a_slow_reader_loses_lines_and_is_told_how_many(mailbox):
    tap = mailbox.attach(Wanted())
    for number in range(LINES + 7):
        mailbox.hear(batch((TAIL, record(number))))
    lines, lost = await tap.take(1.0)
    assert (len(lines), lost) == (LINES, 7)
    assert await tap.take(0.0) == ([], 0)


async def test_workers_are_asked_for_as_long_as_somebody_tails(mailbox, board, clock):
    first, second = mailbox.attach(Wanted()), mailbox.attach(Wanted())
    assert board.posted == [NOW + TAILED_FOR]
    clock.advance(TAILED_FOR / 2 + 1)
    mailbox.renew()
    assert board.posted[-1] == clock() + TAILED_FOR
    mailbox.detach(first)
    assert len(board.posted) == 2
    mailbox.detach(second)
    assert board.posted[-1] == 0.0
    mailbox.attach(Wanted())
    assert board.posted[-1] == clock() + TAILED_FOR


async def test_a_tail_is_complete_when_every_living_worker_has_answered(mailbox, clock):
    mailbox.attach(Wanted())
    waiting = asyncio.ensure_future(mailbox.answered(5.0))
    mailbox.hear(batch(until=NOW + TAILED_FOR))
    await asyncio.sleep(0)
    assert mailbox.silent() == ["2"]
    assert not waiting.done()
    mailbox.hear(batch(name="2", until=NOW + TAILED_FOR))
    await waiting
    assert mailbox.silent() == []
    clock.advance(TAILED_FOR)  # what they said then is over
    assert mailbox.silent() == ["1", "2"]
    await mailbox.answered(0.0)


def test_only_so_many_may_tail(mailbox):
    for _ in range(MOST_TAPS):
        mailbox.attach(Wanted())
    with pytest.raises(TooManyTapsError):
        mailbox.attach(Wanted())


async def test_the_end_reaches_those_who_tail(mailbox):
    tap = mailbox.attach(Wanted())
    mailbox.close()
    assert await tap.take(60.0) == ([], 0)
    assert tap.ended


async def test_a_new_operator_takes_the_place_of_one_that_died(tmp_path, board, clock, mailbox):
    reports = Reports(tmp_path / "reports.sock", "1", lambda count: None, clock)
    successor = Mailbox(tmp_path / "reports.sock", board.post, lambda: ["1"], clock)
    try:
        mailbox.open()
        asyncio.get_running_loop().remove_reader(mailbox._socket)  # it has died, and its socket stays behind
        successor.open()
        for _ in range(3):
            reports.read(a_call(), 500, 0, 0, 0.1, 0.1)
        reports.flush()
        await asyncio.sleep(0.01)
        assert len(successor.recent.errors()) == 3
        assert mailbox.recent.errors() == []
    finally:
        reports.close()
        successor.close()
        mailbox.close()


async def test_without_a_place_for_its_socket_the_log_says_so(tmp_path, board, caplog):
    mailbox = Mailbox(tmp_path / "nowhere" / "reports.sock", board.post, list)
    mailbox.open()
    assert "cannot listen on" in caplog.text
    mailbox.close()


def test_a_record_has_what_is_relied_upon():
    assert module.MEMBERS.keys() <= record().keys()
    assert Tap(Wanted()).ended is False
