"""Whatever comes in: what goes out is RFC 9112 to the letter, everybody gets an answer or an end, nothing hangs."""

import asyncio

import pytest

from gateway.http.server import Limits
from tests.wire.actors import Client, Gateway, Upstream
from tests.wire.conftest import Start
from tests.wire.corpus import CLASSICS, damaged
from tests.wire.strict import Broken, read_requests

QUICK = Limits(header_timeout=0.3, body_timeout=0.3, idle_timeout=0.3, drain_timeout=0.2)
AT_ONCE = 32


async def talk(gateway: Gateway, data: bytes, *, end: bool) -> bytes:
    """Everything the gateway says to `data` until it ends the connection."""
    client = await gateway.client()
    try:
        await client.send(data)
        if end:
            client.end()
    except ConnectionError:
        pass  # refused while it was still being sent
    said = await client.rest()
    client.close()
    return said


async def converse(gateway: Gateway, corpus: list[bytes], *, end: bool) -> list[bytes]:
    said = []
    for start in range(0, len(corpus), AT_ONCE):
        said += await asyncio.gather(*(talk(gateway, data, end=end) for data in corpus[start : start + AT_ONCE]))
    return said


def check(corpus: list[bytes], said: list[bytes], upstream: Upstream) -> None:
    for data, answer in zip(corpus, said, strict=True):
        assert answer == b"" or answer.startswith(b"HTTP/1.1 "), (data, answer)
        assert b"HTTP/1.1 500 " not in answer, (data, answer)
    for visit in upstream.visits:
        try:
            _, left = read_requests(bytes(visit.received))
        except Broken as broken:
            raise AssertionError(f"{broken} in {bytes(visit.received)!r}") from None
        assert not left or visit.ended.is_set() or visit.writer.is_closing(), left


@pytest.mark.parametrize("end", [True, False], ids=["half-closed", "left open"])
async def test_the_classics_of_smuggling_reach_no_upstream_unless_strictly_valid(
    start: Start, upstream: Upstream, end: bool
) -> None:
    gateway = await start(limits=QUICK)
    check(CLASSICS, await converse(gateway, CLASSICS, end=end), upstream)


@pytest.mark.parametrize("seed", range(4))
async def test_damaged_requests_reach_no_upstream_unless_strictly_valid(
    start: Start, upstream: Upstream, seed: int
) -> None:
    gateway = await start(limits=QUICK)
    corpus = list(damaged(250, seed))
    said = await converse(gateway, corpus, end=True)
    check(corpus, said, upstream)
    served = sum(b"HTTP/1.1 200 " in answer for answer in said)
    assert 50 < served < 240  # the damage is neither always fatal nor always harmless


async def test_the_corpus_in_single_bytes_is_treated_the_same(start: Start, upstream: Upstream) -> None:
    gateway = await start(limits=QUICK)

    async def drip(data: bytes) -> bytes:
        client: Client = await gateway.client()
        try:
            for byte in data:
                await client.send(bytes((byte,)))
                await asyncio.sleep(0)
            client.end()
        except ConnectionError:
            pass
        return await client.rest()

    corpus = [data for data in (*CLASSICS, *damaged(60, 99)) if len(data) < 300]
    check(corpus, await asyncio.gather(*map(drip, corpus)), upstream)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: y\r\n\r\n",
        b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: y\nz: z\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok",
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 02\r\n\r\nok",
        b"GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2;a\r\nok\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok!",
    ],
)
def test_the_strict_reader_sees_what_is_wrong(data: bytes) -> None:
    with pytest.raises(Broken):
        read_requests(data)
