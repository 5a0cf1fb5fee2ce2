"""Gives each request its trace, and decides which finished ones are worth recording.

Per request only ids are made and, after it, two numbers compared. Spans are made of its hops later, by the exporter.
A trace is recorded as its parent's flag says, or without one for a share of all trace ids: by the threshold of
OpenTelemetry's consistent sampling, so that others with the same share choose the same traces. What failed by
the gateway's or an upstream's fault, or took long, is recorded in any case.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Literal

from gateway.exchange import Call, Hop, Request
from gateway.tracing.context import RANDOMNESS, SPANS, TRACEPARENT, Context, Parent, parent_of
from gateway.tracing.spans import FAILURE, Finished, copied, finished

SWITCHED = 101
"""What a tunnel takes is as long as its client wants it: never slow."""

Put = Callable[[Finished], None]


class Tracer:
    """The traces of one runtime."""

    def __init__(
        self,
        put: Put,
        *,
        share: float,
        parent: Literal["always", "trusted", "never"],
        slow: float,
        paths: Mapping[str, str],
        bits: Callable[[int], int] | None = None,
    ) -> None:
        """`slow` is in seconds; `paths` are the patterns of routes, by their names."""
        self._put = put
        self._parent = parent
        self._slow = slow
        self._paths = paths
        self._threshold = round((1 - share) * RANDOMNESS)
        # Random numbers of its own, seeded by the system after the worker was forked: no system call per request.
        self._bits = bits if bits is not None else random.Random().getrandbits  # noqa: S311 ids are no secrets

    def begin(self, request: Request) -> Context:
        """The trace of a request that has just come."""
        if TRACEPARENT in request.fields.index:
            parent = parent_of(request.fields)
            if parent is not None:
                return self._part_of(parent, request)
        bits = self._bits(192)
        return Context("%032x" % (bits >> 64), bits % SPANS or 1, (bits >> 64) % RANDOMNESS >= self._threshold)

    def read(self, call: Call, status: int, sent: int, received: int, took: float, own: float) -> None:
        """Hand over the finished call if it is recorded. A `Reader` of the observer."""
        trace, error = call.trace, call.error
        if (
            isinstance(trace, Context)  # else it began before traces were switched on
            and (
                trace.sampled
                or status >= FAILURE
                or (took > self._slow and status != SWITCHED)
                or (error is not None and error.status >= FAILURE)
            )
            and call.request.method  # else it was never a request
        ):
            trace.recorded = True
            self._put(finished(call, trace, self._paths.get(call.route, ""), status, sent, received, took))

    def copied(self, copy: Call, way: Hop) -> None:
        """Hand over a copy that went to another upstream, if its original is recorded for sure."""
        if isinstance(copy.trace, Context) and copy.trace.sampled:
            self._put(copied(copy, copy.trace, way))

    def _part_of(self, parent: Parent, request: Request) -> Context:
        if self._parent == "always" or (self._parent == "trusted" and request.peer.trusted):
            sampled = parent.sampled
        else:
            sampled = int(parent.trace_id, 16) % RANDOMNESS >= self._threshold
        return Context(parent.trace_id, self._bits(63) or 1, sampled, parent.span_id, parent.state)
