"""What is kept of a finished call for its trace, and the spans that are made of it: OTLP in its JSON mapping. Pure.

A SERVER span for the request, a CLIENT span for each try, and one for every other hop. Names are those of
OpenTelemetry's semantic conventions for HTTP (stable), and `gateway.*` for what only a gateway has. Query strings
are left out: they carry tokens. So is `url.full`, which would have to tell them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
from orjson import Fragment

from gateway.exchange import Call, Hop
from gateway.logs.text import path_of, text
from gateway.tracing.context import Context, hop_span, try_span

INTERNAL, SERVER, CLIENT = 1, 2, 3
"""SpanKind (opentelemetry/proto/trace/v1/trace.proto)."""

ERROR: dict[str, object] = {"code": 2}
"""Status.StatusCode."""

METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"))
"""Every other one is `_OTHER`, so that nobody can make up names of spans."""

CAP = 256
"""Characters of a text that a client wrote; of a path four times as many."""

GONE = 499
"""The log's status for clients that left: nothing of it was ever sent."""

FAILURE = 500
"""The status from which on it is not the caller's fault."""

UNREMARKABLE = frozenset(("cancelled", "ok"))
"""Outcomes of tries without a status that are nobody's failure: another one won, or the client left."""

Span = dict[str, Any]


Kind = tuple[tuple[str, str | int | None], ...]


class Finished(NamedTuple):
    """A finished call as its trace needs it: texts and numbers, nothing that holds bodies or connections."""

    trace: Context
    name: str
    started: float
    """Monotonic seconds."""
    took: float
    hops: tuple[Hop, ...]
    upstreams: Mapping[str, str]
    """Of the targets that were tried."""
    method: str
    kind: Kind
    """What the span of the request says that many others say, too."""
    told: tuple[tuple[str, object], ...]
    """What it says besides."""
    error: str
    """`error.type`; "" for a call that ended well."""
    copy: bool = False
    """A copy for another upstream, within the trace of its original."""

    @property
    def size(self) -> int:
        """How many spans it makes."""
        return len(self.hops) + 1


def finished(call: Call, trace: Context, pattern: str, status: int, sent: int, received: int, took: float) -> Finished:
    """Keep what the trace of `call` needs; `pattern` is its route's path."""
    error, method = call.error, _method(call)
    failed = status >= FAILURE or (error is not None and error.status >= FAILURE)
    word = "HTTP" if method == "_OTHER" else method
    return Finished(
        trace,
        f"{word} {pattern}" if pattern else word,
        call.request.received,
        took,
        tuple(call.hops),
        {target.name: target.upstream for target in call.tried},
        method,
        _kind(call, method, pattern, status),
        _told(call, method, sent, received),
        "" if not failed else error.code if error is not None else str(status),
    )


def copied(copy: Call, trace: Context, way: Hop) -> Finished:
    """Keep what is to be told of a copy that has come to its end; `way` is all of it."""
    upstreams = {target.name: target.upstream for target in copy.tried}
    kind, told = (("gateway.name", way.name),), (("gateway.outcome", way.outcome),)
    hops = tuple(copy.hops)
    return Finished(trace, _name(way), way.started, way.took, hops, upstreams, _method(copy), kind, told, "", True)


def _told(call: Call, method: str, sent: int, received: int) -> tuple[tuple[str, object], ...]:
    """What differs from one request to the next."""
    request = call.request
    agent = request.fields.index.get(b"user-agent")
    return (
        ("http.request.method_original", request.method[:CAP] if method == "_OTHER" else None),
        ("url.path", text(path_of(call), 4 * CAP)),
        ("client.address", call.client_ip),
        ("network.peer.address", request.peer.address),
        ("server.address", text(call.host, CAP)),
        ("user_agent.original", None if agent is None else text(agent, CAP)),
        ("http.request.body.size", received),
        ("http.response.body.size", sent),
        ("gateway.request_id", call.id),
    )


def _kind(call: Call, method: str, pattern: str, status: int) -> Kind:
    """What many requests have in common."""
    return (
        ("http.request.method", method),
        ("http.route", pattern),
        ("http.response.status_code", status if status != GONE else None),
        ("url.scheme", call.scheme),
        ("network.protocol.version", call.request.fields.version),
        ("gateway.route", call.route),
        ("gateway.version", call.version),
        ("gateway.consumer", call.caller.label),
        ("gateway.reason", call.ended_by),
    )


def _method(call: Call) -> str:
    return call.request.method if call.request.method in METHODS else "_OTHER"


def spans_of(call: Finished, offset: int) -> list[Span]:
    """Its spans, the request's own first. `offset` is what a monotonic clock lacks to Unix time, in nanoseconds."""
    trace = call.trace
    # A copy's own ids must not be those of its original's hops: they follow from when it began, like those of tries.
    own = try_span(trace.span, call.started) if call.copy else trace.span
    start = int(call.started * 1e9) + offset
    span = _span(trace, own, f"{trace.span:016x}" if call.copy else trace.parent, call.name, start, call.took)
    span["kind"] = INTERNAL if call.copy else SERVER
    failed = (("error.type", call.error),) if call.error else ()
    others = orjson.dumps(_attributes((*call.told, *failed)))
    span["attributes"] = Fragment(_told_kind(call.kind) + others[1:])
    if failed:
        span["status"] = ERROR
    spans, parent = [span], f"{own:016x}"
    order = sorted(hop.started for hop in call.hops if hop.stage == "try")
    for number, hop in enumerate(call.hops):
        start = int(hop.started * 1e9) + offset
        if hop.stage == "try":
            made = _span(trace, try_span(trace.span, hop.started), parent, "", start, hop.took)
            _tell_try(made, call, hop, order.index(hop.started))
        else:
            above = parent if hop.stage != "connect" else f"{try_span(trace.span, hop.started):016x}"
            made = _span(trace, hop_span(own, number), above, _name(hop), start, hop.took)
            made["kind"] = CLIENT if hop.stage == "ask" or (hop.stage == "limit" and hop.waited) else INTERNAL
            made["attributes"] = _told_hop(hop.name, hop.outcome)
        spans.append(made)
    return spans


def _span(trace: Context, id: int, parent: str, name: str, start: int, took: float) -> Span:
    span: Span = {
        "traceId": trace.id,
        "spanId": f"{id:016x}",
        "name": name,
        # 64-bit numbers are texts in the JSON mapping of Protobuf.
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + int(took * 1e9)),
        "flags": 1 if trace.sampled else 0,
    }
    if parent:
        span["parentSpanId"] = parent
    if trace.state:
        span["traceState"] = trace.state.decode("ascii")
    return span


def _tell_try(span: Span, call: Finished, hop: Hop, number: int) -> None:
    span["name"] = "HTTP" if call.method == "_OTHER" else call.method
    span["kind"] = CLIENT
    span["attributes"], failed = _told_try(call.method, hop.name, call.upstreams.get(hop.name), hop.outcome, number)
    if failed:
        span["status"] = ERROR


@lru_cache(4096)
def _told_kind(kind: Kind) -> bytes:
    """An array that is still open."""
    return orjson.dumps(_attributes(kind))[:-1] + b","


@lru_cache(4096)
def _told_hop(name: str, outcome: str) -> Fragment:
    return Fragment(orjson.dumps(_attributes((("gateway.name", name), ("gateway.outcome", outcome)))))


@lru_cache(4096)
def _told_try(method: str, target: str, upstream: str | None, outcome: str, number: int) -> tuple[Fragment, bool]:
    """The attributes of a try, which are nearly always those of one before; and whether it failed."""
    host, port = _address(target)
    status = int(outcome) if outcome.isdigit() else None
    failed = status >= FAILURE if status is not None else outcome not in UNREMARKABLE
    told = _attributes(
        (
            ("http.request.method", method),
            ("http.response.status_code", status),
            ("error.type", outcome if failed else None),
            ("http.request.resend_count", number or None),
            ("network.protocol.version", "1.1"),
            ("server.address", host),
            ("server.port", port),
            ("gateway.upstream", upstream),
            ("gateway.target", target),
            ("gateway.outcome", outcome),
        )
    )
    return Fragment(orjson.dumps(told)), failed


def _attributes(told: tuple[tuple[str, object], ...]) -> list[dict[str, object]]:
    """Those that have a value."""
    return [
        {"key": key, "value": {"stringValue": value} if value.__class__ is str else {"intValue": str(value)}}
        for key, value in told
        if value is not None and value != ""
    ]


def _name(hop: Hop) -> str:
    # The name of a connect is its target's address, which its parent tells already.
    return f"{hop.stage} {hop.name}" if hop.name and hop.stage != "connect" else hop.stage


def _address(target: str) -> tuple[str, int | None]:
    """Host and port of a target's URL."""
    parts = urlsplit(target)
    return parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
