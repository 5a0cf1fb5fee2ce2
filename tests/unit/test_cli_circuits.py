"""`gateway circuits` against the real admin application: what it prints, what it asks for, what it refuses to ask."""

import json
import subprocess
import sys

import pytest

from gateway.auth.ledger import Ledger
from gateway.cli.main import main
from tests.configs import loaded
from tests.operated import Operated, operating

NOW = 1_795_251_600.0  # 2026-11-21T09:00:00Z
A, B = "http://127.0.0.1:9001", "http://127.0.0.1:9002"
SETTINGS = f"""\
upstreams:
  orders: {{targets: ['{A}', '{B}']}}
  team/shared: {{targets: ['{A}'], breaker: {{per: upstream}}}}
  bare: {{targets: ['{A}'], breaker: off}}
routes: []
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("GATEWAY_ADMIN_TOKEN", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def instance(tmp_path):
    return Operated(loaded(tmp_path, SETTINGS), Ledger(tmp_path / "records", None), tmp_path / "notices")


@pytest.fixture
def circuits(instance):
    """`gateway circuits` with these words, asked of the instance."""
    with operating(instance) as url:
        yield lambda *words: main(["circuits", *words, "--admin", url])


def lines(capsys):
    out, err = capsys.readouterr()
    assert err == ""
    return [" ".join(line.split()) for line in out.splitlines()]


@pytest.mark.parametrize("words", [[], ["list"]])
def test_the_list_is_a_table(circuits, instance, words, capsys):
    instance.said["gateway_breaker_state"] = {("orders", A): 0.0, ("orders", B): 2.0}
    instance.board.post(held_open=frozenset({("orders", B)}))
    assert circuits(*words) == 0
    assert lines(capsys) == [
        "UPSTREAM TARGET STATE HELD",
        f"orders {A} closed -",
        f"orders {B} open open",
        "team/shared - - -",
    ]


def test_the_latest_changes_stand_below(circuits, instance, capsys):
    instance.transitions.note({}, NOW)
    for number in range(1, 13):
        instance.transitions.note({("orders", A, "open"): 2.0 * number}, NOW + number)
    assert circuits() == 0
    found = lines(capsys)
    assert found[4:7] == ["", "latest changes", "AT UPSTREAM TARGET TO WORKERS"]
    assert found[7] == f"2026-11-21T09:00:12Z orders {A} open 2"
    assert len(found) == 7 + 10


def test_as_json_the_answer_is_printed_as_it_came(circuits, instance, capsys):
    assert circuits("list", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert [each["target"] for each in said["circuits"]] == [A, B, None]
    assert said["events"] == []
    assert circuits("open", "orders", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"upstream": "orders", "target": None, "held": True}


def test_where_there_are_none_it_says_so(circuits, instance, tmp_path, capsys):
    instance.settings = loaded(tmp_path, "routes: []")
    assert circuits() == 0
    assert lines(capsys) == ["no circuits: every breaker is off, or there are no upstreams"]


def test_opening_says_how_to_close(circuits, instance, capsys):
    assert circuits("open", "orders", "--target", B) == 0
    close = f"gateway circuits close orders --target {B}"
    assert lines(capsys) == [f"circuit of orders {B} is held open, until `{close}`"]
    assert instance.board.current.held_open == {("orders", B)}
    assert circuits("close", "orders", "--target", B) == 0
    assert lines(capsys) == [f"circuit of orders {B} is closed, and judges for itself again"]
    assert instance.board.current.held_open == frozenset()


def test_all_circuits_of_an_upstream(circuits, instance, capsys):
    assert circuits("open", "team/shared") == 0
    assert lines(capsys) == ["circuits of team/shared are held open, until `gateway circuits close team/shared`"]
    assert instance.board.current.held_open == {("team/shared", "")}
    assert circuits("close", "team/shared") == 0
    assert lines(capsys) == ["circuits of team/shared are closed, and judge for themselves again"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["open"], 2, "open needs the name of an UPSTREAM"),
        (["close", "--target", A], 2, "close needs the name of an UPSTREAM"),
        (["open", ""], 2, "open needs the name of an UPSTREAM"),
        (["list", "orders"], 2, "UPSTREAM and --target are for open and close"),
        (["--target", A], 2, "UPSTREAM and --target are for open and close"),
        (["open", "order"], 1, "there is no upstream 'order' (did you mean 'orders'?)"),
        (["open", "../../x?y\x1b"], 1, r"there is no upstream '../../x?y\x1b'"),
        (["open", "\udcff"], 1, "there is no upstream"),
        (["open", "orders", "--target", "http://x"], 1, "upstream orders has no target 'http://x'"),
        (["open", "orders", "--target", ""], 2, "target: is empty"),
        (["open", "orders", "--target", "a\x1bb"], 2, "target has characters that cannot be printed"),
        (["close", "bare"], 1, "upstream bare has no circuits: its breaker is off"),
    ],
)
def test_what_cannot_be_done_is_one_line(circuits, instance, words, status, said, capsys):
    assert circuits(*words) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"gateway circuits: {said}")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
    assert not instance.notices.exists()


def test_another_action_is_wrong_usage(capsys):
    assert main(["circuits", "trip", "orders"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


ODD = "evil\x1b[2J\x9b2J\r\u202e"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], {"circuits": [{"upstream": ODD, "target": [ODD], "state": 7}], "events": [{"at": ODD, "times": ODD}]}),
        (["open", "a"], {"upstream": ODD, "target": ODD, "held": True}),
    ],
)
def test_whatever_answers_gets_no_control_characters_onto_the_terminal(monkeypatch, words, said, capsys):
    monkeypatch.setattr("gateway.cli.credentials.call", lambda *_: (200, said))
    assert main(["circuits", *words]) == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))


@pytest.mark.parametrize("words", [[], ["open", "a"]])
@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, {}),
        (200, {"circuits": [], "events": {}, "upstream": "a", "target": 7, "held": True}),
        (200, {"circuits": [7], "events": [], "upstream": "a", "target": None}),
        (404, {"code": "no_route"}),
    ],
)
def test_what_is_no_gateway_is_one_line(monkeypatch, words, status, said, capsys):
    monkeypatch.setattr("gateway.cli.credentials.call", lambda *_: (status, said))
    assert main(["circuits", *words]) == 1
    line = "what listens at http://127.0.0.1:9901 knows nothing of circuits: is it the gateway's admin listener?\n"
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("command", ["circuits", "chaos"])
def test_the_command_imports_nothing_heavy(command):
    code = f"import sys; from gateway.cli.main import main; main(['{command}', '--help']); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"aiohttp", "asyncio", "cryptography", "jwt", "pydantic", "redis", "rich", "yaml"}
    assert heavy.isdisjoint(run.stdout.split())
