"""`gateway tail` against the real admin application: its lines, its filters, and how it ends."""

import asyncio
import json

import pytest

from gateway.auth.ledger import Ledger
from gateway.cli.main import main
from gateway.telemetry.reports import ERROR, TAIL
from tests.operated import Operated, operating, settings
from tests.unit.test_mailbox import batch
from tests.unit.test_telemetry_recent import record

RECORD = record(7, 503, 12.34, target="http://a:9001", tries=2, consumer="ada")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("GATEWAY_ADMIN_TOKEN", raising=False)


@pytest.fixture
def instance(tmp_path):
    return Operated(settings(tmp_path), Ledger(tmp_path / "records", None), tmp_path / "notices")


@pytest.fixture
def tail(instance):
    """`gateway tail` with these words while workers report these records; then the gateway ends."""

    mailbox, attach = instance.mailbox, instance.mailbox.attach

    def run(*words, reported=()):
        def tell():
            mailbox.hear(batch(*((TAIL, each) for each in reported)))
            mailbox.close()

        def attached(wanted):
            tap = attach(wanted)
            asyncio.get_running_loop().call_soon(tell)
            return tap

        mailbox.attach = attached
        with operating(instance) as url:
            return main(["tail", *words, "--admin", url])

    return run


def test_a_request_is_a_line(tail, capsys):
    assert tail(reported=[RECORD]) == 1  # the gateway has ended
    out, err = capsys.readouterr()
    assert out == (
        "09:00:07.000  503  GET    /orders/7  orders  12.3 ms (own 0.1 ms)  → http://a:9001 x2  by ada  circuit_open\n"
    )
    assert "has ended" in err
    assert len(err.splitlines()) == 1


def test_the_gateway_picks_the_lines(tail, capsys):
    tail("--status", "5xx", "--consumer", "ada", "--path", "/ord", reported=[RECORD, record(8), record(9, 200)])
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_as_json_lines_are_printed_as_they_came(tail, capsys):
    tail("--json", reported=[RECORD, RECORD])
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [RECORD, RECORD]


def test_it_can_begin_with_what_went_wrong_before(tail, instance, capsys):
    instance.mailbox.hear(batch(*((ERROR, record(number)) for number in range(5))))
    tail("-n", "2", reported=[record(9)])
    assert [line[:12] for line in capsys.readouterr().out.splitlines()] == [
        "09:00:03.000", "09:00:04.000", "09:00:09.000",
    ]  # fmt: skip


def test_nothing_that_clients_wrote_reaches_the_terminal_as_it_is(tail, capsys):
    evil = "\x1b]0;owned\x07\n200 OK\r\x9b31m\u2028"
    tail(reported=[{**RECORD, "path": evil, "consumer": evil, "method": evil, "target": evil, "reason": evil}])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()


@pytest.mark.parametrize("no_colour", ["", "1"])
def test_colours_are_for_terminals_that_want_them(tail, capsys, monkeypatch, no_colour):
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    tail(reported=[RECORD])
    assert ("\x1b[31m503\x1b[0m" in capsys.readouterr().out) is not bool(no_colour)


@pytest.mark.parametrize("words", [["--status", "abc"], ["--min-ms", "x"], ["-n", "201"], ["--path", "\x1b"]])
def test_a_wrong_filter_is_said_before_anybody_is_asked(words, capsys):
    assert main(["tail", *words, "--admin", "http://127.0.0.1:1"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("gateway tail: ")
    assert words[0] in err


def test_without_a_gateway_it_says_so(capsys):
    assert main(["tail", "--admin", "http://127.0.0.1:1"]) == 1
    assert "nobody listens at" in capsys.readouterr().err


def test_a_missing_token_is_said(instance, capsys):
    instance.token = "s3cret"
    with operating(instance) as url:
        assert main(["tail", "--admin", url]) == 1
    assert "set GATEWAY_ADMIN_TOKEN" in capsys.readouterr().err
