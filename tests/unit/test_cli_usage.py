"""`gateway usage` against a real admin application, whose store has what the test says."""

import json
import time
from contextlib import contextmanager

import pytest

from gateway.auth.ledger import Ledger
from gateway.cli import usage as command
from gateway.cli.main import main
from gateway.telemetry.usage import HOURS_KEPT, UsageStoreError
from tests.configs import ROUTE, UPSTREAM, loaded
from tests.operated import Operated, operating

MILLION = 1_000_000


class Store:
    """Has the same in every stretch of time, once."""

    def __init__(self):
        self.counts = []
        self.asked = []
        self.away = False

    def kept(self, unit):
        return HOURS_KEPT if unit.name == "hours" else 35 * 86400.0

    async def read(self, unit, first, end):
        self.asked.append((unit.name, first, end))
        if self.away:
            raise UsageStoreError("ConnectionError: \x1b[2J")
        yield self.counts


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.delenv("GATEWAY_ADMIN_TOKEN", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def instance(tmp_path, store):
    made = Operated(loaded(tmp_path, "store: {url: embedded}\n" + UPSTREAM + ROUTE), Ledger(tmp_path / "records", None))
    made.usage = store
    return made


@pytest.fixture
def usage(instance):
    """`gateway usage` with these words, asked of the instance."""
    with operating(instance) as url:
        yield lambda *words: main(["usage", *words, "--admin", url])


@contextmanager
def complaining(capsys, start="gateway usage: "):
    """One line on standard error, and nothing else."""
    yield
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(start)
    assert err.count("\n") == 1
    assert err[:-1].isprintable()


def lines(capsys):
    out, err = capsys.readouterr()
    assert err == ""
    return [" ".join(line.split()) for line in out.splitlines()]


def test_a_table_for_people(usage, store, capsys):
    store.counts = [
        (("idp", "user-17", "orders", ""), (1_234_567, 1234, 0, 1_234_567 * 12_340)),
        (("acme", "acme", "orders", ""), (20_000, 0, 1, MILLION)),
        (("", "", "", ""), (100, 0, 50, 0)),
        (("", "other", "orders", ""), (99, 0, 0, 0)),
        (("idp", "", "orders", ""), (98, 0, 0, 0)),
    ]
    assert usage() == 0
    *table, last = lines(capsys)
    assert table == [
        "CONSUMER ROUTE CALLS ERRORS REFUSED AVERAGE",
        "user-17 (idp) orders 1,234,567 1,234 0.10% 0 0.00% 12.3 ms",
        "acme orders 20,000 0 0.00% 1 <0.01% 0.1 ms",
        "(anonymous) (no route) 100 0 0.00% 50 50.00% 0.0 ms",
        "(other) orders 99 0 0.00% 0 0.00% 0.0 ms",
        "(no subject) (idp) orders 98 0 0.00% 0 0.00% 0.0 ms",
        "all 5 1,254,864 1,234 0.10% 51 <0.01% 12.1 ms",
    ]
    assert last.startswith("from 20")
    assert last.endswith(", in whole hours")


@pytest.mark.parametrize(("by", "titles"), [("route", "ROUTE"), ("consumer", "CONSUMER"), ("both", "CONSUMER ROUTE")])
def test_a_line_for_each_caller_or_route_or_both(usage, store, capsys, by, titles):
    store.counts = [(("idp", "user-17", "orders", ""), (7, 0, 0, 0))]
    assert usage("--by", by) == 0
    header, row, _ = lines(capsys)
    assert header == f"{titles} CALLS ERRORS REFUSED AVERAGE"
    assert ("orders" in row, "user-17" in row) == ("ROUTE" in titles, "CONSUMER" in titles)


def test_the_busiest_only(usage, store, capsys):
    store.counts = [(("idp", f"u{i}", "orders", ""), (1000 + i, 0, 0, 0)) for i in range(1500)]
    assert usage("--top", "2") == 0
    _, first, second, total, _ = lines(capsys)
    assert first.startswith("u1499 (idp) orders 2,499")
    assert second.startswith("u1498 (idp) orders 2,498")
    assert total.startswith("all 1,500, of which 2 are shown 2,624,250")
    assert usage() == 0
    assert len(lines(capsys)) == 1 + 20 + 2


def test_only_some(usage, store, capsys):
    store.counts = [(("idp", name, "orders", ""), (1, 0, 0, 0)) for name in ("anna & bob", "carl")]
    assert usage("--consumer", "anna & bob", "--route", "orders") == 0
    assert "anna & bob (idp)" in lines(capsys)[1]
    assert usage("--consumer", "") == 0
    assert lines(capsys)[0].startswith("no calls of consumer '' from ")


def test_json_is_what_the_gateway_says(usage, store, capsys):
    store.counts = [(("idp", "jürgen", "orders", ""), (1, 0, 0, 0))]
    assert usage("--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["rows"][0]["consumer"] == "jürgen"
    assert said["total"]["calls"] == 1
    assert usage("--json", "--consumer", "x") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == []


def test_nothing_is_said_with_a_reason(usage, instance, capsys, tmp_path):
    assert usage() == 0
    first, *reasons = lines(capsys)
    assert first.startswith("no calls from 20")
    assert len(reasons) == 2
    assert "`usage`" in reasons[0]
    assert "embedded" in reasons[1]
    instance.settings = loaded(tmp_path, "store: {url: 'redis://127.0.0.1'}\n" + UPSTREAM + ROUTE)
    assert usage("--route", "ordres") == 0
    first, *reasons = lines(capsys)
    assert first.startswith("no calls of route 'ordres' from ")
    assert reasons == ["names are compared as a whole, as `gateway usage` without them shows them"]


def test_the_last_hours_or_days(usage, store, capsys):
    for last, unit, seconds, before in (("3h", "hours", 3600, 3), ("7d", "days", 86400, 7)):
        store.asked.clear()
        began = int(time.time() // seconds)
        assert usage("--last", last) == 0
        (asked,) = store.asked
        assert asked in [(unit, now - before, now + 1) for now in (began, began + 1)]
    capsys.readouterr()


def test_from_one_day_to_another(usage, store, capsys):
    days = [time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400 * ago)) for ago in (10, 5)]
    assert usage("--from", days[0], "--to", days[1]) == 0
    ((unit, first, end),) = store.asked
    assert (unit, end - first) == ("days", 6)
    assert lines(capsys)[0].startswith(f"no calls from {days[0]}T00:00:00Z to ")


VERSIONS = """\
routes:
  - name: orders
    match: {path: /orders/**}
    versions:
      available:
        v1: {upstream: u, deprecated: 2026-01-01, sunset: 2027-06-30, successor: v2}
        v2: {upstream: u, deprecated: 2026-10-01}
        v3: {upstream: u}
"""


def test_who_still_calls_deprecated_versions_and_until_when(usage, store, instance, capsys, tmp_path):
    instance.settings = loaded(tmp_path, "store: {url: embedded}\n" + UPSTREAM + VERSIONS)
    store.counts = [
        (("idp", name, "orders", version), (calls, 0, 0, 0))
        for name, version, calls in (("anna", "v1", 20), ("bert", "v2", 10), ("carl", "v3", 30))
    ]
    assert usage("--deprecated") == 0
    assert lines(capsys)[:-1] == [
        "CONSUMER ROUTE VERSION CALLS ERRORS REFUSED AVERAGE UNTIL",
        "anna (idp) orders v1 20 0 0.00% 0 0.00% 0.0 ms 2027-06-30, then v2",
        "bert (idp) orders v2 10 0 0.00% 0 0.00% 0.0 ms deprecated",
        "all 2 30 0 0.00% 0 0.00% 0.0 ms",
    ]
    assert usage("--by", "version") == 0
    assert lines(capsys)[1] == "carl (idp) orders v3 30 0 0.00% 0 0.00% 0.0 ms"
    store.counts = []
    assert usage("--deprecated") == 0
    assert lines(capsys)[0].startswith("no calls of deprecated versions from 20")


@pytest.mark.parametrize(
    "words",
    [
        ["orders"],
        ["--by", "hour"],
        ["--top", "0"],
        ["--top", "1001"],
        ["--top", "-5"],
        ["--top", "ten"],
        ["--top", "٣"],
        ["--top", "\x1b[2J"],
        ["--last", "24"],
        ["--last", "0s"],
        ["--last", "\x1b[2J"],
        ["--last", "24h", "--from", "2026-11-01"],
        ["--last", "24h", "--to", "2026-11-01"],
        ["--route", "\x1b[2J"],
        ["--consumer", "\udcff"],
        ["--from", "a\nb"],
    ],
)
def test_wrong_usage_is_one_line_and_nobody_is_asked(words, capsys):
    """The port is one where nobody listens, which would be another exit status."""
    with complaining(capsys, "gateway"):
        assert main(["usage", *words, "--admin", "http://127.0.0.1:1"]) == 2


@pytest.mark.parametrize("words", [["--from", "yesterday"], ["--from", "2999-01-01"], ["--to", "1999-01-01"]])
def test_what_the_gateway_refuses_is_one_line(usage, capsys, words):
    with complaining(capsys):
        assert usage(*words) == 2


def test_without_usage_in_the_configuration(usage, instance, capsys):
    instance.usage = None
    with complaining(capsys, "gateway usage: usage is not counted"):
        assert usage() == 1


def test_a_store_that_is_away(usage, store, capsys):
    store.away = True
    with complaining(capsys, "gateway usage: it did not tell"):
        assert usage() == 1


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"rows": [{"calls": "many"}]},
        {"rows": [{"calls": 1, "errors": 0, "refused": 0, "error_share": 0, "refused_share": 0, "average_ms": 0}]},
        {"rows": [7], "total": {}, "groups": 1},
    ],
)
def test_an_answer_of_somebody_else(monkeypatch, capsys, said):
    monkeypatch.setattr(command, "ask", lambda *_: said)
    with complaining(capsys, "what listens at"):
        assert main(["usage"]) == 1
