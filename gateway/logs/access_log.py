"""The access log: one JSON object per request and line, or the same facts in another form (`render`).

What clients wrote goes through `text.py`, so that nobody can forge a line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any, Protocol

import orjson

from gateway.exchange import Call, Fields
from gateway.logs.text import ALWAYS_REDACTED, PATH_CAP, REDACTED, TEXT_CAP, path_of, subject, text

FIELDS = (
    *("time", "id", "trace_id", "client", "method", "path", "route", "version", "consumer", "provider"),
    *("status", "reason", "code", "duration_ms", "own_ms", "upstream", "target", "tries", "upstream_ms"),
    *("bytes_in", "bytes_out", "auth", "limit", "fallback", "user_agent", "headers", "sampled", "hops"),
)
"""Every line has all of them, in this order."""

Line = dict[str, Any]

Render = Callable[[Line, Call], bytes]
"""Makes the bytes of a line, its end included. May keep nothing: the next line is made in the same dict."""


class Sink(Protocol):
    """Where finished lines go."""

    def put(self, line: bytes) -> None:
        """Take a line, its end included. Never blocks."""


def as_json(line: Line, _: Call) -> bytes:
    """One JSON object."""
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


class AccessLog:
    """Makes the line for a finished call."""

    def __init__(
        self,
        sink: Sink,
        clock: Callable[[], float] = time.time,
        *,
        render: Render = as_json,
        headers: Callable[[Fields], dict[str, str | None]] | None = None,
        redacted: Collection[bytes] = ALWAYS_REDACTED,
    ) -> None:
        """`headers` tells which of the client's are logged, too; of `redacted` ones no value is ever shown."""
        self._put = sink.put
        self._clock = clock  # wall clock: a line says when its request ended
        self._render = render
        self._headers = headers
        self._hides_agent = b"user-agent" in redacted
        self._millisecond = -1
        # One dict for all lines: setting its values takes two thirds of the time of making it anew.
        self._line: Line = dict.fromkeys(FIELDS)

    def add(
        self, call: Call, status: int, sent: int, received: int, took: float, own: float, sampled: float | None = None
    ) -> None:
        """Write the line: durations come in seconds and are logged in milliseconds, to the microsecond.

        `sampled` is the share of such requests that have a line, None for all of them.
        """
        line, fields = self._line, call.request.fields
        millisecond = int(self._clock() * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            line["time"] = rfc3339(millisecond)
        _who_and_what(line, call)
        line["status"] = status
        if call.error is None:
            line["reason"] = call.reason or None
            line["code"] = None
        else:
            line["reason"] = line["code"] = call.error.code
        line["duration_ms"] = took * 1e6 // 1 / 1e3
        line["own_ms"] = own * 1e6 // 1 / 1e3
        line["bytes_in"] = received
        line["bytes_out"] = sent
        _on_its_way(line, call)
        agent = fields.index.get(b"user-agent")
        if agent is None:
            line["user_agent"] = None
        else:
            line["user_agent"] = REDACTED if self._hides_agent else text(agent, TEXT_CAP)
        if self._headers is not None:
            line["headers"] = self._headers(fields)
        line["sampled"] = sampled
        self._put(self._render(line, call))


def _who_and_what(line: Line, call: Call) -> None:
    caller, trace = call.caller, call.trace
    line["id"] = call.id
    line["trace_id"] = None if trace is None else trace.id
    line["client"] = call.client_ip
    line["method"] = call.request.method or None
    line["path"] = text(path_of(call), PATH_CAP)
    line["route"] = call.route or None
    line["version"] = call.version or None
    line["consumer"] = subject(caller.consumer) if caller.consumer else None
    line["provider"] = caller.provider or None


def _on_its_way(line: Line, call: Call) -> None:
    """What stages did with the call, each with when it began and how long it took."""
    target, begun = call.target, call.request.received
    upstream_took = 0.0
    auth = limit = fallback = None
    hops = []
    for stage, name, outcome, started, took, _ in call.hops:
        # To the microsecond. Tuples, since orjson takes no NamedTuple: a third of the time of objects with names.
        took_ms = took * 1e6 // 1 / 1e3
        hops.append((stage, name, outcome, (started - begun) * 1e6 // 1 / 1e3, took_ms))
        if stage == "try":
            upstream_took += took
        elif stage == "auth":
            auth = outcome
        elif stage == "limit":
            if limit is None or outcome != "allowed":  # of several the one that did not simply agree
                limit = outcome
        elif stage == "fallback":
            fallback = name
    line["upstream"] = None if target is None else target.upstream
    line["target"] = None if target is None else target.name
    line["tries"] = len(call.tried)
    line["upstream_ms"] = upstream_took * 1e6 // 1 / 1e3
    line["auth"] = auth
    line["limit"] = limit
    line["fallback"] = fallback
    line["hops"] = hops


def rfc3339(millisecond: int) -> str:
    """The UTC time of a wall clock's millisecond."""
    second, millisecond = divmod(millisecond, 1000)
    return f"{_to_the_second(second)}.{millisecond:03d}Z"


@lru_cache(2)
def _to_the_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
