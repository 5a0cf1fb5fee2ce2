"""From the configuration to the observer: who reads finished calls besides, and what routes have promised."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping

from gateway.config.model import Config
from gateway.exchange import Call
from gateway.logs.access_log import Sink
from gateway.logs.configured import access_log
from gateway.telemetry.exemplars import Exemplars
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observer import METHODS, Objectives, Observer, Reader, class_of
from gateway.telemetry.reports import Reports
from gateway.telemetry.tally import Readings
from gateway.telemetry.usage import UsageCounter
from gateway.tracing.tracer import Tracer


def observer(
    config: Config,
    metrics: Metrics,
    *,
    log: Sink | None,
    tracer: Tracer | None,
    reports: Reports | None,
    usage: UsageCounter,
    retiring: Collection[tuple[str, str]],
    promised: Mapping[str, Objectives],
) -> Observer:
    """`log` takes the lines of the access log; `retiring` are routes and their versions that go away."""
    readers: list[Reader | None] = [
        # The tracer has the last word on what is recorded, and the log tells which trace that was.
        tracer.read if tracer is not None else None,
        exemplary(metrics.exemplars) if tracer is not None else None,
        access_log(config, log) if log is not None else None,
        reports.read if reports is not None else None,
    ]
    for route, slo in shares(promised):
        for result in ("good", "bad"):  # both, before anything happens: no rate sees a series begin
            metrics.slo_requests.child(route, slo, result)
    return Observer(
        metrics,
        [read for read in readers if read is not None],
        usage if config.usage is not None else None,
        retiring,
        promised,
    )


def exemplary(exemplars: Exemplars, wall: Callable[[], float] = time.time) -> Reader:
    """Notes recorded calls as exemplars of their durations; `exemplars` are those of whole requests."""

    def read(call: Call, status: int, sent: int, received: int, took: float, own: float) -> None:
        trace = call.trace
        if trace is not None and trace.recorded:
            labels = (call.route or "none", METHODS.get(call.request.method, "other"), class_of(status))
            exemplars.note(labels, took, trace.id, wall())

    return read


def objectives(config: Config) -> dict[str, Objectives]:
    """By route, of those that promise something."""
    promised = {}
    for route in config.routes:
        if route.slo is not None:
            latency = route.slo.latency
            share, under = (latency.p, latency.under) if latency is not None else (None, 0.0)
            promised[route.name] = Objectives(route.slo.availability, share, under)
    return promised


def shares(promised: Mapping[str, Objectives]) -> Readings:
    """What gateway_slo_objective says."""

    def each() -> Iterator[tuple[tuple[str, ...], float]]:
        for route, (availability, latency, _) in promised.items():
            if availability is not None:
                yield (route, "availability"), availability
            if latency is not None:
                yield (route, "latency"), latency

    return dict(each())
