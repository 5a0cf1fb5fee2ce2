"""What the whole instance says when somebody scrapes: all workers together, and what only the supervisor knows."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypedDict

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.telemetry.cells import Summary
from gateway.telemetry.exemplars import SUFFIX, Exemplar, newest
from gateway.telemetry.exposition import build_info, family_of
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.rendering import Reading
from gateway.telemetry.tally import Family, Labels, Readings


class Workers(TypedDict):
    """How many there should be, and how many serve."""

    configured: int
    ready: int


class Reloads(TypedDict):
    """How many there were since the start, by their end."""

    success: int
    failure: int


class LastReload(TypedDict):
    """How the last one ended, and when (unix seconds) the last successful one did; the start counts as one."""

    ok: bool
    at: float


class LoadedConfig(TypedDict):
    """What is in service."""

    hash: str


class Snapshot(TypedDict):
    """What the supervisor knows; it tells the operator process whenever something changes."""

    reasons: list[str]
    """Why the gateway should get no traffic; none when it should."""
    worker_restarts: int
    workers: Workers
    reloads: Reloads
    last_reload: LastReload
    config: LoadedConfig
    certificates: Mapping[str, float]
    """The end of each certificate's validity, unix seconds."""
    live: list[str]
    """The sets of metrics that belong to living workers."""
    started: float
    """Unix seconds."""
    draining: bool
    clients: list[tuple[str, bool]]
    """Where clients are served: addresses with their real ports, and whether they speak TLS."""


Read = Callable[[Snapshot, float], Readings]
"""From a snapshot and the time (unix seconds), what a metric of the instance says."""

INSTANCE: tuple[tuple[Family, Read], ...] = (
    (
        Family("gateway_worker_restarts_total", "counter", "Workers started in place of one that had ended."),
        lambda known, _: {(): float(known["worker_restarts"])},
    ),
    (
        Family("gateway_workers", "gauge", "Workers, as configured and as ready to serve.", ("state",)),
        lambda known, _: {
            ("configured",): float(known["workers"]["configured"]),
            ("ready",): float(known["workers"]["ready"]),
        },
    ),
    (
        Family("gateway_config_reloads_total", "counter", "Reloads of the configuration, by their end.", ("result",)),
        lambda known, _: {
            ("success",): float(known["reloads"]["success"]),
            ("failure",): float(known["reloads"]["failure"]),
        },
    ),
    (
        Family("gateway_config_last_reload_successful", "gauge", "1 when the last reload was, else 0."),
        lambda known, _: {(): float(known["last_reload"]["ok"])},
    ),
    (
        Family(
            "gateway_config_last_reload_success_timestamp_seconds",
            "gauge",
            "When the configuration in service was loaded.",
        ),
        lambda known, _: {(): known["last_reload"]["at"]},
    ),
    (
        Family("gateway_config_info", "gauge", "Always 1; its label tells the configuration in service.", ("hash",)),
        lambda known, _: {(known["config"]["hash"],): 1.0},
    ),
    (
        Family(
            "gateway_certificate_expiry_seconds",
            "gauge",
            "Until a certificate of the listener is no longer valid; negative when it is not.",
            ("certificate",),
        ),
        lambda known, now: {(name,): end - now for name, end in known["certificates"].items()},
    ),
    (
        Family("process_start_time_seconds", "gauge", "When the gateway was started, in unix seconds."),
        lambda known, _: {(): known["started"]},
    ),
)


class MetricsCollector(Collector):
    """Of the operator process: for scrapes, and for prometheus-client."""

    def __init__(
        self,
        summary: Summary,
        live: Callable[[], Collection[str]],
        snapshot: Callable[[], Snapshot | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._families = Metrics().families
        self._summary = summary
        self._live = live
        self._snapshot = snapshot  # None until the supervisor has spoken
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """All metrics, for prometheus-client."""
        for reading in self.read():
            yield family_of(*reading)

    def read(self) -> Iterator[Reading]:
        """All metrics. Runs in the thread of the scrape."""
        for family, series in self._summary.read(self._families, self._live()):
            yield Reading(family, series, self._exemplars(family))
        yield build_info()
        known, now = self._snapshot(), self._clock()
        for family, read in INSTANCE:
            readings = read(known, now) if known is not None else {}
            yield Reading(family, {labels: [value] for labels, value in readings.items()})

    def _exemplars(self, family: Family) -> Mapping[Labels, Sequence[Exemplar | None]]:
        if family.kind != "histogram":
            return {}
        return {labels: newest(runs) for labels, runs in self._summary.each(family.name + SUFFIX)}
