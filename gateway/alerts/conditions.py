"""What is wrong at this moment, by what the metrics, the supervisor and the probes say. Pure.

The names, severities and thresholds are those of deploy/prometheus/rules, so that both ways of being told agree. Labels
come from the configuration, or are names of targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.alerts.history import History, Labels

CIRCUITS = "gateway_breaker_state"
TARGETS = "gateway_target_healthy"
STORES = "gateway_store_up"
KEYS = "gateway_keyset_age_seconds"
PROMISED = "gateway_slo_requests_total"
OBJECTIVES = "gateway_slo_objective"
METRICS = (CIRCUITS, TARGETS, STORES, KEYS, PROMISED, OBJECTIVES)
"""What has to be read."""

PAGE, TICKET = "page", "ticket"
"""It cannot wait for the morning; look at it within days."""

FAST = 14.4
"""Times the budget: what an objective allows for 30 days would be used up in two (SRE workbook, chapter 5)."""
SHORT, LONG = 300.0, 3600.0
"""Seconds: the long window makes the alert mean something, the short one ends it soon."""
FEWEST = 10
"""Bad requests in the long window: a single one wakes nobody."""

STALE, ENDING = 3600.0, 12 * 3600.0
"""Seconds since an issuer has confirmed its keys; after a day they do not count any more."""
RESTARTS, WITHIN = 3, 900.0
"""Workers replaced within so many seconds: more are no accident."""
FAILED_PROBES = 2
"""In a row."""
DAY = 86400.0
URGENT = 3 * DAY
"""Before the end of a certificate."""


class Condition(NamedTuple):
    """Something that is wrong."""

    name: str
    """The label `alertname`."""
    labels: tuple[tuple[str, str], ...]
    """Those that tell it from others of its name, and the severity."""
    after: float
    """Seconds for which it must be so to be news."""
    summary: str
    description: str


class FailingProbe(NamedTuple):
    """A probe whose last runs have failed."""

    name: str
    times: int
    detail: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All that conditions are made of."""

    now: float
    """Unix seconds."""
    readings: Mapping[str, Mapping[Labels, float]]
    """Of METRICS."""
    workers: tuple[int, int]
    """Configured, and ready."""
    restarts: float
    """Of workers, since the start."""
    reasons: Sequence[str]
    """Why the gateway should get no traffic."""
    reload_ok: bool
    certificates: Mapping[str, float]
    """Their ends, in Unix seconds."""
    probes: Sequence[FailingProbe]


class Judge:
    """Of one gateway; remembers how its counters have grown. Mutable."""

    def __init__(self) -> None:
        self._promised = History()
        self._restarts = History()

    def conditions(self, facts: Facts, after: float, before_end: float) -> list[Condition]:
        """What is wrong. In seconds: how long most of it must last, and how near the end of a certificate may be."""
        return [
            *_workers(facts, after),
            *self._restarting(facts),
            *_certificates(facts, before_end),
            *_upstreams(facts, after),
            *_stores(facts, after),
            *_keys(facts, after),
            *self._burning(facts, after),
            *_probes(facts),
        ]

    def _restarting(self, facts: Facts) -> Iterator[Condition]:
        counted: dict[Labels, float] = {(): facts.restarts}
        self._restarts.note(counted, facts.now)
        times = self._restarts.grown(counted, facts.now, WITHIN)[()]
        if times > RESTARTS:
            text = f"{times:.0f} workers had to be replaced within 15 minutes. The connections of each were lost."
            yield condition("GatewayWorkersRestarting", TICKET, {}, 0.0, "Workers keep ending", text)

    def _burning(self, facts: Facts, after: float) -> Iterator[Condition]:
        counted = facts.readings[PROMISED]
        self._promised.note(counted, facts.now)
        short = self._promised.grown(counted, facts.now, SHORT)
        long = self._promised.grown(counted, facts.now, LONG)
        for (route, slo), objective in facts.readings[OBJECTIVES].items():
            limit = FAST * (1.0 - objective)
            share = bad_share(long, route, slo)
            if long.get((route, slo, "bad"), 0.0) >= FEWEST and share > limit < bad_share(short, route, slo):
                yield condition(
                    "GatewayErrorBudgetBurn",
                    PAGE,
                    {"route": route, "slo": slo, "window": "1h"},
                    after,
                    f"Route {route} breaks its promise of {slo} quickly",
                    f"{share:.2%} of its requests in 1h were bad: more than {FAST} times what the objective allows.",
                )


def condition(
    name: str, severity: str, labels: Mapping[str, str], after: float, summary: str, description: str
) -> Condition:
    """With its labels in order."""
    return Condition(name, tuple(sorted({**labels, "severity": severity}.items())), after, summary, description)


def bad_share(grown: Mapping[Labels, float], route: str, slo: str) -> float:
    """Of the requests that count for an objective; 0 without any."""
    bad, good = grown.get((route, slo, "bad"), 0.0), grown.get((route, slo, "good"), 0.0)
    return bad / (bad + good) if bad else 0.0


def _workers(facts: Facts, after: float) -> Iterator[Condition]:
    configured, ready = facts.workers
    if not ready:
        text = "All workers have ended or do not get ready: nobody is served there."
        yield condition("GatewayNoWorkers", PAGE, {}, after, "No worker is ready", text)
    elif facts.reasons:
        text = "; ".join(facts.reasons)
        yield condition("GatewayNotReady", PAGE, {}, after, "The gateway is not ready for traffic", text)
    if 0 < ready < configured:
        text = f"Only {ready} of {configured} workers are ready."
        yield condition("GatewayWorkersMissing", TICKET, {}, after, "Workers are missing", text)
    if not facts.reload_ok:
        text = "The file is not the configuration in force. A restart would end with status 2."
        yield condition("GatewayReloadFailed", TICKET, {}, after, "The configuration was refused", text)


def _certificates(facts: Facts, before_end: float) -> Iterator[Condition]:
    for name, end in facts.certificates.items():
        left = end - facts.now
        if left < before_end:
            severity = PAGE if left < URGENT else TICKET
            summary = f"The certificate {name} expires within {left / DAY:.1f} days"
            if left <= 0:
                summary = f"The certificate {name} has expired"
            text = "Clients refuse it after its end. A renewed file is picked up while the gateway runs."
            yield condition("GatewayCertificateExpires", severity, {"certificate": name}, 0.0, summary, text)


def _upstreams(facts: Facts, after: float) -> Iterator[Condition]:
    """A circuit that is being tried (half-open) has not recovered yet."""
    open_ = {labels for labels, state in facts.readings[CIRCUITS].items() if state >= 1}
    ill = {labels for labels, healthy in facts.readings[TARGETS].items() if not healthy}
    for upstream, target in sorted(open_):
        text = f"The target of {upstream} has failed too often and gets trials only, or an operator holds it open."
        labels = {"upstream": upstream, "target": target}
        yield condition("GatewayCircuitOpen", TICKET, labels, after, f"The circuit of {target} is open", text)
    for upstream, target in sorted(ill):
        text = f"Probes find it ill, or tries keep failing: the other targets of {upstream} do its work."
        labels = {"upstream": upstream, "target": target}
        yield condition("GatewayTargetIll", TICKET, labels, after, f"The target {target} is not well", text)
    for upstream in sorted(_all_out(facts.readings[CIRCUITS], open_) | _all_out(facts.readings[TARGETS], ill)):
        text = "No target is left whose circuit is closed, or none that is well: requests are refused, or fall back."
        summary = f"All targets of {upstream} are out of use"
        yield condition("GatewayUpstreamDown", PAGE, {"upstream": upstream}, after, summary, text)


def _all_out(known: Iterable[Labels], out: set[Labels]) -> set[str]:
    """The upstreams of which none is left."""
    return {upstream for upstream, _ in out} - {labels[0] for labels in known if labels not in out}


def _stores(facts: Facts, after: float) -> Iterator[Condition]:
    for (store,), up in facts.readings[STORES].items():
        if not up:
            text = "A worker cannot reach it: limits are counted or decided as store.on_failure says, usage waits."
            yield condition("GatewayStoreDown", PAGE, {"store": store}, after, f"The store {store} is away", text)


def _keys(facts: Facts, after: float) -> Iterator[Condition]:
    for (provider,), age in facts.readings[KEYS].items():
        if age > STALE:
            severity, what = (PAGE, "end soon") if age > ENDING else (TICKET, "are not confirmed")
            text = f"Its issuer has last confirmed them {age / 3600:.1f} h ago. After a day all its tokens are refused."
            summary = f"The keys of {provider} {what}"
            yield condition("GatewayKeysStale", severity, {"provider": provider}, after, summary, text)


def _probes(facts: Facts) -> Iterator[Condition]:
    for name, times, detail in facts.probes:
        if times >= FAILED_PROBES:
            text = f"{times} runs in a row have not found what they expect. The last one: {detail}"
            yield condition("GatewayProbeFailing", PAGE, {"probe": name}, 0.0, f"The probe {name} fails", text)
