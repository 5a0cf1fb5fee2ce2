"""The state of the whole instance, as the dashboard and `gateway top` show it, from two readings. Pure.

Counters run since the start of the instance. Rates (per second), shares of errors (0 to 1) and percentiles are those
of the time between the two readings; a percentile without observations is None. Lists are bounded: what is in trouble
stays, then the busiest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

from gateway.telemetry.reading import (
    CIRCUIT,
    CONNECTIONS,
    DURATION,
    IN_USE,
    LISTENERS,
    LOOP_LAG,
    OBJECTIVE,
    OWN,
    PAUSED,
    TRY_DURATION,
    Buckets,
    Counts,
    Gauge,
    Reading,
    Timed,
    added,
)

MOST = 200
"""Entries of a list: more than anybody looks at, and a tenth of a megabyte each second."""

MOST_TARGETS = 50
"""Of one upstream."""

STATES = ("closed", "half-open", "open")
"""By the value of gateway_breaker_state."""

NO_TRAFFIC = Timed()
NO_COUNTS = Counts()


class Target(NamedTuple):
    """What the operator process knows about a target without asking the workers."""

    url: str
    healthy: bool
    """As probes found it."""
    held: bool
    """Operators hold its circuit open."""


class Upstream(NamedTuple):
    """As configured, with the targets that discovery has found."""

    targets: Sequence[Target]
    circuits: bool
    ejects: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """What there is, whether anybody asks for it or not."""

    routes: Mapping[str, Sequence[str]]
    """The upstreams of each route."""
    upstreams: Mapping[str, Upstream]
    bounds: Mapping[str, Sequence[float]]
    """Of the buckets of each histogram."""


def state(before: Reading, now: Reading, seconds: float, layout: Layout) -> dict[str, Any]:
    """All that follows from counters and gauges; `before` is `seconds` older than `now`."""
    look = _Look(before, now, max(seconds, 1e-3), layout)
    shown = {
        "routes": (look.route, look.busiest_routes()),
        "upstreams": (look.upstream, look.busiest_upstreams()),
        "consumers": (look.consumer, look.busiest_consumers()),
    }
    return {
        "totals": look.totals(),
        "statuses": {name: round(count) for name, count in sorted(now.statuses.items())},
        "reasons": look.reasons()[:MOST],
        "slo": look.slo()[:MOST],
        **{kind: [tell(name) for name in names[:MOST]] for kind, (tell, names) in shown.items()},
        "more": {kind: max(0, len(names) - MOST) for kind, (_, names) in shown.items()},
    }


def listeners(now: Reading) -> dict[str, int]:
    """Open client connections by listener."""
    return {labels[0]: round(value) for labels, value in sorted(now.gauges.get(LISTENERS, {}).items())}


def loop_lag(now: Reading) -> float | None:
    """Of the slowest worker, in milliseconds."""
    value = now.gauges.get(LOOP_LAG, {}).get(())
    return None if value is None else round(value * 1000, 3)


def quantile(share: float, bounds: Sequence[float], buckets: Sequence[float]) -> float | None:
    """As histogram_quantile of Prometheus: linear within a bucket, above it the highest bound. share > 0."""
    cumulated = list(accumulate(buckets))
    if not cumulated or cumulated[-1] <= 0:
        return None
    rank = share * cumulated[-1]
    place = next(index for index, count in enumerate(cumulated) if count >= rank)
    if place == len(bounds):
        return bounds[-1]
    lower = bounds[place - 1] if place else 0.0
    below = cumulated[place - 1] if place else 0.0
    return lower + (bounds[place] - lower) * (rank - below) / buckets[place]


class _Look:
    """Two readings side by side."""

    def __init__(self, before: Reading, now: Reading, seconds: float, layout: Layout) -> None:
        self._before = before
        self._now = now
        self._seconds = seconds
        self._layout = layout

    def totals(self) -> dict[str, Any]:
        now, before = self._now, self._before
        said = self._timed(DURATION, _sum(now.routes.values()), _sum(before.routes.values()))
        return {
            **said,
            "ended": round(sum(now.ended.values())),
            "bytes_in": round(now.bytes_in),
            "bytes_out": round(now.bytes_out),
        }

    def busiest_routes(self) -> list[str]:
        """Those that are configured, and those that were."""
        known = self._now.routes
        names = [*self._layout.routes, *(name for name in known if name not in self._layout.routes)]
        busiest = _busiest(names, _requests(known), _requests(self._before.routes))
        return _cut(busiest, lambda name: _failed(known, name) > _failed(self._before.routes, name))

    def busiest_upstreams(self) -> list[str]:
        # Of all upstreams one that is out of use gets the least traffic.
        return _cut(_busiest(self._layout.upstreams, _tries(self._now), _tries(self._before)), self._in_trouble)

    def busiest_consumers(self) -> list[str]:
        now, before = self._now.consumers, self._before.consumers
        counted = {name: counts.requests for name, counts in now.items()}
        return _busiest(now, counted, {name: counts.requests for name, counts in before.items()})

    def consumer(self, name: str) -> dict[str, Any]:
        now, before = self._now.consumers[name], self._before.consumers.get(name, NO_COUNTS)
        return {
            "name": name,
            "requests": round(now.requests),
            "rate": self._rate(now.requests, before.requests),
            "errors": round(now.errors),
            "refused": round(now.refused),
        }

    def reasons(self) -> list[dict[str, Any]]:
        before = self._before.ended
        said = [
            {"route": route, "reason": reason, "count": round(count), "rate": self._rate(count, before.get(place, 0.0))}
            for place, count in self._now.ended.items()
            for route, reason in [place]
            if count
        ]
        return sorted(said, key=lambda each: (-each["rate"], -each["count"]))

    def slo(self) -> list[dict[str, Any]]:
        """Those that are kept worst first."""
        counted = self._now.slo
        said = [
            {
                "route": route,
                "slo": slo,
                "objective": objective,
                "good": round(counted.get((route, slo, "good"), 0.0)),
                "bad": round(counted.get((route, slo, "bad"), 0.0)),
            }
            for (route, slo), objective in sorted(self._now.gauges.get(OBJECTIVE, {}).items())
        ]
        return sorted(said, key=_spent, reverse=True)

    def route(self, name: str) -> dict[str, Any]:
        now, before = self._now.routes.get(name, NO_TRAFFIC), self._before.routes.get(name, NO_TRAFFIC)
        own = quantile(0.99, self._layout.bounds[OWN], _grown(now.own, before.own))
        return {
            "name": name,
            **self._timed(DURATION, now, before),
            "own_p99_ms": _milliseconds(own),
            "upstreams": list(self._layout.routes.get(name, ())),
        }

    def upstream(self, name: str) -> dict[str, Any]:
        upstream, gauges = self._layout.upstreams[name], self._now.gauges
        now, before = self._now.tries.get(name, {}), self._before.tries.get(name, {})
        tries = self._timed(TRY_DURATION, _sum(now.values()), _sum(before.values()))
        targets = [self._target(name, upstream, target) for target in upstream.targets]
        if len(targets) > MOST_TARGETS:  # those in trouble stay
            targets.sort(key=_fine)
        connections = gauges.get(CONNECTIONS, {})
        return {
            "name": name,
            **{key: tries[key] for key in ("rate", "error_rate", "p99_ms")},
            "retries": round(self._now.retries.get(name, 0.0)),
            "paused": round(gauges.get(PAUSED, {}).get((name,), 0.0), 1),
            "connections": {kind: round(connections.get((name, kind), 0.0)) for kind in ("busy", "idle")},
            "targets": targets[:MOST_TARGETS],
            "more": max(0, len(targets) - MOST_TARGETS),
        }

    def _in_trouble(self, name: str) -> bool:
        upstream = self._layout.upstreams[name]
        return not all(_fine(self._standing(name, upstream, target)) for target in upstream.targets)

    def _standing(self, name: str, upstream: Upstream, target: Target) -> dict[str, Any]:
        place, gauges = (name, target.url), self._now.gauges
        in_use = gauges.get(IN_USE, {}).get(place)
        return {
            "circuit": _circuit(gauges.get(CIRCUIT, {}), place) if upstream.circuits else None,
            "held": target.held,
            "healthy": target.healthy,
            # Workers do not use it although probes find it well: then at least one of them has set it aside.
            "ejected": upstream.ejects and target.healthy and in_use == 0.0,
        }

    def _target(self, name: str, upstream: Upstream, target: Target) -> dict[str, Any]:
        now, before = self._now.tries.get(name, {}), self._before.tries.get(name, {})
        tries = self._timed(TRY_DURATION, now.get(target.url, NO_TRAFFIC), before.get(target.url, NO_TRAFFIC))
        return {
            "url": target.url,
            **self._standing(name, upstream, target),
            **{key: tries[key] for key in ("rate", "error_rate", "p99_ms")},
        }

    def _timed(self, metric: str, now: Timed, before: Timed) -> dict[str, Any]:
        bounds, grown = self._layout.bounds[metric], _grown(now.durations, before.durations)
        requests = now.counts.requests - before.counts.requests
        errors = now.counts.errors - before.counts.errors
        return {
            "requests": round(now.counts.requests),
            "errors": round(now.counts.errors),
            "refused": round(now.counts.refused),
            "rate": round(requests / self._seconds, 2),
            "error_rate": round(errors / requests, 4) if requests else 0.0,
            "p50_ms": _milliseconds(quantile(0.5, bounds, grown)),
            "p95_ms": _milliseconds(quantile(0.95, bounds, grown)),
            "p99_ms": _milliseconds(quantile(0.99, bounds, grown)),
        }

    def _rate(self, now: float, before: float) -> float:
        return round((now - before) / self._seconds, 2)


def _busiest(names: Iterable[str], now: Mapping[str, float], before: Mapping[str, float]) -> list[str]:
    """Most since `before` first, then most ever; without traffic the order stays as it is."""

    def use(name: str) -> tuple[float, float]:
        counted = now.get(name, 0.0)
        return before.get(name, 0.0) - counted, -counted

    return sorted(names, key=use)


def _cut(busiest: list[str], in_trouble: Callable[[str], bool]) -> list[str]:
    """Where not all can be told, those in trouble come first."""
    return busiest if len(busiest) <= MOST else sorted(busiest, key=in_trouble, reverse=True)


def _failed(routes: Mapping[str, Timed], name: str) -> float:
    return routes.get(name, NO_TRAFFIC).counts.errors


def _spent(slo: Mapping[str, Any]) -> float:
    """The share of what may go wrong that has, as near as it matters for an order."""
    return float(slo["bad"] / max((slo["good"] + slo["bad"]) * (1.0 - slo["objective"]), 1e-9))


def _requests(routes: Mapping[str, Timed]) -> dict[str, float]:
    return {name: timed.counts.requests for name, timed in routes.items()}


def _tries(reading: Reading) -> dict[str, float]:
    return {name: sum(_requests(targets).values()) for name, targets in reading.tries.items()}


def _fine(target: Mapping[str, Any]) -> bool:
    well = target["healthy"] and not target["ejected"] and not target["held"]
    return well and target["circuit"] in (None, "closed")


def _sum(parts: Iterable[Timed]) -> Timed:
    total = Timed()
    for part in parts:
        total.counts.requests += part.counts.requests
        total.counts.errors += part.counts.errors
        total.counts.refused += part.counts.refused
        total.durations = added(total.durations, part.durations)
    return total


def _grown(now: Buckets, before: Buckets) -> Buckets:
    return [one - other for one, other in zip(now, before, strict=True)] if before else now


def _circuit(gauge: Gauge, place: tuple[str, str]) -> str | None:
    value = gauge.get(place)
    return None if value is None else STATES[int(value)]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
