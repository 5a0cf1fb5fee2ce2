r"""The access log in Apache's combined format, which every log analyser reads.

    CLIENT - CONSUMER [21/Nov/2026:05:08:37 +0000] "GET /orders/7 HTTP/1.1" 200 229 "REFERER" "USER AGENT"

The time is UTC, bytes are of the reply's body. Neither path nor referer has a query. Quotes, backslashes and whatever
is not printable ASCII is written as \xNN, so that the quotes of a line are always its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from gateway.exchange import Call
from gateway.logs.access_log import Sink
from gateway.logs.text import ALWAYS_REDACTED, PATH_CAP, REDACTED, TEXT_CAP, path_of, quoted, without_query

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""In English whatever the locale."""

NOTHING = b"-"


class CombinedLog:
    """Makes the line for a finished call."""

    def __init__(
        self,
        sink: Sink,
        clock: Callable[[], float] = time.time,
        *,
        redacted: Collection[bytes] = ALWAYS_REDACTED,
    ) -> None:
        self._put = sink.put
        self._clock = clock
        self._second = -1
        self._time = b""
        self._hides_agent = b"user-agent" in redacted
        self._hides_referer = b"referer" in redacted

    def add(
        self, call: Call, status: int, sent: int, received: int, took: float, own: float, sampled: float | None = None
    ) -> None:
        """Write the line. The format has no place for sizes of requests, durations and `sampled`."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._time = second, _time(second)
        request = call.request
        index, consumer = request.fields.index, call.caller.consumer
        line = b'%b - %b [%b] "%b" %d %b "%b" "%b"\n' % (
            _word(call.client_ip.encode("utf-8", "backslashreplace")),
            _word(consumer.encode("utf-8", "backslashreplace")) if consumer else NOTHING,
            self._time,
            _asked(call),
            status,
            b"%d" % sent if sent else NOTHING,
            _field(without_query(index.get(b"referer", b"")), self._hides_referer),
            _field(index.get(b"user-agent", b""), self._hides_agent),
        )
        self._put(line)


def _time(second: int) -> bytes:
    at = time.gmtime(second)
    text = f"{at.tm_mday:02d}/{MONTHS[at.tm_mon - 1]}/{at.tm_year}:{time.strftime('%H:%M:%S', at)} +0000"
    return text.encode()


def _asked(call: Call) -> bytes:
    method = call.request.method
    if not method:
        return NOTHING  # it was no request
    return b"%b %b HTTP/%b" % (
        method.encode(),
        _word(path_of(call), PATH_CAP),
        call.request.fields.version.encode(),
    )


def _word(raw: bytes, cap: int = TEXT_CAP) -> bytes:
    """Between spaces."""
    return quoted(raw, cap).replace(b" ", b"\\x20")


def _field(raw: bytes, hidden: bool) -> bytes:
    if not raw:
        return NOTHING
    return REDACTED.encode() if hidden else quoted(raw, TEXT_CAP)
