"""The layer that gives every try its target, and what it learns: a small world of targets in simulated time."""

import asyncio
from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

import pytest

from gateway.errors import GatewayError, Refused, Shed, UpstreamFailed
from gateway.exchange import Call, Reply
from gateway.resilience.breaker import ALWAYS, Circuit
from gateway.upstream.balance import balance, picker
from gateway.upstream.members import Member
from tests.fakes import Chunks, Clock, Dice, FakeTarget, delayed, explosive, failing, make_call, replying, to_target
from tests.unit.test_balance import opened

FROZEN = 1e9
PATIENCE = 3.0


class World:
    """Targets that answer after so many seconds each, and a clock that jumps from event to event."""

    def __init__(self, kind: str = "round_robin", weights: tuple[int, ...] = (1, 1), **seconds: float) -> None:
        self.clock = Clock(0.0)
        self.seconds = seconds
        self.circuits: dict[str, Circuit] = dict.fromkeys(seconds, ALWAYS)
        self.failure: GatewayError | None = None  # what quick targets answer with instead
        self.picked: list[str] = []
        self.asked: list[float] = []  # when each of these was
        self.tasks: list[asyncio.Task[Reply]] = []
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()  # of events at the same time
        members = [
            Member(FakeTarget(name, send=self._answer), weight) for name, weight in zip(seconds, weights, strict=True)
        ]
        self.picker = picker(kind, members, clock=self.clock, dice=Dice(0.5), key_of=lambda call: call.path)
        self._send = balance(self.picker)(to_target)

    async def _answer(self, call: Call) -> Reply:
        assert isinstance(call.target, FakeTarget)
        name = call.target.name
        self.picked.append(name)
        self.asked.append(self.clock.now)
        event = asyncio.Event()
        self.at(self.clock.now + min(self.seconds[name], PATIENCE), event.set)
        call.target.busy += 1
        try:
            await event.wait()
        finally:
            call.target.busy -= 1
        if self.seconds[name] >= PATIENCE:
            raise UpstreamFailed("upstream_timeout", 504, sent=True)
        if self.failure is not None:
            raise self.failure
        return Reply(200, [])

    def at(self, when: float, act: Callable[[], object]) -> None:
        heappush(self._events, (when, next(self._order), act))

    def request(self, call: Call | None = None) -> None:
        self.tasks.append(asyncio.create_task(self._requested(call or make_call())))

    async def _requested(self, call: Call) -> Reply:
        return await self._send(call)

    def load(self, rate: float, seconds: float, call: Callable[[], Call] = make_call) -> None:
        for number in range(round(rate * seconds)):
            self.at(self.clock.now + number / rate, lambda: self.request(call()))

    async def run(self, seconds: float) -> None:
        until = self.clock.now + seconds
        while self._events and self._events[0][0] <= until:
            self.clock.now, _, act = heappop(self._events)
            act()
            for _ in range(4):
                await asyncio.sleep(0)
        self.clock.now = until

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_the_layer_tells_the_call_where_it_goes_and_remembers_where_it_went() -> None:
    a, b = FakeTarget("a"), FakeTarget("b")
    turns = picker("round_robin", [Member(a), Member(b)], clock=Clock(), dice=Dice())
    send, call = balance(turns)(replying(200)), make_call()
    for _ in range(2):
        await send(call)
    assert call.target is b
    assert call.tried == [a, b]


async def test_a_call_that_no_target_admits_was_tried_nowhere() -> None:
    alone = picker("round_robin", [Member(FakeTarget("a", opened(Clock())))], clock=Clock(), dice=Dice())
    send, call = balance(alone)(explosive()), make_call()
    with pytest.raises(Shed):
        await send(call)
    assert (call.target, call.tried) == (None, [])


@pytest.mark.parametrize("kind", ["round_robin", "least_requests", "random", "peak_ewma"])
async def test_at_most_three_requests_pay_for_a_frozen_target(kind: str) -> None:
    world = World(kind, a=0.005, b=0.005)
    world.load(50, 2.0)
    await world.run(2.0)
    world.seconds["b"] = FROZEN
    world.picked.clear()
    world.load(50, 2.9)  # nothing has timed out by then
    await world.run(2.9)
    try:
        assert 1 <= Counter(world.picked)["b"] <= 3
        assert len(world.picked) == 145
    finally:
        await world.end()


async def test_a_frozen_target_is_asked_again_after_a_while_and_returns_with_its_first_answer() -> None:
    world = World(a=0.005, b=FROZEN)
    world.load(50, 30.0)
    await world.run(20.0)
    when = [at for at, name in zip(world.asked, world.picked, strict=True) if name == "b"]
    assert len(when) == 4
    assert 10.0 <= when[3] - when[2] < 10.1
    world.seconds["b"] = 0.005
    world.picked.clear()
    await world.run(10.0)
    try:
        assert abs(Counter(world.picked)["b"] - 500 * (30.0 - when[3] - 10.0) / 20) < 20
    finally:
        await world.end()


async def test_two_slow_targets_keep_their_even_shares() -> None:
    world = World(a=2.0, b=2.0)
    world.load(50, 20.0)
    await world.run(20.0)
    try:
        assert abs(Counter(world.picked)["a"] - 500) <= 20
    finally:
        await world.end()


async def test_a_burst_keeps_its_weights_even_if_the_targets_are_slow() -> None:
    world = World(weights=(3, 1), a=1.0, b=1.0)
    for _ in range(10):
        world.load(1e6, 1e-4)
        await world.run(0.7)
    try:
        assert abs(Counter(world.picked)["b"] - 250) <= 25
    finally:
        await world.end()


async def test_when_all_are_silent_nobody_is_skipped() -> None:
    world = World(a=FROZEN, b=FROZEN)
    world.load(50, 2.0)
    await world.run(2.0)
    try:
        assert abs(Counter(world.picked)["a"] - 50) <= 3
    finally:
        await world.end()


async def test_quick_failures_are_answers() -> None:
    world = World(a=0.001, b=0.001)
    world.failure = UpstreamFailed("upstream_unreachable", sent=False)
    world.load(50, 2.0)
    await world.run(2.1)
    assert Counter(world.picked) == {"a": 50, "b": 50}
    assert [member.unanswered for member in world.picker.members.all] == [0, 0]
    await world.end()


async def test_clients_that_leave_at_once_do_not_silence_a_target() -> None:
    world = World(a=1.0, b=1.0)
    for _ in range(20):
        world.request()
        await asyncio.sleep(0)
        world.clock.advance(0.01)
        await world.end()
    assert [member.unanswered for member in world.picker.members.all] == [0, 0]


async def test_clients_that_leave_after_a_while_have_not_been_answered() -> None:
    world = World(a=1.0, b=1.0)
    for _ in range(6):
        world.request()
        await asyncio.sleep(0)
        world.clock.advance(0.2)
        await world.end()
    assert [member.unanswered for member in world.picker.members.all] == [3, 3]


async def test_a_client_that_leaves_takes_back_nothing_that_was_answered_before() -> None:
    a, clock = Member(FakeTarget("a")), Clock()
    turns = picker("round_robin", [a, Member(FakeTarget("b"))], clock=clock, dice=Dice())
    blocked = balance(turns)(delayed(explosive(), asyncio.Event()))

    async def visit() -> None:
        await blocked(make_call())

    leaving = asyncio.create_task(visit())
    await asyncio.sleep(0)
    assert a.unanswered == 1
    a.unanswered = 0  # another try's answer
    clock.advance(0.01)
    a.unanswered, a.first = 2, clock.now  # and two more that have begun
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert a.unanswered == 2


async def test_bodies_on_their_way_are_waited_for_by_nobody_but_their_replies_are_answers() -> None:
    world = World(a=1.0, b=0.01)
    world.load(50, 0.5, lambda: make_call("PUT", body=Chunks(b"slow")))
    await world.run(0.5)
    assert Counter(world.picked) == {"a": 13, "b": 12}
    member = world.picker.members.all[0]
    assert member.unanswered == 0
    member.unanswered = 2
    await world.run(1.5)
    assert member.unanswered == 0
    await world.end()


async def test_our_own_refusals_neither_answer_nor_count() -> None:
    a = Member(FakeTarget("a"))
    for error in (Shed("overloaded"), Refused("body_too_large", 413)):
        send = balance(picker("round_robin", [a, Member(FakeTarget("b"))], clock=Clock(), dice=Dice()))(failing(error))
        a.unanswered, a.first = 2, 900.0
        with pytest.raises(type(error)):
            await send(make_call())
        assert a.unanswered == 2


async def test_a_lone_target_is_not_listened_to_and_a_second_one_changes_that() -> None:
    a, b = Member(FakeTarget("a")), Member(FakeTarget("b"))
    turns = picker("peak_ewma", [a], clock=Clock(), dice=Dice())
    send = balance(turns)(replying(503))
    await send(make_call())
    assert a.cost == 0.0
    turns.replace([a, b])
    for _ in range(2):
        await send(make_call())
    assert min(a.cost, b.cost) > 0.0


async def test_the_slow_one_of_two_gets_little_by_expected_time() -> None:
    world = World("peak_ewma", a=0.01, b=0.2)
    world.load(50, 10.0)
    await world.run(10.5)
    assert Counter(world.picked)["b"] < 25
    await world.end()


async def test_the_fewest_requests_favour_the_quick() -> None:
    world = World("least_requests", a=0.01, b=0.2)
    world.load(100, 5.0)
    await world.run(5.5)
    assert Counter(world.picked)["b"] < 60
    await world.end()
