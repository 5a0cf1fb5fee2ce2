"""Numbers in cells -> what prometheus-client prints."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from math import isnan

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.telemetry.tally import Family, Labels

BUILD_INFO = Family("gateway_build_info", "gauge", "Always 1; its labels tell the version.", ("version", "python"))


def registry_of(collector: Collector) -> CollectorRegistry:
    """A registry of its own for one collector."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry


def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """What `registry` says in the form that an Accept header asks for, and its content type. Takes its time."""
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def family_of(family: Family, series: Mapping[Labels, list[float]]) -> Metric:
    """The metric with all its series: one cell each, a histogram's as in `tally.Histogram`."""
    if family.kind == "histogram":
        return _histogram(family, series)
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    made = kind(family.name, family.help, labels=family.labels)
    for labels, (value,) in series.items():
        if not isnan(value):  # a gauge that is not there now
            made.add_metric(labels, value)
    return made


def build_info() -> Metric:
    """Which gateway this is."""
    return family_of(BUILD_INFO, {(__version__, platform.python_version()): [1.0]})


def _histogram(family: Family, series: Mapping[Labels, list[float]]) -> Metric:
    made = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    upper = [*(str(bound) for bound in family.bounds), "+Inf"]
    for labels, (total, *counts) in series.items():
        made.add_metric(labels, _cumulated(upper, counts), total)
    return made


def _cumulated(upper: list[str], counts: list[float]) -> list[tuple[str, float]]:
    total = 0.0
    buckets = []
    for bound, count in zip(upper, counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
