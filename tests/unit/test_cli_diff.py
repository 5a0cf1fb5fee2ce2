import json
import os
import pty

import pytest

from gateway.cli.diff import text
from gateway.cli.main import main

OLD = """\
upstreams:
  api:
    targets: [http://127.0.0.1:9001]
    timeouts: {try: 3s}
  old:
    targets: [http://127.0.0.1:9002]
routes:
  - {name: all, match: {path: /**}, upstream: api}
"""
NEW = """\
rate_limits: {tiny: {by: ip, limit: 5/minute}}
upstreams:
  api:
    targets: [http://127.0.0.1:9001]
    timeouts: {try: 5s}
routes:
  - {name: all, match: {path: /**}, upstream: api}
  - {name: orders, match: {path: /orders/**, host: a.example, methods: [GET, POST]}, upstream: api}
"""
LINES = [
    "+ rate limit tiny: ip 5/60s",
    "~ upstreams.api.timeouts.try: 3s -> 5s",
    "- upstream old: http://127.0.0.1:9002",
    "+ route orders: GET POST a.example/orders/** -> api",
    "1 route added; 1 upstream removed, 1 changed; 1 rate limit added",
    "a reload takes over all of it",
]


@pytest.fixture
def diff(tmp_path, capsys):
    """Compares two texts: exit status, output, errors."""

    def compare(old, new, *options):
        (tmp_path / "old.yaml").write_text(old)
        (tmp_path / "new.yaml").write_text(new)
        status = main(["diff", "-c", str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml"), *options])
        return status, *capsys.readouterr()

    return compare


def test_what_would_change_is_one_line_each_and_a_summary(diff):
    assert diff(OLD, NEW) == (0, "".join(f"{line}\n" for line in LINES), "")


def test_nothing_differs(diff):
    assert diff(OLD, "# only a comment\n" + OLD) == (0, "no changes\n", "")
    assert diff(OLD, OLD.replace("timeouts: {try: 3s}", "timeouts: {}")) == (0, "no changes\n", "")


def test_what_needs_a_restart_is_said(diff):
    _, out, _ = diff(OLD, f"runtime_dir: .\n{OLD}")
    assert out.splitlines()[1:] == ["1 setting changed", "runtime_dir: only a restart changes this"]
    _, out, _ = diff(OLD, f"runtime_dir: .\nworkers: 2\nstore: {{url: memory}}\n{OLD}")
    assert out.splitlines()[-2:] == [
        "2 settings changed",
        "runtime_dir: only a restart changes this; a reload takes over the rest",
    ]


def test_another_secret_is_said_to_be_another(diff):
    provider = "auth: {providers: {p: {type: jwt, secret: %s, algorithms: [HS256]}}}\n"
    status, out, _ = diff(provider % ("s" * 32) + OLD, provider % ("t" * 32) + OLD)
    assert (status, out.splitlines()[0]) == (0, "~ auth.providers.p.secret: *** -> *** (another secret)")
    assert "sss" not in out
    assert "ttt" not in out


def test_the_same_relative_path_beside_either_file_is_no_change(tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "r.yaml").write_text(f"listen: {{http: 'unix:x.sock'}}\n{OLD}")
    assert main(["diff", "-c", str(tmp_path / "a/r.yaml"), str(tmp_path / "b/r.yaml")]) == 0
    assert capsys.readouterr().out == "no changes\n"


def test_as_json(diff):
    status, out, err = diff(OLD, NEW, "--json")
    assert (status, err) == (0, "")
    said = json.loads(out)
    assert set(said) == {"old", "new", "changes", "summary", "restart"}
    assert said["old"]["file"].endswith("old.yaml")
    assert len(said["new"]["hash"]) == 64
    assert {"kind": "changed", "path": "upstreams.api.timeouts.try", "old": "3s", "new": "5s"} in said["changes"]
    assert said["summary"] == {
        "routes": {"added": 1},
        "upstreams": {"removed": 1, "changed": 1},
        "rate_limits": {"added": 1},
    }
    assert said["restart"] == []


def test_complaints_about_both_files_come_at_once(diff):
    status, out, err = diff(OLD.replace("upstream: api", "upstream: apii"), NEW.replace("name: all", "nmae: all"))
    assert (status, out) == (2, "")
    assert any("old.yaml:8:" in line and "apii" in line for line in err.splitlines())
    assert any("new.yaml:7:" in line and "nmae" in line for line in err.splitlines())


def test_a_file_that_is_not_there(diff, tmp_path, capsys):
    (tmp_path / "old.yaml").write_text(OLD)
    assert main(["diff", "-c", str(tmp_path / "old.yaml"), str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err == f"{tmp_path}/none.yaml:1:1: cannot read the file: No such file or directory\n"


def test_every_kind_of_thing_that_comes_is_described(diff):
    more = (
        "auth: {providers: {p: {type: jwt, issuer: https://idp, secret: %s, algorithms: [HS256]}}}\n" % ("s" * 32)
    ) + OLD
    _, out, _ = diff(OLD, more)
    assert out.splitlines()[0] == "+ provider p: jwt https://idp"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("3s", "3s"),
        ("two words", "two words"),
        ("", '""'),
        (" x", '" x"'),
        ("true", '"true"'),
        ("5", '"5"'),
        (5, "5"),
        (True, "true"),
        (None, "null"),
        ("a\x1b[31m\u202e\nb", '"a\\u001b[31m\\u202e\\nb"'),
        ("Grüße", "Grüße"),
        (["GET", 5, {"a": [None]}], "[GET, 5, {a: [null]}]"),
    ],
)
def test_a_value_is_one_line_that_cannot_mislead(value, line):
    assert text(value) == line


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_appear_on_a_terminal_unless_they_are_unwanted(environ, coloured, diff, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    main_end, terminal = pty.openpty()
    try:
        with os.fdopen(terminal, "w") as screen, monkeypatch.context() as patched:
            patched.setattr("sys.stdout", screen)
            diff(OLD, NEW)
            screen.flush()
            out = os.read(main_end, 100_000).decode()
    finally:
        os.close(main_end)
    assert ("\x1b[" in out) is coloured
    assert "3s -> 5s" in out
