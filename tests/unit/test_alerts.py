"""Alerts: conditions from a made-up history, what becomes of them, and telling a receiver that comes and goes."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.alerts.conditions import (
    CIRCUITS,
    KEYS,
    METRICS,
    OBJECTIVES,
    PROMISED,
    STORES,
    TARGETS,
    Condition,
    Facts,
    FailingProbe,
    Judge,
    condition,
)
from gateway.alerts.history import KEPT, STEP, History
from gateway.alerts.notifier import LONGEST_PAUSE, Destination, Notifier
from gateway.alerts.payload import MOST, NOT_YET, payload
from gateway.alerts.states import Alerts
from gateway.telemetry.metrics import Metrics
from tests.fakes import Clock, Dice

ROOT = Path(__file__).parents[2]
NOTHING: Mapping[str, Mapping[tuple[str, ...], float]] = {name: {} for name in METRICS}
FINE = Facts(
    now=0.0, readings=NOTHING, workers=(2, 2), restarts=0.0, reasons=(), reload_ok=True, certificates={}, probes=()
)
DAY = 86400.0


def found(facts: Facts, after: float = 60.0) -> list[tuple[str, dict[str, str]]]:
    return [(each.name, dict(each.labels)) for each in Judge().conditions(facts, after, 14 * DAY)]


def saying(**readings: Any) -> Facts:
    return replace(FINE, readings={**NOTHING, **readings})


# -- what is wrong -----------------------------------------------------------------------------------


def test_nothing_is_wrong_with_a_gateway_that_is_well() -> None:
    well: dict[str, Any] = {
        CIRCUITS: {("u", "a"): 0.0},
        TARGETS: {("u", "a"): 1.0},
        STORES: {("redis",): 1.0},
        KEYS: {("idp",): 600.0},
    }
    assert found(replace(FINE, readings={**NOTHING, **well}, certificates={"gw.pem": 30 * DAY})) == []


@pytest.mark.parametrize(
    ("facts", "name", "labels"),
    [
        (replace(FINE, workers=(2, 0), reasons=["no worker is ready"]), "GatewayNoWorkers", {"severity": "page"}),
        (replace(FINE, workers=(2, 1)), "GatewayWorkersMissing", {"severity": "ticket"}),
        (replace(FINE, reasons=["no target"]), "GatewayNotReady", {"severity": "page"}),
        (replace(FINE, reload_ok=False), "GatewayReloadFailed", {"severity": "ticket"}),
        (
            replace(FINE, certificates={"gw.pem": 13 * DAY}),
            "GatewayCertificateExpires",
            {"certificate": "gw.pem", "severity": "ticket"},
        ),
        (
            replace(FINE, certificates={"gw.pem": -1.0}),
            "GatewayCertificateExpires",
            {"certificate": "gw.pem", "severity": "page"},
        ),
        (saying(**{STORES: {("redis",): 0.0}}), "GatewayStoreDown", {"store": "redis", "severity": "page"}),
        (saying(**{KEYS: {("idp",): 3601.0}}), "GatewayKeysStale", {"provider": "idp", "severity": "ticket"}),
        (saying(**{KEYS: {("idp",): 43201.0}}), "GatewayKeysStale", {"provider": "idp", "severity": "page"}),
        (
            replace(FINE, probes=[FailingProbe("up", 2, "status 503")]),
            "GatewayProbeFailing",
            {"probe": "up", "severity": "page"},
        ),
    ],
)
def test_each_thing_that_is_wrong_has_its_name(facts: Facts, name: str, labels: dict[str, str]) -> None:
    assert found(facts) == [(name, labels)]


def test_one_failed_run_of_a_probe_is_no_news() -> None:
    assert found(replace(FINE, probes=[FailingProbe("up", 1, "status 503")])) == []


def test_one_of_two_targets_is_a_ticket_and_both_of_them_are_a_page() -> None:
    half = {("u", "a"): 2.0, ("u", "b"): 0.0}
    assert [name for name, _ in found(saying(**{CIRCUITS: half}))] == ["GatewayCircuitOpen"]
    whole = found(saying(**{CIRCUITS: {("u", "a"): 2.0, ("u", "b"): 1.0}}))
    assert [name for name, _ in whole] == ["GatewayCircuitOpen", "GatewayCircuitOpen", "GatewayUpstreamDown"]
    ill = found(saying(**{TARGETS: {("u", "a"): 0.0}}))
    assert [name for name, _ in ill] == ["GatewayTargetIll", "GatewayUpstreamDown"]


def test_workers_that_keep_ending_are_news_and_one_that_ended_is_not() -> None:
    judge = Judge()

    def names(restarts: float, now: float) -> list[str]:
        facts = replace(FINE, restarts=restarts, now=now)
        return [each.name for each in judge.conditions(facts, 0.0, 0.0)]

    assert names(5.0, 0.0) == []  # before anybody looked
    assert names(8.0, 100.0) == []
    assert names(9.0, 200.0) == ["GatewayWorkersRestarting"]
    assert names(9.0, 200.0 + 960.0) == []


def slo(good: float, bad: float) -> dict[str, Any]:
    counted = {("r", "availability", "good"): good, ("r", "availability", "bad"): bad}
    return {PROMISED: counted, OBJECTIVES: {("r", "availability"): 0.99}}


def burning(judge: Judge, now: float, good: float, bad: float) -> bool:
    facts = replace(saying(**slo(good, bad)), now=now)
    return [each.name for each in judge.conditions(facts, 0.0, 0.0)] == ["GatewayErrorBudgetBurn"]


def test_a_budget_that_burns_fast_is_a_page_until_it_stops() -> None:
    judge = Judge()
    good = bad = 0.0
    for now in range(0, 3600, 30):  # an hour in which all is well
        good += 30
        assert not burning(judge, now, good, bad)
    fired = []
    for now in range(3600, 3600 + 1800, 30):  # half of all requests are bad
        good, bad = good + 15, bad + 15
        if burning(judge, now, good, bad):
            fired.append(now - 3600)
    assert fired[0] == pytest.approx(0.144 * 3600 / 0.5, abs=60)  # 14.4 % of an hour's requests
    ended = next(now for now in range(5400, 7200, 30) if not burning(judge, now, (good := good + 30), bad))
    assert ended - 5400 < 360  # the short window has seen enough


def test_few_bad_requests_wake_nobody() -> None:
    judge = Judge()
    assert not burning(judge, 0.0, 0.0, 0.0)
    assert not burning(judge, 60.0, 0.0, 9.0)
    assert burning(judge, 120.0, 0.0, 10.0)


def test_what_was_counted_before_anybody_looked_is_not_held_against_it() -> None:
    judge = Judge()
    assert not burning(judge, 0.0, 1000.0, 1000.0)
    assert not burning(judge, 60.0, 1100.0, 1000.0)


# -- history -----------------------------------------------------------------------------------------


def test_growth_is_that_of_the_window() -> None:
    history = History()
    for now in range(0, 7200, 5):
        history.note({("a",): float(now)}, now)
    grown = history.grown({("a",): 7200.0}, 7200.0, 300.0)[("a",)]
    assert 300.0 <= grown <= 300.0 + STEP
    assert KEPT <= history.grown({("a",): 7200.0}, 7200.0, KEPT)[("a",)] <= KEPT + 2 * STEP
    assert len(history._samples) <= KEPT / STEP + 2


def test_a_new_series_has_grown_from_nothing() -> None:
    history = History()
    assert history.grown({("a",): 5.0}, 0.0, 300.0) == {("a",): 0.0}
    history.note({("a",): 5.0}, 0.0)
    assert history.grown({("a",): 7.0, ("b",): 3.0}, 1.0, 300.0) == {("a",): 2.0, ("b",): 3.0}


# -- what becomes of it ------------------------------------------------------------------------------

OPEN = condition("GatewayCircuitOpen", "ticket", {"target": "a"}, 60.0, "open", "It is open.")
OTHER = condition("GatewayCircuitOpen", "ticket", {"target": "b"}, 60.0, "open", "It is open.")
AT_ONCE = condition("GatewayProbeFailing", "page", {"probe": "p"}, 0.0, "fails", "It fails.")
HOUR = 3600.0


def told(alerts: Alerts, now: float) -> list[tuple[str, bool]] | None:
    """What is due, which is then told: names of targets, and whether it is over."""
    group = alerts.due(now, 4 * HOUR)
    if group is None:
        return None
    alerts.was_told(group, now)
    return [(dict(alert.condition.labels).get("target", ""), over) for alert, over in group.alerts]


def test_a_flap_is_no_news() -> None:
    alerts = Alerts()
    for now in range(0, 600, 50):
        alerts.see([OPEN], now)
        alerts.see([], now + 40)
        assert told(alerts, now + 40) is None
        assert alerts.shown == []


def test_what_lasts_is_told_once_and_its_end_once() -> None:
    alerts = Alerts()
    alerts.see([OPEN], 0.0)
    assert [alert.firing for alert in alerts.shown] == [False]
    assert told(alerts, 59.0) is None
    alerts.see([OPEN], 60.0)
    assert told(alerts, 60.0) == [("a", False)]
    alerts.see([OPEN], 61.0)
    assert told(alerts, 61.0) is None
    alerts.see([], 100.0)
    assert alerts.shown == []
    assert told(alerts, 100.0) == [("a", True)]
    assert told(alerts, 101.0) is None


def test_what_is_still_wrong_is_told_again() -> None:
    alerts = Alerts()
    alerts.see([AT_ONCE], 0.0)
    assert told(alerts, 0.0) is not None
    assert told(alerts, 4 * HOUR - 1) is None
    assert told(alerts, 4 * HOUR) is not None


def test_alerts_of_one_name_are_told_together() -> None:
    alerts = Alerts()
    alerts.see([OPEN, OTHER], 0.0)
    alerts.see([OPEN, OTHER], 60.0)
    assert told(alerts, 60.0) == [("a", False), ("b", False)]
    alerts.see([OTHER], 70.0)
    assert told(alerts, 70.0) == [("a", True), ("b", False)]
    assert told(alerts, 71.0) is None


def test_what_comes_back_before_its_end_was_told_has_never_ended() -> None:
    alerts = Alerts()
    alerts.see([AT_ONCE], 0.0)
    assert told(alerts, 0.0) is not None
    alerts.see([], 10.0)
    alerts.see([AT_ONCE], 20.0)
    assert told(alerts, 20.0) is None
    assert alerts.shown[0].since == 0.0


def test_what_began_and_ended_while_nobody_listened_is_never_told() -> None:
    alerts = Alerts()
    alerts.see([AT_ONCE], 0.0)
    alerts.see([], 10.0)
    assert told(alerts, 10.0) is None


# -- the message -------------------------------------------------------------------------------------


def message(alerts: Alerts, now: float) -> dict[str, Any]:
    group = alerts.due(now, HOUR)
    assert group is not None
    return payload(group, {"instance": "gw-1"}, "http://127.0.0.1:9901", "https://wiki.example/runbook")


def test_a_message_is_one_of_alertmanagers() -> None:
    alerts = Alerts()
    alerts.see([OPEN, OTHER], 1_795_000_000.0)
    alerts.see([OPEN, OTHER], 1_795_000_060.0)
    sent = message(alerts, 1_795_000_060.0)

    labels = {"alertname": "GatewayCircuitOpen", "instance": "gw-1", "severity": "ticket", "target": "a"}
    first = sent["alerts"][0]
    assert {name: value for name, value in sent.items() if name != "alerts"} == {
        "version": "4",
        "groupKey": '{}:{alertname="GatewayCircuitOpen"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "gateway",
        "groupLabels": {"alertname": "GatewayCircuitOpen"},
        "commonLabels": {name: value for name, value in labels.items() if name != "target"},
        "commonAnnotations": first["annotations"],
        "externalURL": "http://127.0.0.1:9901",
    }
    assert re.fullmatch("[0-9a-f]{16}", first.pop("fingerprint"))
    assert first == {
        "status": "firing",
        "labels": labels,
        "annotations": {
            "summary": "open",
            "description": "It is open.",
            "runbook_url": "https://wiki.example/runbook#gatewaycircuitopen",
        },
        "startsAt": "2026-11-18T11:06:40.000Z",
        "endsAt": NOT_YET,
        "generatorURL": "http://127.0.0.1:9901/api/v1/alerts",
    }


def test_a_fingerprint_is_that_of_an_alert_for_ever() -> None:
    alerts = Alerts()
    alerts.see([AT_ONCE], 0.0)
    firing = message(alerts, 0.0)
    assert told(alerts, 0.0) is not None
    alerts.see([], 60.0)
    resolved = message(alerts, 60.0)
    assert (firing["status"], resolved["status"]) == ("firing", "resolved")
    assert resolved["alerts"][0]["endsAt"] == "1970-01-01T00:01:00.000Z"
    assert firing["alerts"][0]["fingerprint"] == resolved["alerts"][0]["fingerprint"]


def test_a_message_has_an_end() -> None:
    alerts = Alerts()
    many = [condition("GatewayTargetIll", "ticket", {"target": str(n)}, 0.0, "", "") for n in range(MOST + 7)]
    alerts.see(many, 0.0)
    sent = message(alerts, 0.0)
    assert (len(sent["alerts"]), sent["truncatedAlerts"]) == (MOST, 7)


# -- telling -----------------------------------------------------------------------------------------


class Receiver:
    """Takes messages, or says why not."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.refusing = ""

    async def __call__(self, _: Destination, body: bytes) -> str:
        if not self.refusing:
            self.taken.append(orjson.loads(body))
        return self.refusing

    @property
    def statuses(self) -> list[str]:
        return [each["status"] for each in self.taken]


class Telling:
    """A notifier with all that it needs."""

    def __init__(self) -> None:
        self.alerts, self.receiver, self.clock, self.metrics = Alerts(), Receiver(), Clock(0.0), Metrics()
        self.notifier = Notifier(
            self.alerts,
            self.metrics,
            posting=self.receiver,
            dice=Dice(1.0),
            clock=self.clock,
            wall=self.clock,
        )
        self.notifier.tell(TO)

    @property
    def counted(self) -> dict[str, float]:
        return {labels[0]: counter.value for labels, counter in self.metrics.notifications}


TO = Destination("https://chat.example/k-456", {}, {"instance": "gw-1"}, 4 * HOUR, "", "https://wiki.example")


async def test_the_first_failure_is_seen_as_a_change() -> None:
    """`increase()` sees nothing of a series that begins with 1."""
    it = Telling()
    assert it.counted == {"sent": 0.0, "failed": 0.0}


async def test_a_receiver_hears_of_the_beginning_and_of_the_end() -> None:
    it = Telling()
    it.alerts.see([AT_ONCE], 0.0)
    await it.notifier.step()
    await it.notifier.step()
    it.alerts.see([], 10.0)
    await it.notifier.step()
    await it.notifier.step()
    assert it.receiver.statuses == ["firing", "resolved"]
    assert it.counted == {"sent": 2.0, "failed": 0.0}


async def test_a_receiver_that_was_away_is_told_how_things_are(caplog: pytest.LogCaptureFixture) -> None:
    it = Telling()
    it.receiver.refusing = "status 500"
    it.alerts.see([OPEN, AT_ONCE], 0.0)
    for pause in (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, *[LONGEST_PAUSE] * 4):
        await it.notifier.step()
        asked = it.counted["failed"]
        it.clock.advance(pause - 0.1)
        await it.notifier.step()
        assert it.counted["failed"] == asked, "not before the pause is over"
        it.clock.advance(0.1)
    it.alerts.see([OPEN], it.clock())  # one is over, the other one lasts
    it.receiver.refusing = ""
    await it.notifier.step()
    assert [each["groupLabels"]["alertname"] for each in it.receiver.taken] == ["GatewayCircuitOpen"]
    assert it.counted == {"failed": 12.0, "sent": 1.0}
    assert [record.getMessage() for record in caplog.records] == [
        "alerts are not taken by chat.example: status 500; trying again",
        "alerts are taken by chat.example again",
    ]


async def test_another_receiver_is_told_of_what_lasts() -> None:
    it = Telling()
    it.alerts.see([AT_ONCE], 0.0)
    await it.notifier.step()
    it.notifier.tell(replace(TO, repeat=HOUR))
    await it.notifier.step()
    assert len(it.receiver.taken) == 1
    it.notifier.tell(replace(TO, url="https://other.example/"))
    await it.notifier.step()
    assert len(it.receiver.taken) == 2


async def test_another_receiver_need_not_wait_because_the_first_one_failed() -> None:
    """Whoever corrects a wrong address in the night is not left in doubt for five minutes."""
    it = Telling()
    it.receiver.refusing = "status 404"
    it.alerts.see([AT_ONCE], 0.0)
    await it.notifier.step()
    it.receiver.refusing = ""
    it.notifier.tell(replace(TO, url="https://other.example/"))
    await it.notifier.step()
    assert it.receiver.statuses == ["firing"]


async def test_without_a_receiver_alerts_are_only_shown() -> None:
    it = Telling()
    it.notifier.tell(None)
    it.alerts.see([AT_ONCE], 0.0)
    await it.notifier.step()
    assert it.receiver.taken == []
    assert [alert.firing for alert in it.alerts.shown] == [True]


# -- names -------------------------------------------------------------------------------------------

SAYS_MORE = {"GatewayNotReady"}
"""Readiness is no metric: only the gateway itself can tell."""


def test_alerts_are_called_as_in_the_rules_for_prometheus() -> None:
    rules = (ROOT / "deploy/prometheus/rules/alerts.yml").read_text(encoding="utf-8")
    source = (ROOT / "gateway/alerts/conditions.py").read_text(encoding="utf-8")
    named = set(re.findall(r'"(Gateway\w+)"', source))

    assert len(named) > 10
    assert named - set(re.findall(r"- alert: (\w+)", rules)) == SAYS_MORE


def test_conditions_of_one_key_are_one_alert() -> None:
    alerts = Alerts()
    later = Condition(*AT_ONCE[:3], summary="fails", description="It fails otherwise.")
    alerts.see([AT_ONCE], 0.0)
    alerts.see([later], 1.0)
    assert [alert.condition.description for alert in alerts.shown] == ["It fails otherwise."]
