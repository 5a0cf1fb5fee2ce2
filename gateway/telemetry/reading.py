"""All counters of the instance at one moment, added up as the dashboard shows them. Pure.

It looks at what thousands of series say once, so that ten seconds of readings are small and cheap to compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.telemetry.cells import Totals
    from gateway.telemetry.tally import Labels

REQUESTS = "gateway_requests_total"
DURATION = "gateway_request_duration_seconds"
OWN = "gateway_own_duration_seconds"
BYTES = "gateway_bytes_total"
ENDED = "gateway_ended_total"
TRIES = "gateway_upstream_attempts_total"
TRY_DURATION = "gateway_upstream_duration_seconds"
RETRIES = "gateway_retries_total"
SLO = "gateway_slo_requests_total"
OBJECTIVE = "gateway_slo_objective"
CIRCUIT = "gateway_breaker_state"
IN_USE = "gateway_target_healthy"
PAUSED = "gateway_upstream_paused_seconds"
CONNECTIONS = "gateway_upstream_connections"
LISTENERS = "gateway_connections"
LOOP_LAG = "gateway_loop_lag_seconds"

GAUGES = (OBJECTIVE, CIRCUIT, IN_USE, PAUSED, CONNECTIONS, LISTENERS, LOOP_LAG)
COUNTED = (REQUESTS, DURATION, OWN, BYTES, ENDED, TRIES, TRY_DURATION, RETRIES, SLO)
NAMES = COUNTED + GAUGES
"""The metrics that a reading is made of."""

REFUSED = frozenset({"401", "403", "429"})
"""Statuses that turn a caller away."""

Gauge = Mapping[tuple[str, ...], float]
Buckets = list[float]
"""Observations per bucket, not cumulated; the last one has no upper bound."""


@dataclass(slots=True)
class Counts:
    """Requests, and how many of them went wrong."""

    requests: float = 0.0
    errors: float = 0.0
    """Answered with 5xx."""
    refused: float = 0.0
    """Answered with one of REFUSED."""

    def add(self, status: str, times: float) -> None:
        """So many more with this status."""
        self.requests += times
        if status[0] == "5":
            self.errors += times
        elif status in REFUSED:
            self.refused += times


@dataclass(slots=True)
class Timed:
    """Requests of a route, or tries of a target, with how long they took."""

    counts: Counts = field(default_factory=Counts)
    durations: Buckets = field(default_factory=list)
    own: Buckets = field(default_factory=list)
    """Of requests: the gateway's part."""


@dataclass(slots=True)
class Reading:
    """What the instance has counted since its start, and what its gauges say now."""

    routes: dict[str, Timed] = field(default_factory=dict)
    tries: dict[str, dict[str, Timed]] = field(default_factory=dict)
    """By upstream and target; those that failed are errors."""
    consumers: dict[str, Counts] = field(default_factory=dict)
    statuses: dict[str, float] = field(default_factory=dict)
    """By class: 2xx."""
    ended: dict[tuple[str, ...], float] = field(default_factory=dict)
    """By route and reason."""
    retries: dict[str, float] = field(default_factory=dict)
    """By upstream."""
    slo: dict[tuple[str, ...], float] = field(default_factory=dict)
    """By route, objective and result."""
    bytes_in: float = 0.0
    bytes_out: float = 0.0
    gauges: Mapping[str, Gauge] = field(default_factory=dict)


def reading(totals: Totals) -> Reading:
    """From the cells of NAMES."""
    made = Reading(gauges={name: _first(totals.get(name, {})) for name in GAUGES})
    _add_requests(made, totals)
    _add_tries(made, totals)
    for (_, direction), (size,) in totals.get(BYTES, {}).items():
        if direction == "in":
            made.bytes_in += size
        else:
            made.bytes_out += size
    made.ended.update(_first(totals.get(ENDED, {})))
    made.slo.update(_first(totals.get(SLO, {})))
    return made


def _add_requests(made: Reading, totals: Totals) -> None:
    routes, consumers, statuses = made.routes, made.consumers, made.statuses
    for (route, _, _, status, consumer), (times,) in totals.get(REQUESTS, {}).items():
        if (found := routes.get(route)) is None:
            found = routes[route] = Timed()
        found.counts.add(status, times)
        if (caller := consumers.get(consumer)) is None:
            caller = consumers[consumer] = Counts()
        caller.add(status, times)
        kind = f"{status[0]}xx" if status.isdecimal() else status
        statuses[kind] = statuses.get(kind, 0.0) + times
    for (route, _, _), (_, *buckets) in totals.get(DURATION, {}).items():
        found = routes.setdefault(route, Timed())
        found.durations = added(found.durations, buckets)
    for (route,), (_, *buckets) in totals.get(OWN, {}).items():
        routes.setdefault(route, Timed()).own = buckets


def _add_tries(made: Reading, totals: Totals) -> None:
    tries = made.tries
    for (upstream, target, outcome), (times,) in totals.get(TRIES, {}).items():
        # An outcome is a status or the way in which the try failed; a hedge that lost or a client that left is neither.
        failed = outcome != "cancelled" and not outcome.isdecimal()
        found = tries.setdefault(upstream, {}).setdefault(target, Timed())
        found.counts.add("5xx" if failed else outcome, times)
    for (upstream, target), (_, *buckets) in totals.get(TRY_DURATION, {}).items():
        tries.setdefault(upstream, {}).setdefault(target, Timed()).durations = buckets
    for (upstream, _), (times,) in totals.get(RETRIES, {}).items():
        made.retries[upstream] = made.retries.get(upstream, 0.0) + times


def added(some: Sequence[float], others: Sequence[float]) -> Buckets:
    """Bucket by bucket; nothing counts as empty buckets."""
    if not some or not others:
        return list(some or others)
    return [one + other for one, other in zip(some, others, strict=True)]


def _first(series: Mapping[Labels, list[float]]) -> dict[tuple[str, ...], float]:
    return {labels: cells[0] for labels, cells in series.items()}
