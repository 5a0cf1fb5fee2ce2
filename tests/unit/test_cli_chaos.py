"""`gateway chaos` against the real admin application: what it begins, shows and ends, and what it refuses to ask."""

import json
import re

import pytest

from gateway.auth.ledger import Ledger
from gateway.cli.main import main
from gateway.process.notices import NoticeBoard
from tests.configs import UPSTREAM, loaded
from tests.fakes import Clock
from tests.operated import Operated, operating

NOW = 1_795_251_600.0  # 2026-11-21T09:00:00Z
ROUTES = "routes:\n" + "".join(f"  - {{name: {name}, match: {{path: /{name}}}, upstream: u}}\n" for name in ("r", "s"))
ORDER = ("r", "--status", "503", "--share", "10%", "--delay", "200ms", "--for", "5m")
ID = r"flt_[0-9a-f]{12}"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("GATEWAY_ADMIN_TOKEN", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def instance(tmp_path):
    made = Operated(loaded(tmp_path, UPSTREAM + ROUTES), Ledger(tmp_path / "records", None), tmp_path / "notices")
    made.board = NoticeBoard(made.notices, clock=Clock(NOW))
    return made


@pytest.fixture
def chaos(instance):
    """`gateway chaos` with these words, asked of the instance."""
    with operating(instance) as url:
        yield lambda *words: main(["chaos", *words, "--admin", url])


def lines(capsys):
    out, err = capsys.readouterr()
    assert err == ""
    return [" ".join(line.split()) for line in out.splitlines()]


def ids(instance):
    return [each.id for each in instance.board.current.faults]


def test_a_rehearsal_begins_and_is_shown(chaos, instance, capsys):
    assert chaos("start", *ORDER) == 0
    started = lines(capsys)
    assert started[0] == "ID ROUTE SHARE STATUS DELAY UNTIL LEFT"
    assert re.fullmatch(rf"{ID} r 10% 503 200ms 2026-11-21T09:05:00Z 300s", started[1])
    (fault,) = instance.board.current.faults
    assert (fault.route, fault.share, fault.status, fault.delay, fault.until) == ("r", 0.1, 503, 0.2, NOW + 300)
    assert chaos("start", "s", "--delay", "1s", "--share", "100%", "--for", "1h") == 0
    capsys.readouterr()
    assert chaos("list") == 0
    listed = lines(capsys)
    assert listed[:2] == started
    assert listed[2].split()[1:] == ["s", "100%", "-", "1s", "2026-11-21T10:00:00Z", "3600s"]


def test_as_json_the_answer_is_printed_as_it_came(chaos, instance, capsys):
    assert chaos("start", *ORDER, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["id"] == ids(instance)[0]
    assert (made["status"], made["left"]) == (503, 300)
    assert chaos("list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"faults": [made]}
    assert chaos("stop", made["id"], "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"stopped": [made]}


def test_one_is_stopped_by_its_id(chaos, instance, capsys):
    chaos("start", *ORDER)
    chaos("start", "s", *ORDER[1:])
    first, second = ids(instance)
    capsys.readouterr()
    assert chaos("stop", first) == 0
    assert lines(capsys) == [f"{first} is over"]
    assert ids(instance) == [second]
    assert chaos("stop", first) == 1
    assert capsys.readouterr().err == f"gateway chaos: there is no rehearsal '{first}'\n"


def test_all_are_stopped_at_once(chaos, instance, capsys):
    chaos("start", *ORDER)
    chaos("start", "s", *ORDER[1:])
    first, second = ids(instance)
    capsys.readouterr()
    assert chaos("stop", "--all") == 0
    assert lines(capsys) == [f"{first}, {second} are over"]
    assert ids(instance) == []
    assert chaos("stop", "--all") == 0
    assert lines(capsys) == ["no rehearsal was under way"]


def test_where_there_is_none_it_says_so(chaos, capsys):
    assert chaos("list") == 0
    assert lines(capsys) == ["no rehearsal is under way"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["start", "r", "--share", "10%", "--for", "5m"], "start needs --status, --delay or both"),
        (["start", "rr", *ORDER[1:]], "route: there is no route 'rr'"),
        (["start", *ORDER, "--share", "0%"], "share: must be more than 0%"),
        (["start", *ORDER, "--status", "200"], "status: must be an error status"),
        (["start", *ORDER, "--status", "five"], "status: must be a whole number"),
        (["start", *ORDER, "--delay", "1"], "delay: '1' is not a duration"),
        (["start", *ORDER, "--for", "2h"], "for: is longer than an hour"),
        (["start", "r\x1b", *ORDER[1:]], "route has characters that cannot be printed"),
        (["stop", "flt_1"], "'flt_1' is no id: flt_ and 12 digits, as in the list"),
        (["stop", "key_000000000000"], "'key_000000000000' is no id"),
    ],
)
def test_what_is_wrong_is_one_line(chaos, instance, words, said, capsys):
    assert chaos(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"gateway chaos: {said}")
    assert err.count("\n") == 1
    assert not instance.notices.exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["start"],
        ["start", "r", "--status", "503", "--share", "10%"],
        ["start", "r", "--status", "503", "--for", "5m"],
        ["stop"],
        ["stop", "flt_000000000000", "--all"],
        ["begin"],
    ],
)
def test_what_is_missing_is_one_line(words, capsys):
    assert main(["chaos", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


ODD = "evil\x1b[2J\x9b2J\r\u202e"
FAULT = {"id": ODD, "route": ODD, "share": [ODD], "left": ODD}


@pytest.mark.parametrize("words", [["list"], ["start", *ORDER], ["stop", "--all"]])
def test_whatever_answers_gets_no_control_characters_onto_the_terminal(monkeypatch, words, capsys):
    said = {**FAULT, "faults": [FAULT], "stopped": [FAULT]}
    monkeypatch.setattr("gateway.cli.credentials.call", lambda *_: (200, said))
    assert main(["chaos", *words]) == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))


@pytest.mark.parametrize("words", [["list"], ["start", *ORDER], ["stop", "--all"]])
@pytest.mark.parametrize(
    ("status", "said"),
    [(200, {}), (200, {"id": 7, "faults": {}, "stopped": [7]}), (404, {"code": "no_route"})],
)
def test_what_is_no_gateway_is_one_line(monkeypatch, words, status, said, capsys):
    monkeypatch.setattr("gateway.cli.credentials.call", lambda *_: (status, said))
    assert main(["chaos", *words]) == 1
    line = "what listens at http://127.0.0.1:9901 knows nothing of chaos: is it the gateway's admin listener?\n"
    assert capsys.readouterr() == ("", line)
