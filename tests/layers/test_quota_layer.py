import asyncio

import pytest

from gateway.errors import Shed, UpstreamFailed
from gateway.exchange import Reply
from gateway.pipe import Send, pipe
from gateway.resilience.budget import RetryBudget
from gateway.resilience.fallback import Static, fallback
from gateway.resilience.quota import QuotaPause
from gateway.resilience.quota_headers import LONGEST
from gateway.resilience.retry import RetryPolicy, retry
from tests.fakes import Clock, Dice, Script, Sleep, delayed, explosive, make_call, replying

USED_UP = Reply(200, [(b"ratelimit", b'"minute";r=0;t=30')])
SOME_LEFT = Reply(200, [(b"ratelimit", b'"minute";r=5;t=30')])
SILENT = Reply(200, [(b"content-type", b"text/plain")])
TOO_MANY = Reply(429, [(b"retry-after", b"2")])


class World:
    """A pause, its clock, and the road that it stands in."""

    def __init__(self, *, alone: bool = False) -> None:
        self.clock = Clock()
        self.pauses: list[float] = []
        self.pause = QuotaPause(alone=alone, on_pause=self.pauses.append, clock=self.clock, wall=lambda: 0.0)

    def road(self, send: Send) -> Send:
        return pipe(self.pause.gate, self.pause.ear, to=send)

    def retried(self, send: Send, sleep: Sleep) -> Send:
        policy = RetryPolicy(attempts=3, on=["503"], methods=["GET"], base=0.1, cap=1.0, replay_limit=1024)
        again = retry(policy, RetryBudget(1.0), clock=self.clock, wall=lambda: 0.0, dice=Dice(0.0), sleep=sleep)
        return pipe(self.pause.gate, again, self.pause.ear, to=send)


async def test_once_the_quota_is_used_up_nothing_is_sent_until_the_reset() -> None:
    world = World()
    assert await world.road(replying(200, USED_UP.headers))(make_call())
    world.clock.advance(12)
    with pytest.raises(Shed) as shed:
        await world.road(explosive())(make_call())
    assert (shed.value.code, shed.value.status, shed.value.retry_after) == ("upstream_quota", 503, 18.0)
    assert world.pause.left == 18.0
    world.clock.advance(18)
    assert world.pause.left == 0.0
    assert (await world.road(replying(204))(make_call())).status == 204


async def test_the_reply_that_used_it_up_is_passed_on_untouched() -> None:
    road = World().road(Script(USED_UP))
    assert await road(make_call()) is USED_UP


@pytest.mark.parametrize("reply", [SILENT, SOME_LEFT, Reply(503, [(b"retry-after", b"9")]), Reply(429, [])], ids=repr)
async def test_other_replies_pause_nothing(reply: Reply) -> None:
    world = World()
    await world.road(Script(reply))(make_call())
    assert (await world.road(replying(200))(make_call())).status == 200
    assert (world.pause.left, world.pauses) == (0.0, [])


async def test_a_503_of_an_upstream_that_is_one_target_pauses_it() -> None:
    world = World(alone=True)
    await world.road(replying(503, [(b"retry-after", b"9")]))(make_call())
    assert world.pause.left == 9.0


async def test_a_failure_tells_nothing() -> None:
    world = World()
    with pytest.raises(UpstreamFailed):
        await world.road(Script(UpstreamFailed("upstream_failed", sent=True)))(make_call())
    assert world.pause.left == 0.0


async def test_no_pause_is_longer_than_an_hour() -> None:
    world = World()
    await world.road(replying(200, [(b"ratelimit", b'"month";r=0;t=2592000')]))(make_call())
    assert world.pause.left == LONGEST == 3600.0


async def test_a_pause_is_announced_when_it_begins_and_not_when_it_goes_on() -> None:
    world = World()
    used_up = world.pause.ear(replying(200, USED_UP.headers))
    await used_up(make_call())
    world.clock.advance(1)
    await used_up(make_call())
    assert (world.pause.left, world.pauses) == (30.0, [30.0])
    world.clock.advance(31)
    await used_up(make_call())
    assert world.pauses == [30.0, 30.0]


async def test_fields_that_said_nothing_before_are_heard_with_another_status() -> None:
    world = World()
    road = world.road(
        Script(*(Reply(status, TOO_MANY.headers, b"", b"retry-after: 2\r\n") for status in (200, 200, 429)))
    )
    for left in (0.0, 0.0, 2.0):
        await road(make_call())
        assert world.pause.left == left


async def test_a_429_is_waited_out_by_its_own_call_and_stops_all_others_meanwhile() -> None:
    world = World()
    seen: list[float] = []

    class Meanwhile(Sleep):
        async def __call__(self, seconds: float) -> None:
            with pytest.raises(Shed, match="limit is used up") as shed:
                await world.retried(explosive(), sleep)(make_call())
            seen.append(shed.value.retry_after)
            await super().__call__(seconds)

    sleep = Meanwhile(world.clock)
    assert await world.retried(Script(TOO_MANY, SILENT), sleep)(make_call()) is SILENT
    assert (seen, sleep.waits) == ([2.0], [2.0])
    assert (await world.retried(replying(200), sleep)(make_call())).status == 200


async def test_a_retry_is_not_turned_away_though_another_call_was_told_to_wait_longer() -> None:
    world = World()
    sleep = Sleep(world.clock)

    async def longer(call: object) -> Reply:
        await world.pause.ear(replying(429, [(b"retry-after", b"60")]))(make_call())
        return TOO_MANY

    assert await world.retried(Script(longer, SILENT), sleep)(make_call()) is SILENT
    assert world.pause.left == 58.0


async def test_a_retry_that_hears_of_quota_left_ends_the_pause() -> None:
    world = World()

    async def longer(call: object) -> Reply:
        await world.pause.ear(replying(429, [(b"retry-after", b"60")]))(make_call())
        return TOO_MANY

    await world.retried(Script(longer, SOME_LEFT), Sleep(world.clock))(make_call())
    assert world.pause.left == 0.0


async def test_a_retry_that_hears_that_it_was_the_last_one_extends_the_pause() -> None:
    world = World()
    await world.retried(Script(TOO_MANY, USED_UP), Sleep(world.clock))(make_call())
    assert (world.pause.left, world.pauses) == (30.0, [2.0, 30.0])


async def test_an_old_reply_that_comes_late_does_not_end_a_pause() -> None:
    world, gate = World(), asyncio.Event()
    late = asyncio.create_task(world.road(delayed(replying(200, SOME_LEFT.headers), gate))(make_call()))
    await asyncio.sleep(0)
    await world.road(replying(200, USED_UP.headers))(make_call())
    gate.set()
    await late
    assert world.pause.left == 30.0


async def test_a_fallback_answers_during_the_pause() -> None:
    world = World()
    prepared = Static(frozenset({"quota"}), 200, body=b"later")
    road = pipe(fallback([prepared], world.clock), to=world.road(Script(USED_UP)))
    assert await road(make_call()) is USED_UP
    call = make_call()
    assert (await road(call)).body == b"later"
    assert [(hop.name, hop.outcome) for hop in call.hops] == [("static", "quota")]
