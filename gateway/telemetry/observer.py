"""Reads each finished call once, and counts and logs what its stages reported.

Runs for every request, so series are found once and kept: the memos' keys are made of configured names,
fixed lists and status codes only, which bounds them like the metrics themselves.
"""

from collections.abc import Collection

from gateway.errors import ClientGone
from gateway.exchange import Call
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tally import Counter, Histogram
from gateway.telemetry.usage import UsageCounter

METHODS = {name: name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE")}
"""RFC 9110 section 9.3 and RFC 5789; every other method is counted as "other"."""

UPSTREAM_STAGES = frozenset({"try", "connect", "wait", "withheld"})
"""Counted by upstream; the others by route."""

RequestSeries = tuple[Counter, Histogram, Histogram, Counter, Counter, Counter | None]
"""Requests, their duration, the gateway's own part of it, bytes in, bytes out; those for a version that goes away."""

HopSeries = tuple[Counter | None, Histogram | None]


MOST_KINDS = 100_000
"""Kinds of hops that are remembered."""


class Observer:
    """Feeds the metrics and the access log of one runtime."""

    def __init__(
        self,
        metrics: Metrics,
        access_log: AccessLog | None = None,
        usage: UsageCounter | None = None,
        retiring: Collection[tuple[str, str]] = (),
    ) -> None:
        """`retiring` are routes and their versions that go away: who still calls those is counted."""
        self._metrics = metrics
        self._usage = usage
        self._access_log = access_log
        self._retiring = frozenset(retiring)
        self._requests: dict[tuple[str, str, str, int, str], RequestSeries] = {}
        self._hops: dict[tuple[str, str, str, str], HopSeries] = {}
        self._refusals: dict[tuple[str, str], Counter] = {}

    def finished(self, call: Call, status: int, sent: int, received: int, took: float) -> None:
        """The reply went out, or its client left (`status` 499).

        `sent` and `received` are bytes of bodies, `took` is seconds since the head of the request.
        """
        route = call.route
        own = took
        for stage, name, outcome, _, hop_took, waited in call.hops:
            scope = _upstream(call, name) if stage in UPSTREAM_STAGES else route
            hop_key = (stage, scope, name, outcome)
            counter, histogram = self._hops.get(hop_key) or self._new_hop(hop_key)
            if counter is not None:
                counter.inc()
            if histogram is not None and hop_took:  # limits asked together share the first one's time
                histogram.observe(hop_took)
            if waited:
                own -= hop_took
        own = max(0.0, own)  # clocks read a moment apart can leave less than nothing
        key = (route, call.version, METHODS.get(call.request.method, "other"), status, call.caller.label)
        found = self._requests.get(key) or self._new_request(key)
        requests, duration, own_duration, bytes_in, bytes_out, deprecated = found
        requests.inc()
        if deprecated is not None:
            deprecated.inc()
        duration.observe(took)
        own_duration.observe(own)
        if received:
            bytes_in.inc(received)
        if sent:
            bytes_out.inc(sent)
        if call.error is not None and not isinstance(call.error, ClientGone):
            self._count_refusal(route, call.error.code)
        if self._usage is not None:
            self._usage.count(call, status, took)
        if self._access_log is not None:
            self._access_log.add(call, status, sent, received, took, own)

    def _count_refusal(self, route: str, code: str) -> None:
        counter = self._refusals.get((route, code))
        if counter is None:
            counter = self._refusals[route, code] = self._metrics.refusals.child(route or "none", code)
        counter.inc()

    def _new_request(self, key: tuple[str, str, str, int, str]) -> RequestSeries:
        route, version, method, status, consumer = key
        route = route or "none"
        known = 100 <= status <= 599
        status_text = str(status) if known else "other"
        status_class = f"{status // 100}xx" if known else "other"
        metrics = self._metrics
        found = self._requests[key] = (
            metrics.requests.child(route, version, method, status_text, consumer),
            metrics.request_duration.child(route, method, status_class),
            metrics.own_duration.child(route),
            metrics.bytes.child(route, "in"),
            metrics.bytes.child(route, "out"),
            metrics.deprecated.child(route, version, consumer) if (route, version) in self._retiring else None,
        )
        return found

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
