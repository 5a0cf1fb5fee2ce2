import asyncio
import random

import pytest

from gateway.errors import GatewayError, UpstreamFailed
from gateway.http.stream import BodyStream
from gateway.transform.codecs import ENCODERS
from gateway.transform.compressed_stream import PIECE, CompressedStream, compress_whole
from tests.decoding import CODINGS, decoded, decoder
from tests.fakes import Chunks, read_all

TEXT = b"all work and no play makes a dull body\n" * 10_000


class Broken:
    """An encoder whose memory has run out."""

    def __init__(self, *, after: int = 0) -> None:
        self._left = after

    def add(self, data: bytes) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise MemoryError
        return data

    def flush(self) -> bytes:
        return b""

    def finish(self) -> bytes:
        raise MemoryError


def fed_by_hand() -> BodyStream:
    return BodyStream(None, pause=lambda: None, resume=lambda: None)


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_body_in_pieces_of_any_size_comes_back_whole(coding: str) -> None:
    dice = random.Random(7)
    cuts = sorted(dice.sample(range(len(TEXT)), 9))
    pieces = [TEXT[a:b] for a, b in zip([0, *cuts], [*cuts, len(TEXT)], strict=True)]
    stream = CompressedStream(Chunks(*pieces, length=len(TEXT)), ENCODERS[coding]("fast"))
    assert stream.length is None
    assert decoded(coding, await read_all(stream)) == TEXT
    assert stream.done
    assert stream.received == len(TEXT)
    assert await stream.read() == b""


@pytest.mark.parametrize("coding", CODINGS)
async def test_whoever_streams_slowly_is_read_promptly(coding: str) -> None:
    source, reading = fed_by_hand(), decoder(coding)
    stream = CompressedStream(source, ENCODERS[coding]("balanced"))
    for event in (b'{"n": 1}\n', b'{"n": 2}\n', b'{"n": 3}\n'):
        source.feed(event)
        async with asyncio.timeout(5):
            assert reading.decompress(await stream.read()) == event
    source.finish()
    assert reading.decompress(await stream.read()) == b""
    assert reading.eof


async def test_what_comes_while_it_compresses_shares_a_block() -> None:
    source = fed_by_hand()
    stream = CompressedStream(source, ENCODERS["gzip"]("balanced"))
    source.feed(b"one ")
    reading = asyncio.ensure_future(stream.read())
    asyncio.get_running_loop().call_soon(source.feed, b"two")
    inflate = decoder("gzip")
    assert inflate.decompress(await reading) == b""  # the head of gzip: nothing was flushed, for more was there
    assert inflate.decompress(await stream.read()) == b"one two"


async def test_a_large_piece_gives_way_to_others() -> None:
    stream = CompressedStream(Chunks(TEXT), ENCODERS["gzip"]("fast"))
    turns = await _turns_of_others(read_all(stream))
    assert turns >= len(TEXT) // PIECE


async def test_a_large_body_in_hand_gives_way_to_others() -> None:
    turns = await _turns_of_others(compress_whole(TEXT, ENCODERS["gzip"]("fast")))
    assert turns >= len(TEXT) // PIECE


async def _turns_of_others(work: object) -> int:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(others())
    try:
        assert decoded("gzip", await work) == TEXT  # type: ignore[misc]
    finally:
        task.cancel()
    return turns


async def test_a_source_that_breaks_off_never_looks_complete() -> None:
    source, inflate = fed_by_hand(), decoder("gzip")
    stream = CompressedStream(source, ENCODERS["gzip"]("fast"))
    source.feed(b"half")
    assert inflate.decompress(await stream.read()) == b"half"
    source.fail(UpstreamFailed("upstream_failed", sent=True))
    for _ in range(2):
        with pytest.raises(UpstreamFailed):
            await stream.read()
    assert not inflate.eof


@pytest.mark.parametrize("after", [0, 1])
async def test_an_encoder_that_fails_breaks_the_reply_off_and_lets_the_source_go(after: int) -> None:
    source = Chunks(b"one", b"two")
    stream = CompressedStream(source, Broken(after=after))
    with pytest.raises(GatewayError) as raised:
        await read_all(stream)
    assert raised.value.code == "internal"
    assert source.closed


async def test_an_encoder_that_fails_at_the_end_breaks_the_reply_off_as_well() -> None:
    source = Chunks(b"one")
    stream = CompressedStream(source, Broken(after=5))
    assert await stream.read() == b"one"
    with pytest.raises(GatewayError):
        await stream.read()
    assert source.closed


async def test_an_encoder_that_fails_over_a_body_in_hand_is_an_error_of_ours() -> None:
    with pytest.raises(GatewayError) as raised:
        await compress_whole(b"x" * 5000, Broken())
    assert raised.value.status == 500


async def test_whoever_stops_reading_closes_the_source() -> None:
    source = Chunks(b"one", b"two", b"three")
    stream = CompressedStream(source, ENCODERS["gzip"]("fast"))
    await stream.read()
    stream.close()
    assert source.closed
    assert stream.done
    assert await stream.read() == b""


async def test_a_reader_that_is_cancelled_leaves_nothing_behind() -> None:
    source = fed_by_hand()
    stream = CompressedStream(source, ENCODERS["gzip"]("fast"))
    task = asyncio.ensure_future(stream.read())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stream.close()
    assert source.done


async def test_no_more_is_held_than_one_read_of_the_source() -> None:
    source = fed_by_hand()
    stream = CompressedStream(source, ENCODERS["gzip"]("fast"))
    noise = random.Random(3).randbytes(PIECE)
    for _ in range(20):
        source.feed(noise)
        assert len(await stream.read()) < PIECE + 1024


async def test_limits_and_whether_it_has_begun_are_the_sources() -> None:
    source = Chunks(b"x")
    stream = CompressedStream(source, ENCODERS["gzip"]("fast"))
    stream.limit = 7
    assert (source.limit, stream.limit, stream.started) == (7, 7, True)
