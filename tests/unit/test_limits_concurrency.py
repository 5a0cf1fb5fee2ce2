"""Gates: whose turn it is, who gives up, and that no place is ever lost."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.exchange import NEVER
from gateway.limits.concurrency import FREE, QUEUED, REFUSED, TIMEOUT, Gate, Gates, share
from tests.fakes import Clock


def play(story: Callable[[Clock], Awaitable[None]]) -> None:
    """Run `story` on a loop whose time only it moves on."""
    clock = Clock()
    loop = asyncio.new_event_loop()
    loop.time = clock  # type: ignore[method-assign]
    try:
        loop.run_until_complete(asyncio.wait_for(story(clock), None))
    finally:
        loop.close()


def alarms() -> list[asyncio.TimerHandle]:
    """The timers that are set on this loop."""
    handles: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return [handle for handle in handles if not handle.cancelled()]


async def turns(number: int = 4) -> None:
    """Let everybody do what they can do now."""
    for _ in range(number):
        await asyncio.sleep(0)


async def in_line(gate: Gate, patience: float = NEVER) -> "asyncio.Task[str]":
    """Somebody who waits in line."""
    task = asyncio.ensure_future(gate.enter(patience))
    await turns(1)
    assert not task.done()
    return task


@pytest.mark.parametrize(("number", "workers", "each"), [(100, 1, 100), (100, 4, 25), (5, 4, 2), (1, 8, 1), (0, 3, 0)])
def test_each_worker_has_an_equal_share_and_none_has_nothing(number: int, workers: int, each: int) -> None:
    assert share(number, workers) == each


async def test_so_many_enter_at_once_and_one_more_is_refused() -> None:
    gate = Gate(2)
    assert [await gate.enter(), await gate.enter(), await gate.enter()] == [FREE, FREE, REFUSED]
    assert not gate.take()
    gate.leave()
    assert gate.take()
    assert (gate.busy, gate.queued) == (2, 0)


async def test_places_are_handed_out_in_the_order_in_which_they_were_asked_for() -> None:
    gate = Gate(1, queue=3)
    gate.take()
    order: list[int] = []

    async def visit(number: int) -> None:
        assert await gate.enter() == QUEUED
        order.append(number)
        gate.leave()

    visits = [asyncio.ensure_future(visit(number)) for number in range(3)]
    await turns(1)
    assert (gate.busy, gate.queued) == (1, 3)
    gate.leave()
    await asyncio.gather(*visits)
    assert order == [0, 1, 2]
    assert (gate.busy, gate.queued) == (0, 0)


async def test_a_newcomer_does_not_take_the_place_that_was_promised() -> None:
    gate = Gate(1, queue=1)
    gate.take()
    first = await in_line(gate)
    gate.leave()
    assert not gate.take()  # before `first` had its turn
    assert await first == QUEUED


async def test_the_line_has_so_many_places_and_who_gives_up_frees_one() -> None:
    gate = Gate(1, queue=2)
    gate.take()
    first, second = await in_line(gate), await in_line(gate)
    assert await gate.enter() == REFUSED
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert gate.queued == 1
    third = await in_line(gate)
    gate.leave()
    assert await second == QUEUED
    gate.leave()
    assert await third == QUEUED


async def test_a_place_that_is_handed_to_somebody_who_was_just_cancelled_goes_to_the_next() -> None:
    gate = Gate(1, queue=2)
    gate.take()
    first, second = await in_line(gate), await in_line(gate)
    gate.leave()
    first.cancel()  # handed over, but not woken yet
    assert await second == QUEUED
    assert first.cancelled()
    assert (gate.busy, gate.queued) == (1, 0)


async def test_somebody_who_is_about_to_leave_the_line_is_passed_over() -> None:
    gate = Gate(1, queue=2)
    gate.take()
    first, second = await in_line(gate), await in_line(gate)
    first.cancel()
    gate.leave()
    assert await second == QUEUED
    assert (gate.busy, gate.queued) == (1, 0)


async def test_the_last_one_who_gives_up_with_a_place_in_hand_gives_it_back() -> None:
    gate = Gate(1, queue=1)
    gate.take()
    only = await in_line(gate)
    gate.leave()
    only.cancel()
    await asyncio.gather(only, return_exceptions=True)
    assert (gate.busy, gate.queued) == (0, 0)


def test_nobody_waits_longer_than_the_line_allows_or_than_they_can() -> None:
    async def story(clock: Clock) -> None:
        gate = Gate(1, queue=2, queue_timeout=0.5)
        gate.take()
        patient, hasty = await in_line(gate), await in_line(gate, 0.2)
        clock.advance(0.25)
        await turns()
        assert (hasty.done(), patient.done(), gate.queued) == (True, False, 1)
        clock.advance(0.3)
        await turns()
        assert (await hasty, await patient) == (TIMEOUT, TIMEOUT)
        assert (gate.busy, gate.queued) == (1, 0)
        lucky = await in_line(gate)
        gate.leave()
        assert await lucky == QUEUED
        assert not alarms(), "and none is left behind that would go off for nobody"

    play(story)


@pytest.mark.parametrize("patience", [0.0, -1.0])
async def test_who_has_no_time_left_does_not_begin_to_wait(patience: float) -> None:
    gate = Gate(1, queue=1)
    gate.take()
    assert await gate.enter(patience) == TIMEOUT
    assert gate.queued == 0


def test_a_place_that_comes_at_the_very_end_of_the_wait_is_not_lost() -> None:
    async def story(clock: Clock) -> None:
        gate = Gate(1, queue=1, queue_timeout=0.5)
        gate.take()
        task = await in_line(gate)
        clock.advance(0.6)
        gate.leave()  # in the same turn of the loop in which the wait is over
        await turns()
        assert await task == QUEUED
        assert gate.busy == 1

    play(story)


async def test_a_higher_limit_lets_those_in_who_wait_longest() -> None:
    gate = Gate(1, queue=3)
    gate.take()
    tasks = [await in_line(gate) for _ in range(3)]
    gate.resize(3)
    await turns()
    assert [task.done() for task in tasks] == [True, True, False]
    assert (gate.busy, gate.queued) == (3, 1)
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_lower_limit_sends_nobody_away_and_lets_nobody_in_until_it_is_kept() -> None:
    gate = Gate(3, queue=1)
    for _ in range(3):
        gate.take()
    task = await in_line(gate)
    gate.resize(1)
    gate.leave()
    gate.leave()
    await turns()
    assert (gate.busy, task.done()) == (1, False)
    gate.leave()
    assert await task == QUEUED
    assert gate.busy == 1


class Crowd:
    """People at a gate who come, leave, give up and take their turns, as the dice fall."""

    def __init__(self, gate: Gate, clock: Clock, dice: random.Random) -> None:
        self.gate = gate
        self.inside = 0
        self.served: list[int] = []  # of those who had to wait
        self.tasks: list[asyncio.Task[None]] = []
        self._clock = clock
        self._dice = dice

    async def act(self) -> None:
        """Anything that can happen."""
        await self._dice.choice(
            [self._come] * 4 + [self._leave] * 3 + [self._give_up] * 3 + [self._turn] * 3 + [self._wait, self._resize]
        )()

    async def go(self) -> None:
        """Everybody leaves, or gives up."""
        while self.inside:
            await self._leave()
            await turns()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _visit(self, number: int) -> None:
        outcome = await self.gate.enter()
        if outcome in (FREE, QUEUED):
            self.inside += 1
        if outcome == QUEUED:
            self.served.append(number)

    async def _come(self) -> None:
        self.tasks.append(asyncio.ensure_future(self._visit(len(self.tasks))))

    async def _leave(self) -> None:
        if self.inside:
            self.inside -= 1
            self.gate.leave()

    async def _give_up(self) -> None:
        waiting = [task for task in self.tasks if not task.done()]
        if waiting:
            self._dice.choice((waiting[0], self._dice.choice(waiting))).cancel()

    async def _turn(self) -> None:
        await turns(1)

    async def _wait(self) -> None:
        self._clock.advance(self._dice.choice((0.3, 1.1)))

    async def _resize(self) -> None:
        self.gate.resize(self._dice.randint(1, 5))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(0, 4))
def test_no_place_is_ever_lost_whatever_happens_in_whatever_order(seed: int, limit: int, queue: int) -> None:
    async def story(clock: Clock) -> None:
        gate = Gate(limit, queue, queue_timeout=1.0)
        crowd = Crowd(gate, clock, random.Random(seed))
        for _ in range(100):
            await crowd.act()
            assert gate.busy >= crowd.inside
            assert gate.queued <= queue
            assert not gate.queued or gate.busy >= gate.limit
        await turns()
        assert gate.busy == crowd.inside, "everybody who holds a place knows of it"
        assert crowd.served == sorted(crowd.served), "nobody has had their turn before somebody who waited longer"
        await crowd.go()
        assert (gate.busy, gate.queued) == (0, 0)

    play(story)


def test_each_key_has_a_gate_of_its_own_which_is_gone_when_nobody_is_inside() -> None:
    gates = Gates(1)
    acme, zeta = gates.of(b"acme"), gates.of(b"zeta")
    assert (acme.take(), zeta.take(), gates.of(b"acme").take()) == (True, True, False)
    assert (len(gates), gates.busy, gates.queued, gates.limit) == (2, 2, 0, 1)
    acme.leave()
    assert len(gates) == 1
    assert gates.of(b"acme").take()
    zeta.leave()
    gates.of(b"acme").leave()
    assert (len(gates), gates.busy) == (0, 0)


async def test_a_gate_with_a_line_stays_until_the_last_of_it_has_left() -> None:
    gates = Gates(1, queue=2)
    gate = gates.of(b"acme")
    gate.take()
    first, second = await in_line(gate), await in_line(gates.of(b"acme"))
    assert gates.queued == 2
    gate.leave()
    assert await first == QUEUED
    assert gates.of(b"acme") is gate
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert len(gates) == 1
    gate.leave()
    assert len(gates) == 0


def test_a_million_keys_leave_nothing_behind() -> None:
    gates = Gates(2)
    for number in range(10_000):  # each stands for a hundred
        gate = gates.of(b"%d" % number)
        gate.take()
        gate.leave()
    assert len(gates) == 0


def test_a_busy_gate_is_told_that_it_is_idle_only_once_it_is() -> None:
    told: list[str] = []
    gate = Gate(2, on_idle=partial(told.append, "idle"))
    gate.take()
    gate.take()
    gate.leave()
    assert told == []
    gate.leave()
    assert told == ["idle"]
