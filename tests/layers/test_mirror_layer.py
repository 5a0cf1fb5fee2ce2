import asyncio
import logging
from collections.abc import Callable

import pytest

from gateway.errors import DeadlinePassed, Shed, UpstreamFailed
from gateway.exchange import Call, Fields, Peer, Reply, Request
from gateway.pipe import Send
from gateway.resilience.mirror import BODY_LIMIT, PATIENCE, REPLY_LIMIT, Copies, mirror
from tests.fakes import Chunks, Clock, Dice, delayed, explosive, failing, make_call, replying


class Mirrored:
    """An original behind a mirror; keeps how the copies ended."""

    def __init__(self, to: Send, original: Send | None = None, share: float = 1.0, most: int = 2) -> None:
        self.outcomes: list[str] = []
        self.clock = Clock()
        self.copies = Copies("shadow", to, self.outcomes.append, self.clock, most=most)
        self.dice = Dice(0.0)
        self.send = mirror(self.copies, share, self.dice)(original or replying(200, body=b"original"))


async def idle(copies: Copies) -> None:
    """Until none is under way."""
    async with asyncio.timeout(2):
        while len(copies):
            await asyncio.sleep(0)


def told(call: Call) -> list[tuple[str, str, str]]:
    return [(hop.stage, hop.name, hop.outcome) for hop in call.hops]


async def test_the_client_gets_the_originals_reply_and_the_copy_goes_to_the_other() -> None:
    seen: list[Call] = []

    async def shadow(call: Call) -> Reply:
        seen.append(call)
        return Reply(500, [], b"copy")

    mirrored, call = Mirrored(shadow), make_call("POST", body=b"order")
    reply = await mirrored.send(call)
    assert (reply.status, reply.body) == (200, b"original")
    await idle(mirrored.copies)
    assert [(copy.request.method, copy.body) for copy in seen] == [("POST", b"order")]
    assert mirrored.outcomes == ["5xx"]
    assert call.hops == []


async def test_the_copy_is_changed_on_its_way_as_the_original_is() -> None:
    seen: list[tuple[bytes, bytes, frozenset[bytes]]] = []

    async def shadow(call: Call) -> Reply:
        seen.append((call.path, call.lines, call.removed))
        return Reply(200, [])

    mirrored, call = Mirrored(shadow), make_call()
    call.path, call.lines, call.removed = b"/inside", b"x-api-version: v1\r\n", frozenset({b"x-api-version"})
    await mirrored.send(call)
    call.path, call.lines, call.removed = b"/", b"", frozenset()  # as transformed() does in the end
    await idle(mirrored.copies)
    assert seen == [(b"/inside", b"x-api-version: v1\r\n", frozenset({b"x-api-version"}))]


async def test_the_original_comes_first() -> None:
    order: list[str] = []

    async def original(call: Call) -> Reply:
        order.append("original")
        return Reply(200, [])

    async def shadow(call: Call) -> Reply:
        order.append("copy")
        return Reply(200, [])

    mirrored = Mirrored(shadow, original)
    await mirrored.send(make_call())
    assert order == ["original"]
    await idle(mirrored.copies)
    assert order == ["original", "copy"]


async def test_an_original_that_fails_fails_as_it_would_without_a_mirror() -> None:
    mirrored = Mirrored(replying(200), failing(UpstreamFailed("upstream_failed", sent=True)))
    with pytest.raises(UpstreamFailed):
        await mirrored.send(make_call())
    await idle(mirrored.copies)
    assert mirrored.outcomes == ["2xx"]


@pytest.mark.parametrize(("falls", "copied"), [(0.0, 1), (0.0499, 1), (0.05, 0), (0.9, 0)])
async def test_a_share_is_copied(falls: float, copied: int) -> None:
    mirrored = Mirrored(replying(200), share=0.05)
    mirrored.dice.falls = falls
    await mirrored.send(make_call())
    await idle(mirrored.copies)
    assert len(mirrored.outcomes) == copied


@pytest.mark.parametrize("status", [200, 302, 404, 503])
async def test_how_it_ended_is_told_as_the_class_of_the_reply(status: int) -> None:
    mirrored = Mirrored(replying(status))
    await mirrored.send(make_call())
    await idle(mirrored.copies)
    assert mirrored.outcomes == [f"{status // 100}xx"]


@pytest.mark.parametrize(
    "error", [Shed("circuit_open"), UpstreamFailed("upstream_unreachable", sent=False), DeadlinePassed()]
)
async def test_a_copy_that_fails_is_told_and_nothing_else(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    mirrored, call = Mirrored(failing(error)), make_call()
    assert (await mirrored.send(call)).status == 200
    await idle(mirrored.copies)
    assert mirrored.outcomes == ["failed"]
    assert (call.error, call.hops, caplog.records) == (None, [], [])


async def test_a_defect_on_the_copys_way_is_logged_and_does_not_reach_the_original(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mirrored = Mirrored(failing(ZeroDivisionError()))
    assert (await mirrored.send(make_call())).status == 200
    await idle(mirrored.copies)
    assert mirrored.outcomes == ["failed"]
    (record,) = caplog.records
    assert (record.levelno, record.exc_info is not None) == (logging.ERROR, True)


@pytest.mark.parametrize("body", [Chunks(b"on its way"), b"x" * (BODY_LIMIT + 1)])
async def test_a_body_that_is_not_in_hand_or_large_is_not_copied(body: bytes | Chunks) -> None:
    mirrored, call = Mirrored(explosive()), make_call("POST", body=body)
    assert (await mirrored.send(call)).status == 200
    assert told(call) == [("mirror", "shadow", "skipped: body")]
    assert mirrored.outcomes == ["skipped"]
    if isinstance(body, Chunks):
        assert (body.received, body.closed) == (0, False)


async def test_a_body_of_exactly_the_limit_is_copied() -> None:
    mirrored = Mirrored(replying(201))
    await mirrored.send(make_call("PUT", body=b"x" * BODY_LIMIT))
    await idle(mirrored.copies)
    assert mirrored.outcomes == ["2xx"]


async def test_a_tunnel_is_not_copied() -> None:
    request = Request("GET", b"/", Fields([], host=b"example.com", upgrade=b"websocket"), Peer("192.0.2.7", 50000))
    mirrored, call = Mirrored(explosive()), Call(request, "test-request")
    await mirrored.send(call)
    assert told(call) == [("mirror", "shadow", "skipped: upgrade")]
    assert mirrored.outcomes == ["skipped"]


async def test_no_more_than_so_many_copies_are_under_way() -> None:
    gate = asyncio.Event()
    mirrored = Mirrored(delayed(replying(200), gate), most=2)
    calls = [make_call() for _ in range(4)]
    for call in calls:
        assert (await mirrored.send(call)).status == 200  # the originals wait for none of them
    assert [told(call) for call in calls] == [[], []] + [[("mirror", "shadow", "skipped: full")]] * 2
    gate.set()
    await idle(mirrored.copies)
    await mirrored.send(late := make_call())
    await idle(mirrored.copies)
    assert told(late) == []
    assert sorted(mirrored.outcomes) == ["2xx"] * 3 + ["skipped"] * 2


async def test_a_reply_is_read_to_its_end_so_that_its_connection_can_be_used_again() -> None:
    body = Chunks(b"one", b"two", b"three")
    mirrored = Mirrored(replying(200, body=body))
    await mirrored.send(make_call())
    await idle(mirrored.copies)
    assert (body.received, body.closed, mirrored.outcomes) == (11, True, ["2xx"])


async def test_a_reply_that_breaks_off_is_a_failure() -> None:
    body = Chunks(b"one", UpstreamFailed("upstream_failed", sent=True))
    mirrored = Mirrored(replying(200, body=body))
    await mirrored.send(make_call())
    await idle(mirrored.copies)
    assert (body.closed, mirrored.outcomes) == (True, ["failed"])


class Endless(Chunks):
    """A reply without an end; something happens at each of its pieces."""

    def __init__(self, piece: bytes, happens: Callable[[], None] = lambda: None) -> None:
        super().__init__(piece)
        self._piece = piece
        self._happens = happens

    async def read(self) -> bytes:
        self._pieces.append(self._piece)
        self._happens()
        return await super().read()


async def test_a_long_reply_is_cut_off() -> None:
    body = Endless(b"x" * 100_000)
    mirrored = Mirrored(replying(200, body=body))
    await mirrored.send(make_call())
    await idle(mirrored.copies)
    assert body.closed
    assert REPLY_LIMIT < body.received <= REPLY_LIMIT + 100_000
    assert mirrored.outcomes == ["2xx"]


async def test_a_reply_that_drips_is_cut_off_when_the_copys_time_is_over() -> None:
    body = Endless(b"x", lambda: mirrored.clock.advance(PATIENCE / 10))
    mirrored = Mirrored(replying(200, body=body))
    await mirrored.send(make_call())
    await idle(mirrored.copies)
    assert (body.received, body.closed) == (10, True)


async def test_closing_ends_what_is_under_way() -> None:
    ended: list[str] = []

    async def frozen(call: Call) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(call.id)
        raise AssertionError

    mirrored = Mirrored(frozen)
    await mirrored.send(make_call())
    await asyncio.sleep(0)
    await mirrored.send(make_call())  # this one has not even begun
    await mirrored.copies.close()
    assert (ended, len(mirrored.copies), mirrored.outcomes) == (["test-request"], 0, [])


async def test_a_client_that_leaves_does_not_take_its_copy_along() -> None:
    gate = asyncio.Event()
    mirrored = Mirrored(delayed(replying(200), gate), delayed(explosive(), asyncio.Event()))
    original = asyncio.ensure_future(mirrored.send(make_call()))
    await asyncio.sleep(0)
    original.cancel()
    with pytest.raises(asyncio.CancelledError):
        await original
    assert len(mirrored.copies) == 1
    gate.set()
    await idle(mirrored.copies)
    assert mirrored.outcomes == ["2xx"]
