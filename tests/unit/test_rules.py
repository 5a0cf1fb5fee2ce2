"""Alerts: each is explained, asks for what is measured, and fires when it should and only then."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.units import duration
from tests.metrics import OF_PROMETHEUS, grouped_in, labels_in, measured, names_in

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TEST_FILES = sorted((PROMETHEUS / "tests").glob("*.yml"))
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not here: Debian has it in the package prometheus"
)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


QUERIES = sorted(
    line
    for page in (ROOT / "docs").glob("*.md")
    for fence in re.findall(r"^```promql\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for line in fence.splitlines()
    if not line.startswith("#")
)
"""What the pages tell readers to ask, a query a line."""
GROUPS: list[dict[str, Any]] = [group for path in RULE_FILES for group in read(path)["groups"]]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}


def which(rule: dict[str, Any]) -> str:
    """What tells an alert's rules apart."""
    return " ".join((rule["alert"], *rule["labels"].values()))


def labels_of(name: str) -> frozenset[str]:
    """Of a series that is scraped, or that a rule makes."""
    if name in RECORDED:  # each of them says by what
        return frozenset(grouped_in(RECORDED[name])) - {"le"}
    return measured().get(name) or OF_PROMETHEUS[name]


def promtool(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=240)
    return done.returncode, done.stdout + done.stderr


# -- what holds without promtool -----------------------------------------------------------------------


def test_there_are_rules_and_tests_of_them() -> None:
    assert {path.name for path in RULE_FILES} == {"alerts.yml", "recording.yml"}
    assert len({which(rule) for rule in ALERTS}) == len(ALERTS) > 25
    assert len(RECORDED) == len(RULES) - len(ALERTS)


@pytest.mark.parametrize("rule", ALERTS, ids=which)
def test_an_alert_says_how_urgent_it_is_what_it_means_and_where_that_is_explained(rule: dict[str, Any]) -> None:
    told = rule["annotations"]
    page, _, anchor = told["runbook_url"].partition("#")

    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert set(told) == {"summary", "description", "runbook_url"}
    assert len(told["summary"]) <= 90
    assert page.endswith("/docs/runbook.md")
    assert anchor == rule["alert"].lower()
    assert duration(rule.get("for", "0s")) <= 3600


def test_every_alert_has_its_section_in_the_runbook() -> None:
    sections = re.findall(r"^## (Gateway\w+)$", RUNBOOK, re.MULTILINE)

    assert len(sections) == len(set(sections))
    assert {rule["alert"] for rule in ALERTS} <= set(sections)


def test_every_section_of_the_runbook_says_what_it_means_what_to_look_at_and_what_to_do() -> None:
    for name, text in zip(*[iter(re.split(r"^## (Gateway\w+)$", RUNBOOK, flags=re.MULTILINE)[1:])] * 2, strict=True):
        assert [part for part in ("**Means:**", "**Callers:**", "**Look:**", "**Do:**") if part not in text] == [], name


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: which(rule) if "alert" in rule else rule["record"])
def test_a_rule_asks_for_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    names = names_in(rule["expr"])
    known = measured().keys() | RECORDED.keys() | OF_PROMETHEUS.keys()

    assert names
    assert names <= known, names - known
    assert labels_in(rule["expr"]) <= frozenset.union(*(labels_of(name) for name in names))


def test_the_pages_ask_for_metrics_and_labels_that_exist() -> None:
    assert len(QUERIES) > 20
    for query in QUERIES:
        names = names_in(query)
        assert names, query
        assert names <= measured().keys(), query
        assert labels_in(query) <= frozenset.union(*(labels_of(name) for name in names)), query


@pytest.mark.parametrize("rule", ALERTS, ids=which)
def test_what_an_alert_says_has_only_labels_that_it_has(rule: dict[str, Any]) -> None:
    """`{{ $labels.rout }}` would be empty, and nobody would notice before the night it counts."""
    said = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    first = re.search(r"\bby \([^)]*\)", rule["expr"])  # of two sides the left one is told of
    ignored = set(re.findall(r"ignoring \((\w+)\)", rule["expr"]))

    if first:
        assert said <= grouped_in(first[0])
    else:
        assert said <= frozenset.union(*(labels_of(name) for name in names_in(rule["expr"]))) - ignored


def test_the_table_of_alerts_has_each_with_its_severities() -> None:
    page = (ROOT / "docs/alerts.md").read_text(encoding="utf-8")
    written = re.findall(r"^\| \[`(\w+)`\]\(runbook\.md#(\w+)\) \| ([a-z, ]+) \|", page, re.MULTILINE)
    severities: dict[str, set[str]] = {}
    for rule in ALERTS:
        severities.setdefault(rule["alert"], set()).add(rule["labels"]["severity"])

    assert {name: set(listed.split(", ")) for name, _, listed in written} == severities
    assert all(anchor == name.lower() for name, anchor, _ in written)


def test_the_table_of_windows_is_that_of_the_rules() -> None:
    page = (ROOT / "docs/alerts.md").read_text(encoding="utf-8")
    written = re.findall(r"^\| `(\w+)` \| (\d+) (\w)\w+ \| ([\d.]+) \| .* \| (\w+) \|$", page, re.MULTILINE)
    rules = [
        (*re.search(r"ratio_rate(\w+) > ([\d.]+).*ratio_rate(\w+) >", rule["expr"], re.DOTALL).groups(), rule["labels"])  # type: ignore[union-attr]
        for rule in ALERTS
        if rule["alert"] == "GatewayErrorBudgetBurn"
    ]

    assert [(long, number + unit, factor, severity) for long, number, unit, factor, severity in written] == [
        (long, short, factor, labels["severity"]) for long, factor, short, labels in rules
    ]
    assert [labels["window"] for *_, labels in rules] == [long for long, *_ in rules]


def test_prometheus_loads_the_rules_and_tells_alertmanager() -> None:
    config = read(PROMETHEUS / "prometheus.yml")
    services = read(ROOT / "docker-compose.yml")["services"]
    (teller,) = config["alerting"]["alertmanagers"]

    assert sorted(path for pattern in config["rule_files"] for path in PROMETHEUS.glob(pattern)) == RULE_FILES
    assert "./deploy/prometheus/rules:/etc/prometheus/rules:ro" in services["prometheus"]["volumes"]
    assert teller["static_configs"][0]["targets"] == ["alertmanager:9093"]
    assert {job["job_name"] for job in config["scrape_configs"]} >= {"gateway"}


def test_every_alert_is_seen_to_fire_and_seen_to_be_silent() -> None:
    fires: set[str] = set()
    silent: set[str] = set()
    for test in (test for path in TEST_FILES for test in read(path)["tests"]):
        jobs = set(re.findall(r'job="([^"]*)"', " ".join(each["series"] for each in test["input_series"])))
        for check in test.get("promql_expr_test", ()):
            wanted = dict(re.findall(r'(\w+)="([^"]*)"', check["expr"]))
            assert wanted.get("job", "gateway") in jobs | {"gateway"}, check  # a job that is not there is always silent
            key = " ".join(wanted[label] for label in ("alertname", "severity", "window") if label in wanted)
            (fires if check["exp_samples"] else silent).add(key)

    assert fires == silent == {which(rule) for rule in ALERTS}


# -- Alertmanager ----------------------------------------------------------------------------------------

ALERTMANAGER = read(ROOT / "deploy/alertmanager/alertmanager.yml")
MATCH = re.compile(r'(\w+) (=|!=|=~|!~) (?:"([^"]*)"|(\w+))')


def matchers() -> list[str]:
    rules = ALERTMANAGER["inhibit_rules"]
    return [
        *(each for route in ALERTMANAGER["route"]["routes"] for each in route["matchers"]),
        *(each for rule in rules for key in ("source_matchers", "target_matchers") for each in rule[key]),
    ]


def test_alertmanager_sends_to_receivers_that_there_are() -> None:
    route = ALERTMANAGER["route"]
    used = {route["receiver"], *(each["receiver"] for each in route["routes"])}
    services = read(ROOT / "docker-compose.yml")["services"]
    urls = [hook["url"] for receiver in ALERTMANAGER["receivers"] for hook in receiver["webhook_configs"]]

    assert used == {receiver["name"] for receiver in ALERTMANAGER["receivers"]}
    assert {re.match(r"http://([a-z]+):9000/", url)[1] for url in urls} <= services.keys()  # type: ignore[index]
    assert "alerts=9000" in services["alerts"]["entrypoint"]


def test_alertmanager_matches_alerts_and_labels_that_there_are() -> None:
    names = {rule["alert"] for rule in ALERTS}
    values = {label: {rule["labels"].get(label) for rule in ALERTS} for label in ("severity", "window")}
    values["alertname"] = names
    labels = frozenset.union(*(labels_of(name) for rule in ALERTS for name in names_in(rule["expr"]))) | values.keys()
    for matcher in matchers():
        found = MATCH.fullmatch(matcher)
        assert found, matcher
        assert set((found[3] or found[4]).split("|")) <= values[found[1]], matcher
    grouped = {
        *ALERTMANAGER["route"]["group_by"],
        *(each for rule in ALERTMANAGER["inhibit_rules"] for each in rule["equal"]),
    }

    assert grouped <= labels


def test_nothing_silences_what_it_is_itself() -> None:
    for rule in ALERTMANAGER["inhibit_rules"]:
        assert rule["source_matchers"] != rule["target_matchers"]
        assert "job" in rule["equal"]


@pytest.mark.skipif(
    shutil.which("amtool") is None, reason="amtool is not here: Debian has it in prometheus-alertmanager"
)
def test_amtool_accepts_the_configuration_of_alertmanager() -> None:
    path = ROOT / "deploy/alertmanager/alertmanager.yml"
    done = subprocess.run(["amtool", "check-config", str(path)], capture_output=True, text=True, timeout=30)

    assert done.returncode == 0, done.stdout + done.stderr


# -- promtool --------------------------------------------------------------------------------------------


@needs_promtool
def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    for arguments in (
        ("check", "config", str(PROMETHEUS / "prometheus.yml")),
        ("check", "rules", "--lint=all", "--lint-fatal", *map(str, RULE_FILES)),
    ):
        status, said = promtool(*arguments)
        assert status == 0, said


@needs_promtool
def test_promtool_understands_the_queries_of_the_pages(tmp_path: Path) -> None:
    path = tmp_path / "queries.yml"
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(QUERIES)]
    path.write_text(yaml.safe_dump({"groups": [{"name": "pages", "rules": rules}]}), encoding="utf-8")
    status, said = promtool("check", "rules", str(path))
    assert status == 0, said


@needs_promtool
@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
@pytest.mark.timeout(240)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    status, said = promtool("test", "rules", str(path))

    assert status == 0, said
