"""Every metric that a process counts for itself: its name, its help and its labels, named here and nowhere else.

Label values come from the configuration or from short fixed lists, never from what a client sent. Counting
is `tally.py`; what all processes say together, and what only the supervisor knows, is `collector.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.telemetry.exemplars import Exemplars
from gateway.telemetry.exposition import build_info, family_of, registry_of
from gateway.telemetry.rendering import Reading
from gateway.telemetry.tally import Cells, Children, Counter, Family, Gauges, Histogram, Labels, Storage, Way

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""For whole requests and upstreams: a millisecond on a LAN up to the usual patience of a client."""

OWN_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5)
"""For the gateway's own part, which is tens of microseconds."""

STORE_SECONDS = (0.00001, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
"""For the store: memory answers in microseconds, Redis in less than the 50 ms it is given."""

STORE_UP = Family("gateway_store_up", "gauge", "1 while the store answers every worker, else 0.", ("store",), way="min")
"""Readiness asks for it, too."""

KEYSET_AGE = Family(
    "gateway_keyset_age_seconds",
    "gauge",
    "Since the issuer has last confirmed its keys; of several workers the longest. Not there before the first time.",
    ("provider",),
    way="max",
)
"""Readiness asks for it, too."""


MOST_TARGETS = 2000
"""Targets that counters tell apart in the life of a process: what the DNS brings has no end."""


class Metrics(Collector):
    """The metrics of one process, in storage of its own or in the set that it was given."""

    def __init__(self, cells: Storage | None = None) -> None:
        self._cells = cells if cells is not None else Cells()
        self._targets: set[str] = set()
        self._kept: list[tuple[Family, Children[Counter] | Children[Histogram] | Gauges]] = []
        self._about_requests()
        self._about_upstreams()
        self._about_stages()
        self._about_the_process()

    def named(self, target: str) -> str:
        """The label of a target: its name, or `other` once discovery has brought more than anybody can look at."""
        if target not in self._targets:
            if len(self._targets) >= MOST_TARGETS:
                return "other"
            self._targets.add(target)
        return target

    def circuit_changed(self, upstream: str, target: str, to: str) -> None:
        """Count a transition."""
        self.breaker_transitions.child(upstream, self.named(target), to).inc()

    def asked(self, provider: str, request: str, outcome: str, took: float) -> None:
        """Observe a wait of `took` seconds for an issuer."""
        self.issuer_duration.child(provider, request, outcome).observe(took)

    def ejected(self, upstream: str, target: str) -> None:
        """Count a target that was set aside."""
        self.ejections.child(upstream, self.named(target)).inc()

    @property
    def families(self) -> list[Family]:
        """What is counted, without the numbers."""
        return [family for family, _ in self._kept]

    @property
    def registry(self) -> CollectorRegistry:
        """A registry with the numbers of this process alone."""
        return registry_of(self)

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        for reading in self.read():
            yield family_of(*reading)

    def read(self) -> Iterator[Reading]:
        """All numbers of this process alone, as a scrape shows them."""
        for family, children in self._kept:
            yield Reading(family, {labels: child.values for labels, child in children})
        yield build_info()

    def _about_requests(self) -> None:
        self.requests = self._counters(
            "gateway_requests_total",
            "Requests answered, or left by their client (status 499).",
            ("route", "version", "method", "status", "consumer"),
        )
        self.request_duration = self._histograms(
            "gateway_request_duration_seconds",
            "From the request's head to the last byte of the reply.",
            ("route", "method", "status_class"),
        )
        self.exemplars = Exemplars(self._cells, "gateway_request_duration_seconds", SECONDS)
        self.own_duration = self._histograms(
            "gateway_own_duration_seconds",
            "The part of a request's duration that was not spent waiting for upstreams or other services.",
            ("route",),
            OWN_SECONDS,
        )
        self.bytes = self._counters(
            "gateway_bytes_total",
            "Bytes of bodies received from clients (in) and sent to them (out).",
            ("route", "direction"),
        )
        self.first_byte = self._histograms(
            "gateway_first_byte_seconds",
            "From the request's head to the first byte of the reply, on its way to the client.",
            ("route",),
        )
        self.ended = self._counters(
            "gateway_ended_total",
            "Requests that the gateway itself answered or ended, by reason code; the others an upstream has answered.",
            ("route", "reason"),
        )
        self.slo_requests = self._counters(
            "gateway_slo_requests_total",
            "Requests that count for an objective of their route, as good or bad.",
            ("route", "slo", "result"),
        )
        self.slo_objective = self._gauge(
            "gateway_slo_objective", "The share of good requests that a route has promised.", ("route", "slo"), "max"
        )
        self.refusals = self._counters(
            "gateway_refusals_total",
            "Requests that the gateway itself ended, by problem code.",
            ("route", "code"),
        )

    def _about_upstreams(self) -> None:
        self.attempts = self._counters(
            "gateway_upstream_attempts_total",
            "Tries sent to a target: the status it replied, or how the try failed.",
            ("upstream", "target", "outcome"),
        )
        self.upstream_duration = self._histograms(
            "gateway_upstream_duration_seconds",
            "One try: from choosing the connection to the head of the reply.",
            ("upstream", "target"),
        )
        self.connect_duration = self._histograms(
            "gateway_upstream_connect_seconds", "Opening a new upstream connection.", ("upstream",)
        )
        self.retries = self._counters(
            "gateway_retries_total", "Tries after the first, by what went wrong before.", ("upstream", "reason")
        )
        self.retries_withheld = self._counters(
            "gateway_retries_withheld_total", "Retries that were due but not made.", ("upstream", "reason")
        )
        self.breaker_state = self._gauge(
            "gateway_breaker_state",
            "0 closed, 1 half-open, 2 open; of several workers' circuits the worst.",
            ("upstream", "target"),
            "max",
        )
        self.breaker_transitions = self._counters(
            "gateway_breaker_transitions_total", "Changes of a circuit's state.", ("upstream", "target", "to")
        )
        self.target_healthy = self._gauge(
            "gateway_target_healthy",
            "1 while probes and ejection leave a target in use, else 0; of several workers' views the worst.",
            ("upstream", "target"),
            "min",
        )
        self.ejections = self._counters(
            "gateway_ejections_total",
            "Targets set aside because tries failed one after the other.",
            ("upstream", "target"),
        )
        self.hedges = self._counters(
            "gateway_hedges_total", "Tries beside a late one, by what became of them.", ("upstream", "outcome")
        )
        self.upstream_paused = self._gauge(
            "gateway_upstream_paused_seconds",
            "How long an upstream is still left alone because its own quota is used up.",
            ("upstream",),
            "max",
        )
        self.upstream_connections = self._gauge(
            "gateway_upstream_connections", "Connections to an upstream, busy or idle.", ("upstream", "state")
        )

    def _about_stages(self) -> None:
        self.auth = self._counters(
            "gateway_auth_total", "Credentials looked at, by provider and result.", ("provider", "result")
        )
        self.keyset_age = self._gauge_of(KEYSET_AGE)
        self.rate_limit_decisions = self._counters(
            "gateway_rate_limit_decisions_total",
            "Decisions of a rate limit policy.",
            ("route", "policy", "decision"),
        )
        self.issuer_duration = self._histograms(
            "gateway_issuer_duration_seconds",
            "Waits for token issuers: fetches of their keys, and questions about a token.",
            ("provider", "request", "outcome"),
        )
        self.queue_duration = self._histograms(
            "gateway_queue_seconds",
            "Waits in line for a place under a concurrency limit, by how they ended.",
            ("kind", "name", "outcome"),
        )
        self.store_duration = self._histograms(
            "gateway_store_duration_seconds",
            "Round trips to the shared store; one may carry many checks.",
            ("store",),
            STORE_SECONDS,
        )
        self.store_up = self._gauge_of(STORE_UP)
        self.store_errors = self._counters(
            "gateway_store_errors_total", "Checks that the store failed to answer in time.", ("store",)
        )
        self.concurrency = self._gauge(
            "gateway_concurrency",
            "Requests of routes and tries of upstreams that are under way, that wait in line, and how many may be.",
            ("kind", "name", "state"),
        )
        self.shed = self._counters(
            "gateway_shed_total", "Requests turned away because there was too much to do.", ("route", "reason")
        )
        self.fallbacks = self._counters(
            "gateway_fallbacks_total", "Replies made by a fallback.", ("route", "kind", "reason")
        )
        self.deprecated = self._counters(
            "gateway_deprecated_requests_total",
            "Requests for versions that are deprecated, or have a sunset.",
            ("route", "version", "consumer"),
        )
        self.version_sunset = self._gauge(
            "gateway_version_sunset_timestamp_seconds",
            "When a version of a route ends, in unix seconds.",
            ("route", "version"),
            "max",
        )
        self.splits = self._counters(
            "gateway_splits_total", "Requests of a split route, by the upstream that was chosen.", ("route", "upstream")
        )
        self.mirrored = self._counters(
            "gateway_mirrored_total", "Copies of requests, by what became of them.", ("route", "upstream", "outcome")
        )
        self.faults = self._counters(
            "gateway_faults_total", "Requests that were delayed or ended for a rehearsal.", ("route", "kind")
        )
        self.idempotency = self._counters(
            "gateway_idempotency_total",
            "Requests with an idempotency key, by what was known of it.",
            ("route", "outcome"),
        )

    def _about_the_process(self) -> None:
        self.connections = self._gauge("gateway_connections", "Open client connections.", ("listener",))
        self.connections_limit = self._gauge(
            "gateway_connections_limit", "Client connections that may be open at a time, on all listeners together.", ()
        )
        self.handshake_failures = self._counters(
            "gateway_tls_handshake_failures_total", "Connections to a TLS listener that came to nothing.", ()
        )
        self.loop_lag = self._gauge(
            "gateway_loop_lag_seconds", "Longest delay of an event loop in the last 15 seconds.", (), "max"
        )
        self.access_log_dropped = self._counters(
            "gateway_access_log_dropped_total", "Access-log lines dropped because their sink did not keep up.", ()
        )
        self.spans = self._counters(
            "gateway_spans_total",
            "Spans of traces that the collector has taken, or that were dropped because it did not.",
            ("outcome",),
        )
        self.log_suppressed = self._counters(
            "gateway_log_suppressed_total",
            "Messages of the gateway itself left out because they came too often, or lost because nobody read them.",
            (),
        )
        self.reports_dropped = self._counters(
            "gateway_reports_dropped_total",
            "Reports of requests for the dashboard and `gateway tail` that were dropped because there were too many.",
            (),
        )
        self.probe_runs = self._counters(
            "gateway_probe_runs_total", "Probes of routes, by what they found.", ("probe", "result")
        )
        self.probe_up = self._gauge(
            "gateway_probe_up", "1 when the last run of a probe found what it expects, else 0.", ("probe",), "min"
        )
        self.probe_duration = self._histograms(
            "gateway_probe_duration_seconds", "Runs of a probe, through the gateway.", ("probe",)
        )
        self.notifications = self._counters(
            "gateway_notifications_total", "Notifications of alerts, by whether the webhook took them.", ("result",)
        )
        # The names that every Prometheus client uses; `process.py` knows the numbers.
        self.cpu_seconds = self._counters(
            "process_cpu_seconds_total", "CPU time, user and system, that the workers have spent.", ()
        )
        self.resident_memory = self._gauge(
            "process_resident_memory_bytes",
            "Memory that the workers have in RAM; what they share is counted for each of them.",
            (),
        )
        self.open_fds = self._gauge("process_open_fds", "File descriptors that the workers have open.", ())

    def _counters(self, name: str, help: str, labels: Labels) -> Children[Counter]:
        counters = Children(lambda values: Counter(self._cells, name, values))
        self._kept.append((Family(name, "counter", help, labels), counters))
        return counters

    def _histograms(
        self, name: str, help: str, labels: Labels, bounds: tuple[float, ...] = SECONDS
    ) -> Children[Histogram]:
        histograms = Children(lambda values: Histogram(self._cells, name, values, bounds))
        self._kept.append((Family(name, "histogram", help, labels, bounds), histograms))
        return histograms

    def _gauge(self, name: str, help: str, labels: Labels, way: Way = "sum") -> Gauges:
        return self._gauge_of(Family(name, "gauge", help, labels, way=way))

    def _gauge_of(self, family: Family) -> Gauges:
        gauges = Gauges(self._cells, family.name)
        self._kept.append((family, gauges))
        return gauges
