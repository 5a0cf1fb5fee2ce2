"""Tells the operator process about requests that failed or were slow, and about all of them while somebody tails.

A report is a line of JSON behind a digit that says what it is for; lines travel in batches, as datagrams to a socket
in the instance's folder, four times a second. Nothing here waits or raises: what cannot be sent is counted.
"""

from __future__ import annotations

import errno
import socket
import time
from collections import deque
from collections.abc import Callable
from heapq import heappush, heapreplace
from pathlib import Path

import orjson

from gateway.exchange import Call
from gateway.logs.access_log import rfc3339
from gateway.logs.text import PATH_CAP, path_of, subject, text

ERROR, SLOW, TAIL = 1, 2, 4
"""What a line is for: bits of its first digit."""

QUIET = frozenset({"client_gone", "replayed", "redirect", "respond", "preflight", "options", "https_redirect"})
"""Reasons for which nobody needs to look: the client's own decision, or what the configuration asks for."""

FAILURES_A_SECOND, REFUSALS_A_SECOND = 50.0, 10.0
"""Of each worker. Refusals, which clients can cause at will, must not crowd out failures."""

SLOWEST = 3
"""Of each second."""

FLUSHES_A_SECOND = 4
FULL = 60 * 1024
"""Bytes of a batch: a datagram of 64 KiB is what every system takes on a Unix socket."""

WAITING = 16
"""Batches that wait for an operator process that is busy, or being started anew: 1 MB."""

MOST_HOPS = 40
"""Of one report."""


class Reports:
    """In a worker, which is called `name`; `to` is where the operator process listens. A reader of finished calls."""

    def __init__(
        self, to: Path, name: str, dropped: Callable[[float], None], clock: Callable[[], float] = time.time
    ) -> None:
        """`dropped` counts reports that nobody will get; `clock` is the wall clock."""
        self._to = str(to)
        self._name = name
        self._dropped = dropped
        self._clock = clock
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._tail_until = 0.0
        self._tailing = False
        self._floor = 0.0  # seconds: who takes longer is among the slowest of this second
        self._slowest: list[tuple[float, int, bytes]] = []
        self._flushes = 0
        self._failures = FAILURES_A_SECOND
        self._refusals = REFUSALS_A_SECOND
        self._lines: list[bytes] = []
        self._size = 0
        self._batches: deque[tuple[bytes, int]] = deque()
        self._news = False  # the operator process has to hear of `tail_until`

    def read(self, call: Call, status: int, sent: int, received: int, took: float, own: float) -> None:
        """A call is finished; nearly always there is nothing to say about it."""
        if took > self._floor or status >= 500 or self._tailing or call.error is not None or call.reason:
            self._consider(call, status, sent, received, took, own)

    def tail(self, until: float) -> None:
        """Report every call up to this second of the wall clock, as the notices say."""
        if until != self._tail_until:
            self._tail_until = until
            self._tailing = until > self._clock()
            self._news = True

    def flush(self) -> None:
        """Four times a second: send what there is."""
        self._flushes += 1
        self._failures = min(FAILURES_A_SECOND, self._failures + FAILURES_A_SECOND / FLUSHES_A_SECOND)
        self._refusals = min(REFUSALS_A_SECOND, self._refusals + REFUSALS_A_SECOND / FLUSHES_A_SECOND)
        self._tailing = self._tail_until > self._clock()
        if self._flushes % FLUSHES_A_SECOND == 0:
            slowest, self._slowest, self._floor = self._slowest, [], 0.0
            for _, _, line in slowest:
                self._put(SLOW, line)
        if self._lines or self._news:
            self._seal()
        self._send()

    def close(self) -> None:
        """Send what can be sent, and no more."""
        self._flushes = -1  # the slowest, too
        self.flush()
        self._drop(sum(count for _, count in self._batches))
        self._batches.clear()
        self._socket.close()

    def _consider(self, call: Call, status: int, sent: int, received: int, took: float, own: float) -> None:
        reason = call.ended_by
        wanted = TAIL if self._tailing else 0
        if (status >= 500 or reason) and reason not in QUIET and self._affordable(status):
            wanted |= ERROR
        # A tunnel lasts as long as its client likes, and a stream often until its client leaves.
        slow = took > self._floor and status not in (101, 499)
        if not wanted and not slow:
            return
        record = _record(call, status, sent, received, took, own)
        record["at"] = rfc3339(int(self._clock() * 1000))
        if slow or wanted & ERROR:
            record["hops"] = _hops(call)
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        if slow:
            self._keep(took, line)
        if wanted:
            self._put(wanted, line)

    def _affordable(self, status: int) -> bool:
        if 400 <= status < 500:
            enough = self._refusals >= 1
            self._refusals -= enough
        else:
            enough = self._failures >= 1
            self._failures -= enough
        if not enough:
            self._drop(1)
        return enough

    def _keep(self, took: float, line: bytes) -> None:
        entry = took, id(line), line  # the id only orders equal times
        if len(self._slowest) < SLOWEST:
            heappush(self._slowest, entry)
        else:
            heapreplace(self._slowest, entry)
        if len(self._slowest) == SLOWEST:
            self._floor = self._slowest[0][0]

    def _put(self, wanted: int, line: bytes) -> None:
        if self._size + len(line) >= FULL:
            self._seal()
            self._send()
        self._lines.append(b"%d%b" % (wanted, line))
        self._size += len(line) + 1

    def _seal(self) -> None:
        """Make a batch of the lines, or drop them if too many wait already."""
        count, self._size, self._news = len(self._lines), 0, False
        if len(self._batches) >= WAITING:
            self._drop(count)
        else:
            head = orjson.dumps({"from": self._name, "tail_until": self._tail_until}, option=orjson.OPT_APPEND_NEWLINE)
            self._batches.append((head + b"".join(self._lines), count))
        self._lines.clear()

    def _send(self) -> None:
        batches = self._batches
        while batches:
            try:
                self._socket.sendto(batches[0][0], self._to)
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    return  # it is busy (EAGAIN), being started anew (ECONNREFUSED, ENOENT), or gone
                self._drop(batches[0][1])  # this system will never take it, and the others wait behind it
            batches.popleft()

    def _drop(self, count: int) -> None:
        if count:
            self._dropped(count)


def _record(call: Call, status: int, sent: int, received: int, took: float, own: float) -> dict[str, object]:
    """What is told about a call: nothing that clients wrote without a cap and escapes, and no query."""
    request, target, error = call.request, call.target, call.error
    auth = limit = fallback = None
    for stage, name, outcome, *_ in call.hops:
        if stage == "auth":
            auth = outcome
        elif stage == "limit":
            if limit is None or outcome != "allowed":  # of several the one that did not simply agree
                limit = outcome
        elif stage == "fallback":
            fallback = name
    return {
        "at": "",
        "id": call.id,
        "method": subject(request.method) or None,
        "path": text(path_of(call), PATH_CAP),
        "route": call.route or None,
        "version": call.version or None,
        "consumer": subject(call.caller.consumer) or None,
        "provider": call.caller.provider or None,
        "status": status,
        "code": None if error is None else error.code,
        "reason": call.ended_by,
        "detail": subject(error.detail) or None if error is not None else None,
        "duration_ms": round(took * 1e3, 3),
        "own_ms": round(own * 1e3, 3),
        "upstream": None if target is None else target.upstream,
        "target": None if target is None else target.name,
        "tries": len(call.tried),
        "limit": limit,
        "auth": auth,
        "fallback": fallback,
        "client": call.client_ip,
        "trace_id": None if call.trace is None else call.trace.id,
        "bytes_in": received,
        "bytes_out": sent,
    }


def _hops(call: Call) -> list[dict[str, object]]:
    began = call.request.received
    return [
        {
            "stage": stage,
            "name": subject(name),
            "outcome": subject(outcome),
            "at_ms": round((started - began) * 1e3, 3),
            "took_ms": round(took * 1e3, 3),
        }
        for stage, name, outcome, started, took, _ in call.hops[:MOST_HOPS]
    ]
