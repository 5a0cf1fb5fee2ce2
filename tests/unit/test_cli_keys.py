import io
import json
import re
from hashlib import sha256

import pytest

from gateway.auth.passwords import read
from gateway.cli.main import main


@pytest.fixture
def typed(monkeypatch):
    def typed(raw):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))

    return typed


def test_a_new_key_and_its_hash(capsys):
    made = []
    for _ in range(2):
        assert main(["keys", "new"]) == 0
        found = re.fullmatch(r"key   (gwk_[A-Za-z0-9_-]{43})\nhash  sha256:([0-9a-f]{64})\n", capsys.readouterr().out)
        assert found is not None
        assert sha256(found[1].encode()).hexdigest() == found[2]
        made.append(found[1])
    assert made[0] != made[1]


def test_a_new_key_as_json(capsys):
    assert main(["keys", "new", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["hash"] == f"sha256:{sha256(said['key'].encode()).hexdigest()}"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_hash_of_a_password(typed, capsys, end):
    typed("grüße: 1".encode() + end)
    assert main(["keys", "hash-password"]) == 0
    out, err = capsys.readouterr()
    assert read(out.strip()).matches("grüße: 1".encode())
    assert err == ""


def test_two_hashes_of_one_password_differ(typed, capsys):
    hashes = set()
    for _ in range(2):
        typed(b"secret")
        assert main(["keys", "hash-password", "--json"]) == 0
        hashes.add(json.loads(capsys.readouterr().out)["hash"])
    assert len(hashes) == 2


@pytest.mark.parametrize("raw", [b"", b"\n", b"a\nb\n", b"a\x00b", b"\xff", b"x" * 1025])
def test_what_is_no_password_is_one_line_that_does_not_quote_it(typed, capsys, raw):
    typed(raw)
    assert main(["keys", "hash-password"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gateway keys: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("argv", [["keys"], ["keys", "list"], ["keys", "new", "acme"]])
def test_wrong_usage_is_one_line(argv, capsys):
    assert main(argv) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_terminal_is_asked_twice(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answers = iter(["secret", "secret", "secret", "typo"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    assert main(["keys", "hash-password"]) == 0
    assert read(capsys.readouterr().out.strip()).matches(b"secret")
    assert main(["keys", "hash-password"]) == 2
