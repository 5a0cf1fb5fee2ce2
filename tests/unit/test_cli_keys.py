import io
import json
import re
import subprocess
import sys
from hashlib import sha256

import pytest

from gateway.auth.ledger import Ledger
from gateway.auth.passwords import read
from gateway.cli.main import main
from tests.operated import CONFIGURED, NO_KEYS, Operated, operating, settings


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


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["new", "acme"],
        ["new", "--expires", "90d"],
        ["new", "--note", "ci"],
        ["new", "--admin", "http://127.0.0.1:9902"],
        ["rotate"],
        ["revoke"],
        ["revoke", "key_123456789ab"],
        ["revoke", "key_123456789abc "],
        ["revoke", "rev_123456789abc"],
        ["revoke", "../config"],
        ["revoke", "\x1b[2J\n"],
        ["rotate", "key_123456789abg"],
        ["rotate", "\udcff"],
        ["new", "--consumer", "\udcff"],
        ["new", "--consumer", "acme\n"],
        ["new", "--consumer", "acme", "--note", "\x1b[2J"],
        ["list", "acme"],
        ["hash-password", "--admin", "http://127.0.0.1:9902"],
    ],
)
def test_wrong_usage_is_one_line(argv, capsys):
    """Nobody is asked: the port is one where nobody listens, which would be another exit status."""
    assert main(["keys", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gateway")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()


def test_a_terminal_is_asked_twice(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answers = iter(["secret", "secret", "secret", "typo"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    assert main(["keys", "hash-password"]) == 0
    assert read(capsys.readouterr().out.strip()).matches(b"secret")
    assert main(["keys", "hash-password"]) == 2


# -- in the running gateway ----------------------------------------------------------------------------

ID = r"key_[0-9a-f]{12}"
KEY = r"gwk_[A-Za-z0-9_-]{43}"
HASH = r"sha256:[0-9a-f]{64}"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("GATEWAY_ADMIN_TOKEN", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def instance(tmp_path):
    return Operated(settings(tmp_path), Ledger(tmp_path / "records", None))


@pytest.fixture
def keys(instance):
    """`gateway keys` with these words, asked of the instance."""
    with operating(instance) as url:
        yield lambda *words: main(["keys", *words, "--admin", url])


def made(keys, capsys, *words):
    """A new key of acme, as JSON."""
    assert keys("new", "--consumer", "acme", "--json", *words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_a_key_made_in_the_gateway_is_known_there(keys, instance, capsys):
    assert keys("new", "--consumer", "acme", "--expires", "90d", "--note", "ci") == 0
    out, err = capsys.readouterr()
    found = re.fullmatch(rf"id    ({ID})\nkey   ({KEY})\nhash  ({HASH})\nends  {TIME}\n", out)
    assert found is not None, out
    assert found[3] == f"sha256:{sha256(found[2].encode()).hexdigest()}"
    (stored,) = instance.ledger.keys()
    assert (stored.id, stored.digest, stored.consumer, stored.note) == (found[1], found[3], "acme", "ci")
    assert stored.expires - stored.created == 90 * 86400
    assert err == (
        "kept in memory, gone when this gateway ends; to keep it, put its hash into auth.consumers.acme.keys"
        " or name a Redis in store.url\n"
    )


def test_where_a_key_is_kept_is_not_told_to_those_it_does_not_concern(keys, instance, capsys):
    instance.ledger.durable = True
    assert keys("new", "--consumer", "acme") == 0
    out, err = capsys.readouterr()
    assert out.endswith("ends  when it is revoked\n")
    assert err == ""


def test_the_list_is_a_table_without_keys(keys, capsys):
    key = made(keys, capsys, "--note", "billing [red]job")
    assert keys("list") == 0
    out, err = capsys.readouterr()
    header, configured, stored = out.splitlines()
    assert header.split() == ["ID", "CONSUMER", "HASH", "SOURCE", "CREATED", "EXPIRES", "NOTE"]
    assert configured.split() == ["-", "globex", CONFIGURED[:19] + "…", "config", "-", "-", "-"]
    assert stored.split()[:4] == [key["id"], "acme", key["hash"][:19] + "…", "store"]
    assert stored.rstrip().endswith("billing [red]job")
    assert key["key"] not in out
    assert err == ""


def test_the_list_as_json_is_the_gateways_answer(keys, capsys):
    key = made(keys, capsys)
    assert keys("list", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert [each["id"] for each in said["keys"]] == [None, key["id"]]
    assert said["durable"] is False


def test_an_empty_list_says_so(keys, instance, tmp_path, capsys):
    instance.settings = settings(tmp_path, "")
    assert keys("list") == 0
    assert capsys.readouterr() == ("no keys\n", "")


def test_a_key_is_rotated(keys, instance, capsys):
    old = made(keys, capsys)
    assert keys("rotate", old["id"], "--overlap", "1h") == 0
    out, _ = capsys.readouterr()
    assert re.fullmatch(
        rf"id    {ID}\nkey   {KEY}\nhash  {HASH}\nends  when it is revoked\n{old['id']} ends {TIME}\n", out
    )
    before, after = sorted(instance.ledger.keys(), key=lambda key: key.expires is None)
    assert before.id == old["id"]
    assert before.expires - after.created == 3600


def test_the_overlap_is_a_day_unless_told(keys, capsys):
    old = made(keys, capsys)
    assert keys("rotate", old["id"], "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["replaces"]["id"] == old["id"]
    assert said["key"] != old["key"]


def test_a_key_is_revoked_once(keys, instance, capsys):
    key = made(keys, capsys)
    assert keys("revoke", key["id"]) == 0
    assert capsys.readouterr() == (f"{key['id']} of acme is no longer valid\n", "")
    assert instance.ledger.keys() == []
    assert keys("revoke", key["id"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gateway keys: there is none with this id")
    assert err.count("\n") == 1


def test_a_revoked_key_as_json(keys, capsys):
    key = made(keys, capsys)
    assert keys("revoke", key["id"], "--json") == 0
    assert json.loads(capsys.readouterr().out)["revoked"]["id"] == key["id"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--consumer", "acne"], "consumer: there is no consumer 'acne' (did you mean 'acme'?)"),
        (["--consumer", ""], "consumer: is empty"),
        (["--consumer", "acme", "--expires", "90"], "expires: '90' is not a duration such as 50ms, 2s, 1.5m, 1h or 1d"),
        (["--consumer", "acme", "--note", "x" * 201], "note must be at most 200 printable characters"),
    ],
)
@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_what_the_gateway_refuses_is_wrong_usage(keys, instance, words, said, json_too, capsys):
    assert keys("new", *words, *json_too) == 2
    assert capsys.readouterr() == ("", f"gateway keys: {said}\n")
    assert instance.ledger.keys() == []


def test_what_is_not_possible_is_a_failure(keys, instance, tmp_path, capsys):
    instance.settings = settings(tmp_path, NO_KEYS)
    assert keys("new", "--consumer", "acme") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "no provider of type api_key" in err


def test_a_missing_token_is_named(keys, instance, monkeypatch, capsys):
    instance.token = "open-sesame"
    assert keys("list") == 1
    said = "gateway keys: The admin API needs its token: set GATEWAY_ADMIN_TOKEN\n"
    assert capsys.readouterr() == ("", said)
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", "open-sesame")
    assert keys("list") == 0


ODD = "evil\x1b[2J\x9b2J\r\u202e"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["list"], 200, {"keys": [{"id": ODD, "consumer": {"a": ODD}, "hash": 7, "note": ODD}]}),
        (["new", "--consumer", "a"], 201, {"id": ODD, "key": ODD, "hash": ODD, "consumer": ODD, "expires": ODD}),
        (
            ["rotate", "key_0123456789ab"],
            201,
            {"id": ODD, "key": ODD, "hash": ODD, "consumer": ODD, "expires": None, "replaces": {"expires": ODD}},
        ),
        (["revoke", "key_0123456789ab"], 200, {"revoked": {"id": ODD, "consumer": ODD}}),
        (["list"], 409, {"detail": ODD}),
        (["list"], 500, {"title": ODD}),
        (["list"], 500, {}),
    ],
)
def test_whatever_answers_gets_no_control_characters_onto_the_terminal(monkeypatch, words, status, said, capsys):
    monkeypatch.setattr("gateway.cli.credentials.call", lambda *_: (status, said))
    assert main(["keys", *words]) == (0 if status < 300 else 1)
    printed = "".join(capsys.readouterr())
    assert printed
    assert all(line.isprintable() for line in printed.split("\n"))


@pytest.mark.parametrize(
    "words", [["list"], ["new", "--consumer", "a"], ["rotate", "key_0123456789ab"], ["revoke", "key_0123456789ab"]]
)
@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, {}),
        (200, {"keys": 7, "revoked": 7, "id": 7}),
        (201, {"keys": [7], "revoked": {}, "id": "a"}),
        (404, {"code": "no_route"}),
    ],
)
def test_what_is_no_gateway_is_one_line(monkeypatch, words, status, said, capsys):
    monkeypatch.setattr("gateway.cli.credentials.call", lambda *_: (status, said))
    for more in ([], ["--json"]):
        assert main(["keys", *words, *more]) == 1
        line = "what listens at http://127.0.0.1:9901 knows nothing of keys: is it the gateway's admin listener?\n"
        assert capsys.readouterr() == ("", line)


def test_the_command_imports_nothing_heavy():
    code = "import sys; from gateway.cli.main import main; main(['keys', 'new']); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"aiohttp", "asyncio", "cryptography", "jwt", "pydantic", "redis", "rich", "yaml"}
    assert heavy.isdisjoint(run.stdout.split())
