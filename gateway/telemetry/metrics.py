"""Every metric: its name, its help and its labels, named here and nowhere else.

Label values come from the configuration or from short fixed lists, never from what a client sent. Counting
is `tally.py`; prometheus-client only asks for the numbers when somebody scrapes.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.telemetry.tally import Cells, Counters, Histograms, Labels

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""For whole requests and upstreams: a millisecond on a LAN up to the usual patience of a client."""

OWN_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5)
"""For the gateway's own part, which is tens of microseconds."""

STORE_SECONDS = (0.00001, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
"""For the store: memory answers in microseconds, Redis in less than the 50 ms it is given."""

Readings = Mapping[Labels, float]
Read = Callable[[], Readings]


class Sampled:
    """A metric whose value somebody else knows; asked for at each scrape."""

    def __init__(self) -> None:
        self._reads: list[Read] = []

    def read_from(self, read: Read) -> None:
        """`read` gives value by label values. It is called in the scrape's thread and must only look."""
        self._reads.append(read)

    def __iter__(self) -> Iterator[tuple[Labels, float]]:
        for read in self._reads:
            yield from read().items()


class Metrics(Collector):
    """The metrics of one runtime, in a registry of its own."""

    def __init__(self) -> None:
        self._cells = Cells()
        self._families: list[Callable[[], Metric]] = []
        self._about_requests()
        self._about_upstreams()
        self._about_stages()
        self._about_the_process()
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)  # CPU, memory and file descriptors, where /proc has them

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
            "gateway_breaker_state", "0 closed, 1 half-open, 2 open.", ("upstream", "target")
        )
        self.breaker_transitions = self._counters(
            "gateway_breaker_transitions_total", "Changes of a circuit's state.", ("upstream", "target", "to")
        )
        self.upstream_connections = self._gauge(
            "gateway_upstream_connections", "Connections to an upstream, busy or idle.", ("upstream", "state")
        )

    def _about_stages(self) -> None:
        self.auth = self._counters(
            "gateway_auth_total", "Credentials looked at, by provider and result.", ("provider", "result")
        )
        self.rate_limit_decisions = self._counters(
            "gateway_rate_limit_decisions_total",
            "Decisions of a rate limit policy.",
            ("route", "policy", "decision"),
        )
        self.store_duration = self._histograms(
            "gateway_store_duration_seconds",
            "Round trips to the shared store; one may carry many checks.",
            ("store",),
            STORE_SECONDS,
        )
        self.store_up = self._gauge("gateway_store_up", "1 while the store answers, else 0.", ("store",))
        self.store_errors = self._sampled_counter(
            "gateway_store_errors_total", "Checks that the store failed to answer in time.", ("store",)
        )
        self.fallbacks = self._counters(
            "gateway_fallbacks_total", "Replies made by a fallback.", ("route", "kind", "reason")
        )

    def _about_the_process(self) -> None:
        self.connections = self._gauge("gateway_connections", "Open client connections.", ("listener",))
        self.loop_lag = self._gauge(
            "gateway_loop_lag_seconds", "Longest delay of the event loop in the last 15 seconds.", ()
        )
        self.access_log_dropped = self._sampled_counter(
            "gateway_access_log_dropped_total", "Access-log lines dropped because their sink did not keep up.", ()
        )
        build = self._gauge("gateway_build_info", "Always 1; its labels tell the version.", ("version", "python"))
        build.read_from(lambda: {(__version__, platform.python_version()): 1.0})

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        for family in self._families:
            yield family()

    def _counters(self, name: str, help: str, labels: Labels) -> Counters:
        counters = Counters(self._cells)

        def family() -> Metric:
            made = CounterMetricFamily(name, help, labels=labels)
            for values, counter in counters:
                made.add_metric(values, counter.value)
            return made

        self._families.append(family)
        return counters

    def _histograms(self, name: str, help: str, labels: Labels, bounds: tuple[float, ...] = SECONDS) -> Histograms:
        histograms = Histograms(self._cells, bounds)
        upper = [*(str(bound) for bound in bounds), "+Inf"]

        def family() -> Metric:
            made = HistogramMetricFamily(name, help, labels=labels)
            for values, histogram in histograms:
                made.add_metric(values, _cumulated(upper, histogram.counts), histogram.sum)
            return made

        self._families.append(family)
        return histograms

    def _gauge(self, name: str, help: str, labels: Labels) -> Sampled:
        return self._sampled(GaugeMetricFamily, name, help, labels)

    def _sampled_counter(self, name: str, help: str, labels: Labels) -> Sampled:
        return self._sampled(CounterMetricFamily, name, help, labels)

    def _sampled(
        self, kind: type[GaugeMetricFamily] | type[CounterMetricFamily], name: str, help: str, labels: Labels
    ) -> Sampled:
        sampled = Sampled()

        def family() -> Metric:
            made = kind(name, help, labels=labels)
            for values, value in sampled:
                made.add_metric(values, value)
            return made

        self._families.append(family)
        return sampled


def _cumulated(upper: list[str], counts: list[float]) -> list[tuple[str, float]]:
    total = 0.0
    buckets = []
    for bound, count in zip(upper, counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
