"""What a scrape is answered: the format that it asks for, compressed or not; and the metrics for prometheus-client."""

from __future__ import annotations

import gc
import platform
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, zip_longest
from math import isnan

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.core import Exemplar as ClientExemplar
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.telemetry.exemplars import Exemplar
from gateway.telemetry.rendering import Reading, Renderer, upper_bounds
from gateway.telemetry.tally import Family, Labels
from gateway.transform.accept_encoding import choose

BUILD_INFO = Family("gateway_build_info", "gauge", "Always 1; its labels tell the version.", ("version", "python"))

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

FASTEST = 1
"""gzip's level: 10 MB become 640 KB in 35 ms; level 6 takes three times as long for 510 KB."""

SWITCH = 0.0005
"""Seconds after which the thread of a scrape lets the loop's thread go on; Python's own 5 ms would add up."""


class Scrape:
    """Answers everybody who scrapes one source of metrics."""

    def __init__(self, source: Callable[[], Iterable[Reading]]) -> None:
        self._source = source
        self._renderer = Renderer()
        self._giving_way = GivingWay()

    def answer(self, accept: str, accept_encoding: str = "") -> tuple[bytes, dict[str, str]]:
        """The body and its headers, as Accept and Accept-Encoding ask. Takes its time: to be called in a thread."""
        openmetrics = asks_for_openmetrics(accept)
        headers = {"Content-Type": OPENMETRICS if openmetrics else TEXT, "Vary": "Accept, Accept-Encoding"}
        with self._giving_way():
            pieces = self._renderer.render(self._source(), openmetrics)
            if choose(accept_encoding.encode(errors="replace"), [b"gzip"]):
                headers["Content-Encoding"] = "gzip"
                pieces = _compressed(pieces)
            return b"".join(pieces), headers


class GivingWay:
    """While one of its threads is at work, threads let each other go on often, and nobody collects garbage.

    A scrape makes tens of thousands of small objects and no cycles: looking through them all took a fifth of its time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._before = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._count == 0:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(SWITCH)
                gc.disable()
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                if self._count == 0:
                    sys.setswitchinterval(self._before)
                    gc.enable()


def asks_for_openmetrics(accept: str) -> bool:
    """Whether it is the first of the two formats that an Accept header names: weights follow this order."""
    for element in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in element.split(";"))
        versions = [part.removeprefix("version=") for part in parameters if part.startswith("version=")]
        if kind == "application/openmetrics-text" and not any(version.startswith("0.") for version in versions):
            return True
        if kind == "text/plain":
            return False
    return False


def _compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """In gzip's format; the interpreter is free while a piece is compressed."""
    gzip = zlib.compressobj(FASTEST, wbits=31)
    for piece in pieces:
        yield gzip.compress(piece)
    yield gzip.flush()


# -- for prometheus-client ---------------------------------------------------------------------------


def registry_of(collector: Collector) -> CollectorRegistry:
    """A registry of its own for one collector."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry


def family_of(
    family: Family,
    series: Mapping[Labels, list[float]],
    exemplars: Mapping[Labels, Sequence[Exemplar | None]] | None = None,
) -> Metric:
    """The metric with all its series: one cell each, a histogram's as in `tally.Histogram`."""
    if family.kind == "histogram":
        return _histogram(family, series, exemplars or {})
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    made = kind(family.name, family.help, labels=family.labels)
    for labels, (value,) in series.items():
        if not isnan(value):  # a gauge that is not there now
            made.add_metric(labels, value)
    return made


def build_info() -> Reading:
    """Which gateway this is."""
    return Reading(BUILD_INFO, {(__version__, platform.python_version()): [1.0]})


def _histogram(
    family: Family, series: Mapping[Labels, list[float]], exemplars: Mapping[Labels, Sequence[Exemplar | None]]
) -> Metric:
    made = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    upper = upper_bounds(family)
    for labels, (total, *counts) in series.items():
        made.add_metric(
            labels,
            [
                (bound, count) if found is None else (bound, count, _for_client(found))
                for bound, count, found in zip_longest(upper, accumulate(counts), exemplars.get(labels, ()))
            ],
            total,
        )
    return made


def _for_client(exemplar: Exemplar) -> ClientExemplar:
    return ClientExemplar({"trace_id": exemplar.trace_id}, exemplar.value, exemplar.at)
