"""`gateway revoke` against the real admin application: what it asks for, what it prints, what it refuses to ask."""

import base64
import io
import json
import math
import re
import subprocess
import sys
import time

import pytest

from gateway.auth.ledger import Ledger
from gateway.cli.main import main
from gateway.cli.output import Failure
from gateway.cli.revoke import described, of_token
from tests.operated import NO_REVOCATION, Operated, operating, settings

NOW = 1_795_251_600.0  # 2026-11-21T09:00:00Z
DAY = 86400.0
ID = r"rev_[0-9a-f]{12}"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def segment(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token(**claims):
    """A token that nobody signed: revoking takes no signature."""
    return ".".join(segment(json.dumps(each).encode()) for each in ({"alg": "HS256"}, claims)) + "." + segment(b"x")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("GATEWAY_ADMIN_TOKEN", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def instance(tmp_path):
    return Operated(settings(tmp_path), Ledger(tmp_path / "records", None))


@pytest.fixture
def revoke(instance):
    """`gateway revoke` with these words, asked of the instance."""
    with operating(instance) as url:
        yield lambda *words: main(["revoke", *words, "--admin", url])


@pytest.fixture
def typed(monkeypatch):
    def typed(raw):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))

    return typed


def only(instance):
    (revocation,) = instance.ledger.revocations()
    return revocation


def lasts(revocation):
    return revocation.expires and revocation.expires - revocation.created


# -- revoking ------------------------------------------------------------------------------------------


def test_a_token_by_its_id(revoke, instance, capsys):
    assert revoke("--jti", "7f3a") == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"{ID} refuses token 7f3a, until {TIME}\n", out), out
    assert err == "kept in memory, gone when this gateway ends; to keep it, name a Redis in store.url\n"
    made = only(instance)
    assert (made.jti, made.consumer, made.provider, made.issued_before) == ("7f3a", "", "", None)
    assert lasts(made) == 30 * DAY


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--consumer", "acme"], "every credential of acme, until it is lifted"),
        (["--consumer", "acme", "--for", "1h"], rf"every credential of acme, until {TIME}"),
        (["--consumer", "acme", "--provider", "idp"], "every credential of acme, by provider idp, until it is lifted"),
        (["--issued-before", str(NOW)], "tokens issued before 2026-11-21T09:00:00Z, until it is lifted"),
        (
            ["--consumer", "acme", "--issued-before", "2026-11-21T10:00:00+01:00", "--provider", "idp", "--for", "30d"],
            rf"tokens of acme issued before 2026-11-21T09:00:00Z, by provider idp, until {TIME}",
        ),
        (["--jti", "7f3a", "--for", "none"], "token 7f3a, until it is lifted"),
    ],
)
def test_what_is_refused_is_told_in_words(revoke, instance, words, said, capsys):
    instance.ledger.durable = True
    assert revoke(*words) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"{ID} refuses {said}\n", out), out
    assert err == ""


@pytest.mark.parametrize(
    ("name", "doubt"),
    [
        ("acmee", "it is revoked, but no consumer 'acmee' is configured (did you mean 'acme'?)\n"),
        ("acme", ""),
        ("auth0|5f7c8ec7c33c6c004bbafe82", ""),  # whom tokens name need not be configured
    ],
)
def test_a_name_that_is_nearly_a_consumers_is_revoked_with_a_hint(revoke, instance, name, doubt, capsys):
    instance.ledger.durable = True
    assert revoke("--consumer", name) == 0
    assert capsys.readouterr().err == doubt
    assert only(instance).consumer == name


def test_a_consumer_from_before_now(revoke, instance, capsys):
    before = time.time()
    assert revoke("--consumer", "acme", "--issued-before", "now", "--json") == 0
    out, err = capsys.readouterr()
    made = only(instance)
    assert math.ceil(before) <= made.issued_before <= math.ceil(time.time())
    assert (json.loads(out)["id"], err) == (made.id, "")


# -- by a token ----------------------------------------------------------------------------------------


def test_a_token_itself_is_refused_for_the_rest_of_its_life_and_a_minute(revoke, instance, capsys):
    ends = time.time() + 3600
    assert revoke("--token", token(jti="7f3a", exp=ends, sub="ada")) == 0
    made = only(instance)
    assert (made.jti, made.consumer, made.provider) == ("7f3a", "", "")
    assert ends + 60 <= made.expires <= ends + 62
    assert "token 7f3a, until" in capsys.readouterr().out


def test_a_token_from_standard_input(revoke, instance, typed):
    typed(b" " + token(jti="7f3a").encode() + b"\r\n")
    assert revoke("--token", "-", "--for", "1h") == 0
    assert (only(instance).jti, lasts(only(instance))) == ("7f3a", 3600)


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": NOW + 0.5}, "61s"),
        ({"exp": int(NOW) - 59}, "1s"),
        ({"exp": NOW + 3650 * DAY}, "none"),
        ({"exp": 1e300}, "none"),
        ({}, "none"),
    ],
)
def test_how_long_a_token_has_to_be_refused(claims, expected):
    """As long as anybody could accept it: a token that says no end never ends."""
    assert of_token(token(jti="a", **claims), NOW) == ("a", expected)


def test_there_is_nothing_to_revoke_in_a_token_that_has_ended():
    with pytest.raises(Failure, match="has ended") as failure:
        of_token(token(jti="a", exp=NOW - 60), NOW)
    assert failure.value.status == 1


@pytest.mark.parametrize(
    "given",
    [
        "",
        "-.-.-",
        "7f3a",
        "a.b.c.d.e",
        "Bearer " + token(jti="a"),
        "\udcff",
        "é.é.é",
        token(sub="ada"),
        token(jti=""),
        token(jti=7),
        token(jti=["a"]),
        token(jti="a", exp="soon"),
        token(jti="a", exp=True),
        token(jti="a\n"),
        segment(b'{"alg":"HS256"}') + "." + segment(b'{"jti":"a","jti":"b"}') + "." + segment(b"x"),
        segment(b'{"alg":"HS256"}') + "." + segment(b'{"jti":"a","exp":NaN}') + "." + segment(b"x"),
        segment(b'{"alg":"HS256"}') + "." + segment(b"[" * 3000) + "." + segment(b"x"),
    ],
)
def test_what_is_no_token_is_one_line_that_does_not_quote_it(given, capsys):
    assert main(["revoke", f"--token={given}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gateway revoke: ")
    assert err.count("\n") == 1
    assert not given or given not in err


@pytest.mark.parametrize("raw", [b"", b"\n", b"\xff\xfe", b"a" * 100_000, b"a\nb"])
def test_what_is_no_token_on_standard_input(typed, raw, capsys):
    typed(raw)
    assert main(["revoke", "--token", "-"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# -- list and lift -------------------------------------------------------------------------------------


def test_the_list_is_a_table(revoke, capsys):
    assert revoke("--list") == 0
    assert capsys.readouterr() == ("nothing is revoked\n", "")
    assert revoke("--jti", "7f3a", "--provider", "idp") == 0
    assert revoke("--consumer", "acme", "--issued-before", str(int(NOW))) == 0
    capsys.readouterr()
    assert revoke("--list") == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", header.strip()) == [
        "ID",
        "TOKEN",
        "CONSUMER",
        "PROVIDER",
        "ISSUED BEFORE",
        "CREATED",
        "UNTIL",
    ]
    assert sorted(row.split()[1:5] for row in rows) == [
        ["-", "acme", "-", "2026-11-21T09:00:00Z"],
        ["7f3a", "-", "idp", "-"],
    ]


def test_the_list_as_json(revoke, capsys):
    assert revoke("--jti", "7f3a", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert revoke("--list", "--json") == 0
    durable = made.pop("durable")
    assert json.loads(capsys.readouterr().out) == {"revocations": [made], "durable": durable, "in_force": True}


def test_a_list_that_nobody_looks_at_says_so(revoke, instance, tmp_path, capsys):
    assert revoke("--jti", "7f3a") == 0
    instance.settings = settings(tmp_path, NO_REVOCATION)
    capsys.readouterr()
    assert revoke("--list") == 0
    out, err = capsys.readouterr()
    assert "7f3a" in out
    assert err == "auth.revocation is off in the configuration: nothing of this is in force\n"
    assert revoke("--list", "--json") == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["in_force"], err) == (False, "")


def test_a_revocation_is_lifted_once(revoke, instance, capsys):
    assert revoke("--consumer", "acme", "--json") == 0
    id = json.loads(capsys.readouterr().out)["id"]  # noqa: A001 - its name everywhere
    assert revoke("--lift", id) == 0
    said = f"{id} is lifted: it refused every credential of acme, until it is lifted\n"
    assert capsys.readouterr() == (said, "")
    assert instance.ledger.revocations() == []
    assert revoke("--lift", id) == 1
    assert capsys.readouterr().err.startswith("gateway revoke: there is none with this id")


def test_lifting_as_json(revoke, capsys):
    assert revoke("--jti", "7f3a", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert revoke("--lift", made["id"], "--json") == 0
    assert json.loads(capsys.readouterr().out)["lifted"]["jti"] == "7f3a"


# -- what goes wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["acme"],
        ["--provider", "idp"],
        ["--for", "1d"],
        ["--jti", "a", "--consumer", "b"],
        ["--jti", "a", "--token", "b"],
        ["--jti", "a", "--issued-before", "now"],
        ["--token", "a.b.c", "--issued-before", "now"],
        ["--list", "--jti", "a"],
        ["--list", "--lift", "rev_0123456789ab"],
        ["--list", "--for", "1d"],
        ["--list", "--provider", "idp"],
        ["--list", "--issued-before", "now"],
        ["--lift", "rev_0123456789ab", "--for", "1d"],
        ["--lift", "key_0123456789ab"],
        ["--lift", ""],
        ["--lift", "../config"],
        ["--lift", "rev_0123456789ab\n"],
        ["--issued-before", "yesterday"],
        ["--issued-before", ""],
        ["--issued-before", "2026-11-21"],
        ["--issued-before", "\x1b[2J"],
        ["--jti", "\udcff"],
        ["--jti", "a\x00"],
        ["--consumer", "acme\n"],
        ["--jti", "a", "--provider", "\x1b"],
        ["--jti", "a", "--for", "\x1b"],
    ],
)
def test_wrong_usage_is_one_line(argv, capsys):
    """Nobody is asked: where nobody listens that would be another exit status."""
    assert main(["revoke", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gateway")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jti", ""], "jti: is empty"),
        (["--jti", "a", "--for", "soon"], "for: 'soon' is not a duration such as 50ms, 2s, 1.5m, 1h or 1d, or none"),
        (["--jti", "a", "--provider", "ipd"], "provider: there is no provider 'ipd' (did you mean 'idp'?)"),
        (["--jti", "a" * 257], "jti must be at most 256 printable characters"),
    ],
)
def test_what_the_gateway_refuses_is_wrong_usage(revoke, instance, words, said, capsys):
    assert revoke(*words) == 2
    assert capsys.readouterr() == ("", f"gateway revoke: {said}\n")
    assert instance.ledger.revocations() == []


def test_where_nobody_would_look_at_it_nothing_is_revoked(revoke, instance, tmp_path, capsys):
    instance.settings = settings(tmp_path, NO_REVOCATION)
    assert revoke("--jti", "a") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "auth.revocation is off" in err
    assert err.count("\n") == 1


ODD = "evil\x1b[2J\x9b2J\r\u202e"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--list"], {"revocations": [{"id": ODD, "jti": [ODD], "consumer": 7}]}),
        (
            ["--jti", "a"],
            {"id": ODD, "jti": ODD, "consumer": ODD, "provider": ODD, "issued_before": ODD, "expires": ODD},
        ),
        (["--lift", "rev_0123456789ab"], {"lifted": {"id": ODD, "consumer": ODD}}),
    ],
)
def test_whatever_answers_gets_no_control_characters_onto_the_terminal(monkeypatch, words, said, capsys):
    monkeypatch.setattr("gateway.cli.credentials.call", lambda *_: (200, said))
    assert main(["revoke", *words]) == 0
    printed = "".join(capsys.readouterr())
    assert all(line.isprintable() for line in printed.split("\n"))


@pytest.mark.parametrize("words", [["--list"], ["--jti", "a"], ["--lift", "rev_0123456789ab"]])
@pytest.mark.parametrize(
    ("status", "said"),
    [(200, {}), (200, {"revocations": {}, "lifted": 7, "id": 7}), (201, {"lifted": {}}), (404, {"code": "no_route"})],
)
def test_what_is_no_gateway_is_one_line(monkeypatch, words, status, said, capsys):
    monkeypatch.setattr("gateway.cli.credentials.call", lambda *_: (status, said))
    for more in ([], ["--json"]):
        assert main(["revoke", *words, *more]) == 1
        line = "what listens at http://127.0.0.1:9901 knows nothing of revoke: is it the gateway's admin listener?\n"
        assert capsys.readouterr() == ("", line)


def test_nothing_is_said_of_what_is_not_known():
    assert described({}) == "every credential, until it is lifted"


def test_the_command_imports_nothing_heavy():
    code = "import sys; from gateway.cli.main import main; main(['revoke', '--help']); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"aiohttp", "asyncio", "cryptography", "jwt", "pydantic", "redis", "rich", "yaml"}
    assert heavy.isdisjoint(run.stdout.split())
