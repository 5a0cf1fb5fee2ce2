"""Reads each finished call once, and counts and logs what its stages reported.

Runs for every request, so series are found once and kept: the memos' keys are made of configured names,
fixed lists and status codes only, which bounds them like the metrics themselves.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from gateway.errors import ClientGone
from gateway.exchange import Call
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tally import Counter, Histogram
from gateway.telemetry.usage import UsageCounter

METHODS = {name: name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE")}
"""RFC 9110 section 9.3 and RFC 5789; every other method is counted as "other"."""

FAILURE = 500
"""The status from which on a reply is a broken promise, whoever made it."""

UPSTREAM_STAGES = frozenset({"try", "connect", "wait", "withheld"})
"""Counted by upstream; the others by route."""

RequestSeries = tuple[Counter, Histogram, Histogram, Histogram, Counter, Counter, tuple[Counter, ...], "Latency | None"]
"""Requests, their duration, the time to the first byte, the gateway's own part, bytes in, bytes out; what else counts
every request of this kind; the objective for its latency."""

HopSeries = tuple[Counter | None, Histogram | None]

Reader = Callable[[Call, int, int, int, float, float], None]
"""Takes a finished call, its status, bytes sent and received, and seconds in all and of the gateway's own."""


class Objectives(NamedTuple):
    """What a route has promised."""

    availability: float | None
    """The share of requests that are answered without a failure."""
    latency: float | None
    """The share of those that are answered in time."""
    under: float
    """Seconds to the first byte of the reply: the time that counts as in time."""


class Latency(NamedTuple):
    """Requests that were answered in time, and those that were not."""

    under: float
    good: Counter
    bad: Counter


MOST_KINDS = 100_000
"""Kinds of hops that are remembered."""


class Observer:
    """Feeds the metrics of one runtime, and whoever else wants to read finished calls."""

    def __init__(
        self,
        metrics: Metrics,
        readers: Sequence[Reader] = (),
        usage: UsageCounter | None = None,
        retiring: Collection[tuple[str, str]] = (),
        objectives: Mapping[str, Objectives] = MappingProxyType({}),
    ) -> None:
        """`readers` see the call after it was counted. `retiring` are routes and their versions that go away: who
        still calls those is counted. `objectives` are by route.
        """
        self._metrics = metrics
        self._usage = usage
        self._readers = tuple(readers)
        self._retiring = frozenset(retiring)
        self._objectives = objectives
        self._requests: dict[tuple[str, str, str, int, str], RequestSeries] = {}
        self._hops: dict[tuple[str, str, str, str], HopSeries] = {}
        self._ended: dict[tuple[str, str], tuple[Counter, ...]] = {}

    def finished(self, call: Call, status: int, sent: int, received: int, took: float) -> None:
        """The reply went out, or its client left (`status` 499).

        `sent` and `received` are bytes of bodies, `took` is seconds since the head of the request.
        """
        route = call.route
        waited, first = self._count_hops(call, took)
        own = max(0.0, took - waited)  # clocks read a moment apart can leave less than nothing
        key = (route, call.version, METHODS.get(call.request.method, "other"), status, call.caller.label)
        found = self._requests.get(key) or self._new_request(key)
        requests, duration, first_byte, own_duration, bytes_in, bytes_out, others, latency = found
        requests.inc()
        for other in others:
            other.inc()
        duration.observe(took)
        first_byte.observe(first)
        if latency is not None:
            (latency.good if first <= latency.under else latency.bad).inc()
        own_duration.observe(own)
        if received:
            bytes_in.inc(received)
        if sent:
            bytes_out.inc(sent)
        if call.error is not None or call.reason:
            for counter in self._ended.get((route, call.ended_by)) or self._new_end(call):
                counter.inc()
        if self._usage is not None:
            self._usage.count(call, status, took)
        for read in self._readers:
            read(call, status, sent, received, took, own)

    def _count_hops(self, call: Call, took: float) -> tuple[float, float]:
        """Seconds that were spent waiting, and those to the first byte of the reply."""
        route, first, waits = call.route, took, 0.0
        for stage, name, outcome, started, hop_took, waited in call.hops:
            scope = _upstream(call, name) if stage in UPSTREAM_STAGES else route
            hop_key = (stage, scope, name, outcome)
            counter, histogram = self._hops.get(hop_key) or self._new_hop(hop_key)
            if counter is not None:
                counter.inc()
            elif stage == "stream":
                first = started - call.request.received
            if histogram is not None and hop_took:  # limits asked together share the first one's time
                histogram.observe(hop_took)
            if waited:
                waits += hop_took
        return waits, first

    def _new_end(self, call: Call) -> tuple[Counter, ...]:
        """What to count for a call that the gateway itself has ended."""
        route, reason, metrics = call.route or "none", call.ended_by, self._metrics
        counters: tuple[Counter, ...] = (metrics.ended.child(route, reason),)
        if call.error is not None and not isinstance(call.error, ClientGone):
            counters += (metrics.refusals.child(route, reason),)
        self._ended[call.route, reason] = counters
        return counters

    def _new_request(self, key: tuple[str, str, str, int, str]) -> RequestSeries:
        route, version, method, status, consumer = key
        route = route or "none"
        status_text = str(status) if class_of(status) != "other" else "other"
        metrics = self._metrics
        others, latency = self._promised(route, status)
        if (route, version) in self._retiring:
            others += (metrics.deprecated.child(route, version, consumer),)
        found = self._requests[key] = (
            metrics.requests.child(route, version, method, status_text, consumer),
            metrics.request_duration.child(route, method, class_of(status)),
            metrics.first_byte.child(route),
            metrics.own_duration.child(route),
            metrics.bytes.child(route, "in"),
            metrics.bytes.child(route, "out"),
            others,
            latency,
        )
        return found

    def _promised(self, route: str, status: int) -> tuple[tuple[Counter, ...], Latency | None]:
        """What a reply with this status means for what its route has promised: nothing when the client has left."""
        wanted = self._objectives.get(route)
        if wanted is None or status == ClientGone.status:
            return (), None
        count, failed = self._metrics.slo_requests.child, status >= FAILURE
        counters: tuple[Counter, ...] = ()
        if wanted.availability is not None:
            counters = (count(route, "availability", "bad" if failed else "good"),)
        if wanted.latency is None or failed:
            return counters, None
        return counters, Latency(wanted.under, count(route, "latency", "good"), count(route, "latency", "bad"))

    def _new_hop(self, key: tuple[str, str, str, str]) -> HopSeries:
        """What to count for a hop of this kind; nothing for a stage that is only logged."""
        stage, scope, name, outcome = key
        upstreams = stage in UPSTREAM_STAGES
        found = self._of_upstream(*key) if upstreams else self._of_route(stage, scope or "none", name, outcome)
        if len(self._hops) >= MOST_KINDS:  # targets that the DNS brought, and took away again
            self._hops.clear()
        self._hops[key] = found
        return found

    def _of_upstream(self, stage: str, scope: str, name: str, outcome: str) -> HopSeries:
        metrics = self._metrics
        match stage:
            case "try":
                target = metrics.named(name)
                return metrics.attempts.child(scope, target, outcome), metrics.upstream_duration.child(scope, target)
            case "connect":
                return None, metrics.connect_duration.child(scope)
            case "wait" if outcome != "abandoned":  # the client left during the wait: no try followed
                return metrics.retries.child(scope, name), None
            case "withheld":
                return metrics.retries_withheld.child(scope, name), None
        return None, None

    def _of_route(self, stage: str, route: str, name: str, outcome: str) -> HopSeries:
        metrics = self._metrics
        match stage:
            case "concurrency":
                return None, metrics.queue_duration.child("route", name, outcome)
            case "upstream_concurrency":
                return None, metrics.queue_duration.child("upstream", name, outcome)
            case "limit":
                return metrics.rate_limit_decisions.child(route, name, outcome), None
            case "shed":
                return metrics.shed.child(route, outcome), None
            case "auth":
                return metrics.auth.child(name, outcome), None
            case "fallback":
                return metrics.fallbacks.child(route, name, outcome), None
            case "hedge":
                return metrics.hedges.child(name, outcome), None
            case "split":
                return metrics.splits.child(route, name), None
            case "fault":
                return metrics.faults.child(route, outcome), None
            case "idempotency" if name == "begin":
                return metrics.idempotency.child(route, outcome), None
        return None, None


def class_of(status: int) -> str:
    """`2xx` and such; `other` for what is no status."""
    return f"{status // 100}xx" if 100 <= status <= 599 else "other"


def _upstream(call: Call, name: str) -> str:
    """The upstream of a hop: that of the target it names, else (waits name a reason) of the last one."""
    last = call.target
    if last is None:
        return ""
    if last.name != name:
        for target in call.tried:
            if target.name == name:
                return target.upstream
    return last.upstream
