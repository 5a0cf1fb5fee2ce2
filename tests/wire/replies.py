"""What a hostile upstream says, and how to say that the gateway did not fall for it."""

import asyncio

from tests.wire.actors import OK, Client, Script, Upstream, Visit
from tests.wire.payloads import get

EXTRA = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


def saying(*pieces: bytes, end: bool = False, pause: float = 0.01) -> Script:
    """The first request on a connection is answered with `pieces`, any further one with 200."""

    async def script(visit: Visit) -> None:
        await visit.request()
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(pause)
            await visit.write(piece)
        if end:
            visit.close()
            visit.ended.set()
            return
        while True:
            await visit.request()
            await visit.write(OK)

    return script


def reply(*fields: bytes, status: bytes = b"HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    return b"".join(line + b"\r\n" for line in (status, *fields)) + b"\r\n" + body


async def left(visit: Visit) -> None:
    """Wait until the gateway has ended the connection."""
    async with asyncio.timeout(5):
        while not visit.ended.is_set() and not visit.writer.is_closing():
            await asyncio.sleep(0.002)


async def is_a_502(client: Client, upstream: Upstream) -> None:
    """The client gets problem details and may go on; the upstream's connection is closed, not used again."""
    answer = await client.ask(get(target=b"/first"))
    assert (answer.status, answer.headers["content-type"]) == (502, "application/problem+json")
    assert b"127.0.0.1" not in answer.body
    await left(upstream.visits[0])
    upstream.script = saying(OK)
    answer = await client.ask(get(target=b"/second"))
    assert (answer.status, answer.body) == (200, b"ok")
    assert len(upstream.visits) == 2
    assert b"/second" not in upstream.visits[0].received
