"""A small, independent and pedantic reader of requests: what an upstream received must pass it to the last byte.

Written from the grammar of RFC 9112 (and 9110, 3986) without llhttp, so that the two cannot share a mistake.
"""

import re
from dataclasses import dataclass

METHOD = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
PCHAR = rb"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
REQUEST_LINE = re.compile(rb"(%b) ((?:/%b*)+(?:\?(?:%b|[/?])*)?) HTTP/1\.1" % (METHOD, PCHAR, PCHAR))
FIELD = re.compile(rb"(%b): ?([!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?|)" % METHOD)
HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+(?::\d*)?|\[[0-9A-Fa-f:.]+\](?::\d*)?")
SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")

HOP_BY_HOP = {b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"trailer", b"http2-settings"}


class Broken(AssertionError):
    """What the upstream received is not HTTP/1.1 to the letter."""


@dataclass(frozen=True, slots=True)
class Received:
    """One request as an upstream reads it."""

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    """Names lowercase; repeated ones joined with a comma."""
    body: bytes


def read_requests(data: bytes) -> tuple[list[Received], bytes]:
    """The requests on one upstream connection, and the bytes of a last one that was broken off in its body.

    Raises Broken for everything that a strict server would refuse.
    """
    requests: list[Received] = []
    while data:
        request, rest = _read_one(data)
        if request is None:
            return requests, data
        requests.append(request)
        data = rest
    return requests, b""


def _read_one(data: bytes) -> tuple[Received | None, bytes]:
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        raise Broken(f"a head without an end: {data[:200]!r}")
    first, *lines = head.split(b"\r\n")
    line = REQUEST_LINE.fullmatch(first)
    if line is None:
        raise Broken(f"request line {first!r}")
    headers: dict[bytes, bytes] = {}
    for field in lines:
        match = FIELD.fullmatch(field)
        if match is None:
            raise Broken(f"field line {field!r}")
        name = match[1].lower()
        if name in headers and name in (b"host", b"content-length", b"transfer-encoding"):
            raise Broken(f"{name!r} twice")
        headers[name] = headers[name] + b", " + match[2] if name in headers else match[2]
    if not HOST.fullmatch(headers.get(b"host", b"")):
        raise Broken(f"host in {head!r}")
    if HOP_BY_HOP & headers.keys() or headers.get(b"connection", b"upgrade") != b"upgrade":
        raise Broken(f"hop-by-hop fields in {head!r}")
    body, rest = _read_body(headers, rest)
    return (None if body is None else Received(line[1], line[2], headers, body)), rest


def _read_body(headers: dict[bytes, bytes], data: bytes) -> tuple[bytes | None, bytes]:
    coding, announced = headers.get(b"transfer-encoding"), headers.get(b"content-length")
    if coding is not None:
        if coding != b"chunked" or announced is not None:
            raise Broken(f"framing {headers!r}")
        return _read_chunks(data)
    if announced is None:
        return b"", data
    if not re.fullmatch(rb"0|[1-9][0-9]{0,18}", announced):
        raise Broken(f"content-length {announced!r}")
    length = int(announced)
    return (data[:length], data[length:]) if len(data) >= length else (None, data)


def _read_chunks(data: bytes) -> tuple[bytes | None, bytes]:
    body = b""
    while True:
        size, end, rest = data.partition(b"\r\n")
        if not end:
            return None, data
        if not SIZE.fullmatch(size):
            raise Broken(f"chunk size {size!r}")
        length = int(size, 16)
        if length == 0:
            if len(rest) >= 2 and not rest.startswith(b"\r\n"):
                raise Broken(f"trailers {rest[:100]!r}")
            return (body, rest[2:]) if len(rest) >= 2 else (None, data)
        if len(rest) < length + 2:
            return None, data
        if rest[length : length + 2] != b"\r\n":
            raise Broken(f"behind a chunk {rest[length : length + 10]!r}")
        body += rest[:length]
        data = rest[length + 2 :]
