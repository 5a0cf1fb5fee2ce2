"""The access log: one JSON object per request and line.

What clients wrote is capped and escaped, so nobody can forge a line or fill the disk with one request. Query
strings are left out: they carry tokens and personal data.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Protocol

import orjson

from gateway.exchange import Call
from gateway.routing.path import normalise

PATH_CAP = 1024
SEGMENT = re.compile(rb"/[A-Za-z0-9_-][A-Za-z0-9._-]*")
TEXT_CAP = 200
"""For a user agent or a subject: long enough for the real ones."""


class Sink(Protocol):
    """Where finished lines go."""

    def put(self, line: bytes) -> None:
        """Take a line, its end included. Never blocks."""


class AccessLog:
    """Makes the line for a finished call."""

    def __init__(self, sink: Sink, clock: Callable[[], float] = time.time) -> None:
        self._put = sink.put
        self._clock = clock  # wall clock: a line says when its request ended
        self._millisecond = -1
        # One dict for all lines: setting 22 values in it takes two thirds of the time of making it anew.
        self._line: dict[str, object] = {"time": ""}

    def add(self, call: Call, status: int, sent: int, received: int, took: float, own: float) -> None:
        """Write the line: durations come in seconds and are logged in milliseconds, to the microsecond."""
        line = self._line
        millisecond = int(self._clock() * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            line["time"] = _rfc3339(millisecond)
        request, caller, target, agent = (
            call.request,
            call.caller,
            call.target,
            call.request.fields.index.get(b"user-agent"),
        )
        line["id"] = call.id
        line["client"] = call.client_ip
        line["method"] = request.method or None
        path = _asked(call) if call.version else call.path
        line["path"] = _text(path[:PATH_CAP]) if path else _raw_path(request.target)
        line["route"] = call.route or None
        line["version"] = call.version or None
        line["consumer"] = caller.consumer[:TEXT_CAP] or None
        line["provider"] = caller.provider or None
        line["status"] = status
        line["code"] = None if call.error is None else call.error.code
        line["duration_ms"] = took * 1e6 // 1 / 1e3
        line["own_ms"] = own * 1e6 // 1 / 1e3
        line["upstream"] = None if target is None else target.upstream
        line["target"] = None if target is None else target.name
        line["tries"] = len(call.tried)
        upstream_took = 0.0
        auth = limit = fallback = None
        for stage, name, outcome, _, hop_took, _ in call.hops:
            if stage == "try":
                upstream_took += hop_took
            elif stage == "auth":
                auth = outcome
            elif stage == "limit":
                if limit is None or outcome != "allowed":  # of several the one that did not simply agree
                    limit = outcome
            elif stage == "fallback":
                fallback = name
        line["upstream_ms"] = upstream_took * 1e6 // 1 / 1e3
        line["bytes_in"] = received
        line["bytes_out"] = sent
        line["auth"] = auth
        line["limit"] = limit
        line["fallback"] = fallback
        line["user_agent"] = None if agent is None else _text(agent[:TEXT_CAP])
        try:
            self._put(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        except orjson.JSONEncodeError:  # a lone surrogate, which a token's claims can carry
            self._put(orjson.dumps(_encodable(line), option=orjson.OPT_APPEND_NEWLINE))


def _rfc3339(millisecond: int) -> str:
    second, millisecond = divmod(millisecond, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{millisecond:03d}Z"


def _text(raw: bytes) -> str:
    # Not latin-1: that would let the C1 control characters (0x80-0x9f) reach somebody's terminal.
    return raw.decode("ascii", "backslashreplace")


def _asked(call: Call) -> bytes:
    """The normalised path of the client; `call.path` lacks a version that ends at the gateway."""
    written, path = call.request.target.partition(b"?")[0], call.path
    # As nearly all clients write it, it needs no normalising: a plain segment in front of what is in normal form.
    if written == path or (written.endswith(path) and SEGMENT.fullmatch(written, 0, len(written) - len(path))):
        return written
    return normalise(call.request.target, call.request.fields.host).path


def _raw_path(target: bytes) -> str:
    """Of a request that was refused before its path was normalised; without query and credentials."""
    return _text(target.partition(b"?")[0].rpartition(b"@")[2][:PATH_CAP])


def _encodable(line: dict[str, object]) -> dict[str, object]:
    return {
        key: value.encode("ascii", "backslashreplace").decode("ascii") if isinstance(value, str) else value
        for key, value in line.items()
    }
