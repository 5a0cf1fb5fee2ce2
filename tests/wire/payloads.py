"""Requests to attack with: how to spell them, and how to say that one was refused."""

from tests.wire.actors import Answer, Client, Upstream

CHUNKED = b"Transfer-Encoding: chunked"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def message(line: bytes, *fields: bytes, body: bytes = b"", host: bytes = b"Host: a") -> bytes:
    """A request with `host` before its fields, unless that is empty."""
    lines = [line, *([host] if host else []), *fields]
    return b"".join(field + b"\r\n" for field in lines) + b"\r\n" + body


def get(*fields: bytes, target: bytes = b"/", host: bytes = b"Host: a") -> bytes:
    return message(b"GET " + target + b" HTTP/1.1", *fields, host=host)


def post(*fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return message(b"POST / HTTP/" + version, *fields, body=body)


def chunks(body: bytes, *fields: bytes) -> bytes:
    """A POST whose chunked body is spelled by hand."""
    return post(CHUNKED, *fields, body=body)


async def refused(client: Client, upstream: Upstream, data: bytes, status: int = 400) -> Answer:
    """Send what must be refused: one reply with `status`, then the end, and the upstream hears nothing."""
    answer = await client.ask(data)
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert await client.ends()
    assert upstream.received == b""
    return answer
