import asyncio

import pytest

from gateway.errors import ClientGone
from gateway.exchange import Reply
from gateway.resilience.replay import Replay, discard
from tests.fakes import Chunks, read_all


async def test_the_next_try_reads_the_same_bytes() -> None:
    body = Replay(Chunks(b"one", b"two", b"three"), limit=64)
    assert await read_all(body) == b"onetwothree"
    assert body.replayable
    body.rewind()
    assert await read_all(body) == b"onetwothree"
    assert await body.read() == b"", "and the end stays the end"


async def test_a_try_that_failed_halfway_leaves_the_rest_to_the_next() -> None:
    body = Replay(Chunks(b"one", b"two", b"three"), limit=64)
    assert await body.read() == b"one"
    body.rewind()
    assert await body.read() == b"one"
    assert await body.read() == b"two"
    body.rewind()
    assert await read_all(body) == b"onetwothree"


async def test_the_limit_itself_can_be_replayed_and_a_byte_more_cannot() -> None:
    exact, over = Replay(Chunks(b"1234", b"5678"), limit=8), Replay(Chunks(b"1234", b"56789"), limit=8)
    assert await read_all(exact) == b"12345678"
    assert exact.replayable
    assert await over.read() == b"1234"
    assert over.replayable, "nobody can know yet"
    assert await read_all(over) == b"56789", "the current try gets all of it"
    assert not over.replayable


async def test_a_body_announced_as_too_long_is_replayable_only_until_it_is_read() -> None:
    body = Replay(Chunks(b"1234", length=1000), limit=8)
    assert body.replayable
    await body.read()
    assert not body.replayable


async def test_a_body_closed_halfway_is_not_replayable_and_one_closed_at_its_end_is() -> None:
    half, whole = Replay(Chunks(b"one", b"two"), limit=64), Replay(Chunks(b"one"), limit=64)
    await half.read()
    half.close()
    assert not half.replayable
    await read_all(whole)
    whole.close()
    assert whole.replayable
    whole.rewind()
    assert await read_all(whole) == b"one"


async def test_a_client_that_leaves_is_heard_of_and_what_had_come_is_kept() -> None:
    body = Replay(Chunks(b"one", ClientGone()), limit=64)
    await body.read()
    with pytest.raises(ClientGone):
        await body.read()
    body.rewind()
    assert await body.read() == b"one"


class Held(Chunks):
    """Gives its first piece only when told."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__(*pieces)
        self.go = asyncio.Event()

    async def read(self) -> bytes:
        await self.go.wait()
        return await super().read()


async def test_a_read_of_the_last_try_that_ends_late_loses_nothing() -> None:
    stream = Held(b"one", b"two")
    body = Replay(stream, limit=1)  # even over the limit: the next try has been promised the whole
    late = asyncio.create_task(body.read())
    await asyncio.sleep(0)
    body.rewind()
    fresh = asyncio.create_task(body.read())
    await asyncio.sleep(0)
    stream.go.set()
    await late
    assert await fresh == b"one"
    assert await body.read() == b"two"


async def test_a_cancelled_read_of_the_last_try_does_not_hold_up_the_next() -> None:
    stream = Held(b"one")
    body = Replay(stream, limit=64)
    late = asyncio.create_task(body.read())
    await asyncio.sleep(0)
    body.rewind()
    late.cancel()
    stream.go.set()
    assert await asyncio.wait_for(read_all(body), 1) == b"one"
    assert late.cancelled()


async def test_a_try_that_is_over_reads_nothing_more() -> None:
    stream = Held(b"one", b"two")
    body = Replay(stream, limit=64)
    first, second = asyncio.create_task(body.read()), asyncio.create_task(body.read())
    await asyncio.sleep(0)
    body.rewind()
    stream.go.set()
    assert (await first, await second) == (b"one", b"")
    assert await read_all(body) == b"onetwo"


async def test_what_the_wire_asks_of_a_stream_is_answered_by_the_one_inside() -> None:
    stream = Chunks(b"one", b"two", length=6)
    body = Replay(stream, limit=64)
    body.limit = 5
    await body.read()
    assert (stream.limit, body.limit, body.length, body.received, body.started, body.done) == (5, 5, 6, 3, True, False)


def test_a_discarded_reply_closes_its_body() -> None:
    body = Chunks(b"rest")
    discard(Reply(503, [], body))
    discard(Reply(503, [], b"whole"))
    assert body.closed
