"""The head of a reply, as bytes. Framing and hop-by-hop fields are decided here and nowhere else."""

import time
from email.utils import formatdate
from http import HTTPStatus

from gateway.exchange import Headers, Reply, header

_KNOWN = {status.value: status.phrase for status in HTTPStatus}
STATUS_LINES = {code: b"HTTP/1.1 %d %b\r\n" % (code, _KNOWN.get(code, "").encode()) for code in range(100, 1000)}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class DateHeader:
    """The Date field for replies that have none (RFC 9110 6.6.1); made at most once a second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        """The whole field line."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = b"date: " + formatdate(second, usegmt=True).encode() + b"\r\n"
        return self._line


_date = DateHeader()


def bodiless(method: str, status: int) -> bool:
    """Replies that end with their head, whatever their fields say (RFC 9112 6.3)."""
    return method == "HEAD" or status in (204, 304) or status < 200


def field_lines(headers: Headers) -> bytes:
    """Fields as they are written, each with its line end."""
    return b"".join([b"%b: %b\r\n" % field for field in headers])


def reply_head(reply: Reply, framing: bytes) -> bytes:
    """Status line and fields; `framing` is what the connection adds, as complete field lines."""
    lines = reply.lines
    if lines is None:
        lines = field_lines(reply.headers)
        if header(reply.headers, b"date") is None:
            lines += _date.line()
    return b"%b%b%b%b\r\n" % (STATUS_LINES[reply.status], lines, reply.added, framing)


def chunk(data: bytes) -> bytes:
    """One piece in the chunked coding (RFC 9112 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)
