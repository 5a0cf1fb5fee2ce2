"""Lease mode over a store in memory: what is asked, what is spent, what melts, and what is put back."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import Shed
from gateway.exchange import Quota
from gateway.limits.gcra import Rate, rate
from gateway.limits.lease import LeasedStore
from gateway.limits.memory import MemoryStore
from gateway.limits.meter import TICKS
from gateway.limits.store import Answer, RateStore, Take
from tests.fakes import Clock

HUNDRED = rate("hot", 100, 1000.0)  # one permit each ten seconds
EXACT = rate("exact", 5, 1000.0)
SIZES = {"hot": 10}


class Watched:
    """A store that notes what it is asked; `door` holds it back, `instead` is answered or raised in its place."""

    def __init__(self, store: RateStore) -> None:
        self.store = store
        self.asked: list[int] = []
        self.door: asyncio.Event | None = None
        self.instead: Answer | Exception | None = None
        self.how = ""
        self.closed = 0

    async def take(self, takes: Sequence[Take]) -> Answer:
        self.asked.append(takes[0][2])
        if self.door is not None:
            await self.door.wait()
        if isinstance(self.instead, Exception):
            raise self.instead
        if self.instead is not None:
            return self.instead
        quotas, _, _ = await self.store.take(takes)
        return quotas, self.how, True

    async def close(self) -> None:
        self.closed += 1


class World:
    """One clock, one store, and workers that lease from it."""

    def __init__(self, workers: int = 1, **options: int) -> None:
        self.clock = Clock()
        self.memory = MemoryStore(clock=self.clock)
        self.store = Watched(self.memory)
        self.workers = [LeasedStore(self.store, SIZES, clock=self.clock, **options) for _ in range(workers)]

    async def take(self, cost: int = 1, *, worker: int = 0, meter: Rate = HUNDRED, key: bytes = b"k") -> Quota:
        (quota,), _, _ = await self.workers[worker].take([(key, meter, cost)])
        return quota

    async def passed(self, times: int, cost: int = 1, *, worker: int = 0) -> int:
        return sum([(await self.take(cost, worker=worker)).allowed for _ in range(times)])

    def left(self, meter: Rate = HUNDRED, key: bytes = b"k") -> int:
        """What the store has left."""
        return self.memory.take_one(key, meter, 0).remaining


async def test_one_question_serves_a_lease_of_callers() -> None:
    world = World()
    assert await world.passed(10) == 10
    assert world.store.asked == [10]
    assert await world.passed(1) == 1
    assert world.store.asked == [10, 10]


async def test_who_asked_has_waited_and_who_spends_has_not() -> None:
    world = World()
    (leased,) = world.workers
    assert [(await leased.take([(b"k", HUNDRED, 1)]))[1:] for _ in range(3)] == [("", True), ("", False), ("", False)]


async def test_the_quota_counts_what_the_store_has_and_what_is_left_of_the_lease() -> None:
    world = World()
    quotas = [await world.take() for _ in range(25)]
    assert [quota.remaining for quota in quotas] == list(range(99, 74, -1))
    assert [quota.reset_after for quota in quotas] == [10.0 * n for n in range(1, 26)]
    assert {(quota.allowed, quota.policy, quota.limit, quota.window, quota.retry_after) for quota in quotas} == {
        (True, "hot", 100, 1000.0, 0.0)
    }


async def test_other_limits_and_takes_that_cost_nothing_go_to_the_store_as_they_are() -> None:
    world = World()
    for meter, cost in ((EXACT, 1), (EXACT, 2), (HUNDRED, 0)):
        assert (await world.take(cost, meter=meter)).allowed
    assert world.store.asked == [1, 2, 0]
    assert await world.passed(3) == 3
    assert (await world.take(0)).remaining == 90  # exact: what is leased is taken
    assert world.store.asked == [1, 2, 0, 10, 0]
    assert len(world.workers[0]) == 1


@pytest.mark.parametrize("workers", [1, 4])
async def test_e4_all_workers_together_never_pass_more_and_each_keeps_less_than_a_lease(workers: int) -> None:
    world = World(workers)
    await world.passed(3, worker=0)
    passed = 3
    for worker in range(workers):
        passed += await world.passed(120, worker=worker)
    assert world.left() == 0
    assert passed == 100  # each one went on until even the store had nothing


async def test_what_others_hold_unspent_is_what_a_refusal_comes_early_by() -> None:
    world = World(5)
    for worker in range(4):
        await world.passed(1, worker=worker)
    assert await world.passed(200, worker=4) == 60
    assert [await world.passed(20, worker=worker) for worker in range(4)] == [9, 9, 9, 9]


async def test_where_less_than_a_lease_is_left_that_is_taken_in_a_second_trip() -> None:
    world = World()
    world.memory.take_one(b"k", HUNDRED, 93)
    quota = await world.take()
    assert (quota.allowed, quota.remaining) == (True, 6)
    assert world.store.asked == [10, 7]
    assert await world.passed(20) == 6
    assert world.store.asked == [10, 7]  # it said that this was all


async def test_e6_a_refusal_is_remembered_and_costs_nothing() -> None:
    world = World()
    assert await world.passed(101) == 100
    asked = len(world.store.asked)
    for _ in range(50):
        quota = await world.take()
        assert (quota.allowed, quota.remaining, quota.reset_after, quota.retry_after) == (False, 0, 1000.0, 10.0)
    assert len(world.store.asked) == asked


async def test_a_refusal_is_remembered_for_a_second_at_most() -> None:
    world = World()
    await world.passed(101)
    world.memory.take_one(b"k", HUNDRED, -50)  # as if the store had been emptied
    world.clock.advance(0.999)
    assert not (await world.take()).allowed
    world.clock.advance(0.001)
    assert (await world.take()).allowed


async def test_after_the_wait_that_it_was_told_a_caller_passes() -> None:
    quick = rate("hot", 100, 1.0)
    world = World()
    while (quota := await world.take(meter=quick)).allowed:
        pass
    asked = len(world.store.asked)
    world.clock.advance(quota.retry_after - 0.001)
    assert not (await world.take(meter=quick)).allowed
    world.clock.advance(0.001)
    assert (await world.take(meter=quick)).allowed
    assert world.store.asked[asked:] == [1]  # it knows that there cannot be more


async def test_an_unspent_lease_melts_away_as_the_store_works_it_off() -> None:
    world = World()
    await world.passed(1)
    world.clock.advance(70)  # seven intervals: the store owes three of ten
    assert world.left() == 97
    assert await world.passed(3) == 3
    assert world.store.asked == [10]
    await world.passed(1)
    assert world.store.asked == [10, 10]


async def test_an_unspent_lease_is_forgotten_when_its_permits_have_come_back() -> None:
    world = World()
    await world.passed(1)
    world.clock.advance(100)
    assert world.left() == 100
    assert await world.passed(200) == 100


async def test_behind_the_debt_of_others_a_lease_lasts_as_long_as_the_store_counts_it() -> None:
    world = World(2)
    await world.passed(50, worker=1)
    await world.passed(1)
    world.clock.advance(500)
    assert world.left() == 90
    assert await world.passed(9) == 9
    assert world.store.asked == [10] * 6


async def test_callers_who_come_together_share_one_question() -> None:
    world = World()
    world.store.door = asyncio.Event()
    callers = [asyncio.create_task(world.take()) for _ in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    callers += [asyncio.create_task(world.take()) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert world.store.asked == [10]
    world.store.door.set()
    quotas = await asyncio.gather(*callers)
    assert [quota.remaining for quota in quotas] == [99, 98, 97, 96, 95, 94, 93]
    assert world.store.asked == [10]


async def test_who_came_while_a_question_was_on_its_way_is_served_by_its_answer_and_has_waited() -> None:
    world = World()
    (leased,) = world.workers
    world.store.door = asyncio.Event()
    callers = [asyncio.create_task(leased.take([(b"k", HUNDRED, 1)]))]
    for _ in range(3):
        await asyncio.sleep(0)
    callers += [asyncio.create_task(leased.take([(b"k", HUNDRED, 1)])) for _ in range(12)]
    await asyncio.sleep(0)
    world.store.door.set()
    answers = await asyncio.gather(*callers)
    assert [waited for _, _, waited in answers] == [True] * 13
    assert [quotas[0].remaining for quotas, _, _ in answers] == list(range(99, 86, -1))
    assert world.store.asked == [10, 10]


async def test_time_that_passes_between_the_leases_of_one_trip_costs_nobody_a_permit() -> None:
    world = World()
    through = world.store.take

    async def take(takes: Sequence[Take]) -> Answer:
        world.clock.advance(1.0)
        return await through(takes)

    world.store.take = take  # type: ignore[method-assign]
    quotas = await asyncio.gather(*(world.take() for _ in range(50)))
    assert [quota.remaining for quota in quotas] == list(range(99, 49, -1))
    assert world.store.asked == [10] * 5


async def test_many_who_come_together_are_served_by_as_many_leases_as_they_need_asked_at_once() -> None:
    world = World()
    world.store.door = asyncio.Event()
    callers = [asyncio.create_task(world.take()) for _ in range(120)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.store.asked == [10] * 12
    world.store.door.set()
    quotas = await asyncio.gather(*callers)
    assert [quota.remaining for quota in quotas if quota.allowed] == list(range(99, -1, -1))
    assert [(quota.remaining, quota.retry_after) for quota in quotas if not quota.allowed] == [(0, 10.0)] * 20
    assert world.store.asked == [10] * 12


async def test_those_who_come_together_wait_for_two_trips_at_most() -> None:
    world = World()
    world.memory.take_one(b"k", HUNDRED, 95)
    quotas = await asyncio.gather(*(world.take() for _ in range(30)))
    assert sum(quota.allowed for quota in quotas) == 5
    assert world.store.asked == [10, 10, 10, 5]


async def test_one_for_whom_others_were_quicker_twice_is_refused_but_not_for_long() -> None:
    world = World()
    world.memory.take_one(b"k", HUNDRED, 95)
    through, others = world.store.take, iter([1, 1])

    async def take(takes: Sequence[Take]) -> Answer:
        world.memory.take_one(b"k", HUNDRED, next(others, 0))
        return await through(takes)

    world.store.take = take  # type: ignore[method-assign]
    quota = await world.take()
    assert (quota.allowed, quota.remaining) == (False, 0)
    assert world.store.asked == [10, 4]
    assert 0 < quota.retry_after < 1e-6
    assert (await world.take()).remaining == 2
    assert world.store.asked == [10, 4, 3]


async def test_who_leaves_does_not_end_the_question_for_the_others() -> None:
    world = World()
    world.store.door = asyncio.Event()
    callers = [asyncio.create_task(world.take()) for _ in range(5)]
    await asyncio.sleep(0)
    callers[0].cancel()
    callers[3].cancel()
    await asyncio.sleep(0)
    world.store.door.set()
    quotas = await asyncio.gather(*callers, return_exceptions=True)
    assert [getattr(quota, "remaining", None) for quota in quotas] == [None, 99, 98, None, 97]
    assert world.store.asked == [10]


async def test_where_all_have_left_nothing_is_left_but_a_lease() -> None:
    world = World()
    world.store.door = asyncio.Event()
    callers = [asyncio.create_task(world.take()) for _ in range(50)]
    for _ in range(3):
        await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    world.store.door.set()
    await asyncio.gather(*callers, return_exceptions=True)
    await world.workers[0].close()
    assert world.store.asked == [10] * 5
    assert await world.passed(60) == 60
    assert world.store.asked == [10] * 10  # of the five leases one was kept


async def test_where_the_last_lease_was_refused_one_is_left_all_the_same() -> None:
    world = World()
    world.memory.take_one(b"k", HUNDRED, 75)
    through, others = world.store.take, iter([0, 0, 0, 5])
    callers: list[asyncio.Task[Quota]] = []

    async def take(takes: Sequence[Take]) -> Answer:
        world.memory.take_one(b"k", HUNDRED, next(others, 0))
        for caller in callers:
            caller.cancel()
        return await through(takes)

    world.store.take = take  # type: ignore[method-assign]
    callers += [asyncio.create_task(world.take()) for _ in range(30)]
    await asyncio.gather(*callers, return_exceptions=True)
    await world.workers[0].close()
    assert world.store.asked == [10, 10, 10, 5]
    assert await world.passed(30) == 10


async def test_for_those_who_left_at_once_nothing_is_asked() -> None:
    world = World()
    callers = [asyncio.create_task(world.take()) for _ in range(30)]
    await asyncio.sleep(0)
    for caller in callers[:25]:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    assert world.store.asked == [10]


async def test_who_leaves_while_several_leases_are_asked_for_spends_none_of_them() -> None:
    world = World()
    (leased,) = world.workers
    world.store.door = asyncio.Event()
    caller = asyncio.create_task(leased.take([(b"a", HUNDRED, 5), (b"b", HUNDRED, 5)]))
    for _ in range(3):
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    world.store.door.set()
    assert [(await world.take(key=key)).remaining for key in (b"a", b"b")] == [99, 99]
    assert world.store.asked == [10, 10]


async def test_one_who_leaves_with_the_answer_in_hand_does_not_count() -> None:
    world = World()

    async def first() -> Quota:
        quota = await world.take()
        second.cancel()  # which has its answer, and is about to go on
        return quota

    quick = asyncio.create_task(first())
    second = asyncio.create_task(world.take())
    assert (await quick).remaining == 99
    with pytest.raises(asyncio.CancelledError):
        await second
    assert (await world.take()).remaining == 98
    assert world.store.asked == [10]


async def test_a_request_may_cost_more_than_one_or_more_than_a_lease() -> None:
    world = World()
    assert [(await world.take(cost)).remaining for cost in (3, 4, 5, 25, 1)] == [97, 93, 88, 63, 62]
    assert world.store.asked == [10, 10, 25]  # whoever costs more than a lease takes as much


async def test_what_is_left_of_a_lease_and_of_the_store_is_enough_together() -> None:
    world = World()
    world.memory.take_one(b"k", HUNDRED, 87)
    assert (await world.take(8)).remaining == 5  # two are in hand, three in the store
    quota = await world.take(6)
    assert (quota.allowed, quota.remaining, quota.retry_after) == (False, 5, 10.0)
    assert (await world.take(5)).remaining == 0
    assert world.store.asked == [10, 3]


async def test_a_cost_that_cannot_be_met_takes_nothing_for_it() -> None:
    world = World()
    world.memory.take_one(b"k", HUNDRED, 97)
    assert not (await world.take(4)).allowed
    assert world.left() == 3
    assert world.store.asked == [10]


async def test_a_refusal_by_an_exact_limit_puts_the_permits_back() -> None:
    world = World()
    (leased,) = world.workers
    takes: list[Take] = [(b"e", EXACT, 2), (b"k", HUNDRED, 3)]
    quotas, how, waited = await leased.take(takes)
    assert [(quota.policy, quota.allowed, quota.remaining) for quota in quotas] == [
        ("exact", True, 3),
        ("hot", True, 97),
    ]
    assert (how, waited) == ("", True)
    assert (await leased.take(takes))[0][1].remaining == 94
    for _ in range(20):
        quotas, how, waited = await leased.take(takes)
        assert [(quota.allowed, quota.remaining) for quota in quotas] == [(False, 1), (True, 94)]
        assert (quotas[1].reset_after, quotas[1].retry_after) == (60.0, 0.0)
    assert await world.passed(4) == 4
    assert [cost for cost in world.store.asked if cost == 10] == [10]


async def test_a_refusal_by_a_leased_limit_takes_nothing_from_exact_ones_nor_asks_them() -> None:
    world = World()
    await world.passed(100)
    asked = len(world.store.asked)
    quotas, _, waited = await world.workers[0].take([(b"e", EXACT, 1), (b"k", HUNDRED, 1)])
    assert [(quota.policy, quota.allowed) for quota in quotas] == [("hot", False)]
    assert not waited
    assert len(world.store.asked) == asked
    assert world.left(EXACT, b"e") == 5


async def test_several_leased_limits_are_taken_all_or_none_and_asked_together() -> None:
    world = World()
    (leased,) = world.workers
    world.memory.take_one(b"b", HUNDRED, 97)
    takes: list[Take] = [(b"a", HUNDRED, 1), (b"b", HUNDRED, 2)]
    world.store.door = asyncio.Event()
    caller = asyncio.create_task(leased.take(takes))
    for _ in range(3):
        await asyncio.sleep(0)
    assert world.store.asked == [10, 10]
    world.store.door.set()
    assert [quota.remaining for quota in (await caller)[0]] == [99, 1]
    quotas, _, _ = await leased.take(takes)
    assert [(quota.allowed, quota.remaining) for quota in quotas] == [(True, 99), (False, 1)]
    assert [(await world.take(key=b"a")).remaining for _ in range(9)] == list(range(98, 89, -1))
    assert world.store.asked == [10, 10, 3]


async def test_who_leaves_while_an_exact_limit_is_asked_gives_the_permits_back() -> None:
    world = World()
    (leased,) = world.workers
    await world.passed(1)
    world.store.door = asyncio.Event()
    caller = asyncio.create_task(leased.take([(b"k", HUNDRED, 5), (b"e", EXACT, 1)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert (await world.take()).remaining == 98


async def test_permits_come_back_to_their_own_lease_only() -> None:
    world = World()
    (leased,) = world.workers
    await world.passed(1)
    world.store.door = asyncio.Event()
    caller = asyncio.create_task(leased.take([(b"k", HUNDRED, 9), (b"e", EXACT, 1)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    world.store.door = None  # it was closed behind this caller alone
    assert (await world.take()).allowed  # from a new lease
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert await world.passed(10) == 10
    assert world.store.asked == [10, 1, 10, 10]


async def test_e13_keys_with_leases_are_bounded_and_the_longest_unused_goes_first() -> None:
    world = World(capacity=100)
    for n in range(100):
        await world.take(key=b"%d" % n)
    await world.take(key=b"0")
    for n in range(100, 150):
        await world.take(key=b"%d" % n)
    assert len(world.workers[0]) == 100
    asked = len(world.store.asked)
    await world.take(key=b"0")
    assert len(world.store.asked) == asked
    await world.take(key=b"1")
    assert len(world.store.asked) == asked + 1


async def test_e7_leases_in_hand_are_spent_first_when_the_store_is_away() -> None:
    world = World()
    (leased,) = world.workers
    await world.passed(1)
    world.store.instead = (), "open", True
    answers = [await leased.take([(b"k", HUNDRED, 1)]) for _ in range(12)]
    assert [len(quotas) for quotas, _, _ in answers] == [1] * 9 + [0] * 3
    assert [how for _, how, _ in answers] == [""] * 9 + ["open"] * 3


async def test_e7_a_lease_that_was_counted_here_says_so_until_it_is_spent() -> None:
    world = World()
    (leased,) = world.workers
    world.store.how = "local"
    answers = [await leased.take([(b"k", HUNDRED, 1)])]
    world.store.how = ""
    answers += [await leased.take([(b"k", HUNDRED, 1)]) for _ in range(10)]
    assert [how for _, how, _ in answers] == ["local"] * 10 + [""]


async def test_e7_closed_limits_refuse_everybody_who_waits_and_leave_nothing_behind() -> None:
    world = World()
    world.store.instead = Shed("overloaded", 503, retry_after=1)
    results = await asyncio.gather(*(world.take() for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [Shed] * 5
    assert world.store.asked == [10]
    world.store.instead = None
    assert await world.passed(10) == 10


async def test_e7_a_closed_exact_limit_gives_leased_permits_back() -> None:
    world = World()
    await world.passed(1)
    world.store.instead = Shed("overloaded", 503, retry_after=1)
    with pytest.raises(Shed):
        await world.workers[0].take([(b"k", HUNDRED, 9), (b"e", EXACT, 1)])
    assert await world.passed(9) == 9


@pytest.mark.parametrize("away", [b"k", b"e"])
async def test_e7_what_nobody_has_counted_is_open_as_a_whole_unless_it_is_refused(away: bytes) -> None:
    world = World()
    (leased,) = world.workers
    through = world.store.take

    async def take(takes: Sequence[Take]) -> Answer:
        return ((), "open", True) if takes[0][0] == away else await through(takes)

    world.store.take = take  # type: ignore[method-assign]
    takes: list[Take] = [(b"k", HUNDRED, 1), (b"e", EXACT, 1)]
    assert await leased.take(takes) == ((), "open", True)
    world.memory.take_one(b"e", EXACT, world.left(EXACT, b"e"))
    world.memory.take_one(b"k", HUNDRED, world.left())
    await leased.take([(b"k", HUNDRED, 9)])
    quotas, _, _ = await leased.take(takes)
    assert [quota.allowed for quota in quotas] == [False]


async def test_a_failure_nobody_thought_of_reaches_everybody_who_waits() -> None:
    world = World()
    world.store.instead = ZeroDivisionError()
    results = await asyncio.gather(*(world.take() for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError] * 3


async def test_closing_waits_for_the_question_on_its_way() -> None:
    world = World()
    (leased,) = world.workers
    world.store.door = asyncio.Event()
    caller = asyncio.create_task(world.take())
    await asyncio.sleep(0)
    closing = asyncio.create_task(leased.close())
    await asyncio.sleep(0)
    assert world.store.closed == 0
    world.store.door.set()
    await closing
    assert world.store.closed == 1
    assert (await caller).allowed


async def test_callers_of_other_rates_share_what_is_leased_and_keep_to_their_own() -> None:
    world = World()
    small = rate("hot", 5, 50.0)  # the same policy and interval, a twentieth of the burst
    assert await world.passed(3) == 3
    assert [(await world.take(meter=small)).allowed for _ in range(4)] == [True, True, False, False]
    assert await world.passed(5) == 5
    assert world.store.asked[0] == 10


steps = st.lists(
    st.tuples(
        st.integers(0, 3),  # the worker
        st.integers(1, 4),  # the cost
        st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.001, 0.03, 0.1, 0.25, 1.0, 7.0]),  # seconds until the next
    ),
    max_size=250,
)
rates = st.builds(
    rate,
    policy=st.just("hot"),
    limit=st.integers(4, 60),
    window=st.sampled_from([0.5, 1.0, 7.0, 60.0]),
    burst=st.none() | st.integers(4, 80),
)


@settings(deadline=None, max_examples=200)
@given(meter=rates, size=st.integers(1, 12), steps=steps)
def test_whatever_happens_what_passes_is_within_the_limit(
    meter: Rate, size: int, steps: list[tuple[int, int, float]]
) -> None:
    """The model: the same meter, asked only for what has passed, at the moment when it did."""

    async def run() -> None:
        clock = Clock()
        memory = MemoryStore(clock=clock)
        workers = [LeasedStore(memory, {"hot": size}, clock=clock) for _ in range(4)]
        tat = 0
        for worker, cost, pause in steps:
            (quota,), _, _ = await workers[worker].take([(b"k", meter, cost)])
            left = memory.take_one(b"k", meter, 0).remaining
            if quota.allowed:
                tat, model = meter.take(tat, int(clock() * TICKS), cost)
                assert model.allowed
                assert quota.remaining >= left
            else:
                assert left < cost
                assert quota.retry_after > 0
            clock.advance(pause)

    asyncio.run(run())


@settings(deadline=None, max_examples=50)
@given(
    size=st.integers(1, 10),
    costs=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=150, max_size=300),
)
def test_without_time_passing_no_more_than_a_lease_of_each_worker_is_lost(
    size: int, costs: list[tuple[int, int]]
) -> None:
    async def run() -> None:
        clock = Clock()
        memory = MemoryStore(clock=clock)
        workers = [LeasedStore(memory, {"hot": size}, clock=clock) for _ in range(4)]
        spent: defaultdict[int, int] = defaultdict(int)
        for chunk in (costs[n : n + 30] for n in range(0, len(costs), 30)):
            answers = await asyncio.gather(*(workers[who].take([(b"k", HUNDRED, cost)]) for who, cost in chunk))
            for (who, cost), ((quota,), _, _) in zip(chunk, answers, strict=True):
                spent[who] += cost * quota.allowed
                if not quota.allowed:
                    assert memory.take_one(b"k", HUNDRED, 0).remaining < max(size, cost)
        total = sum(spent.values())
        left = memory.take_one(b"k", HUNDRED, 0).remaining
        assert total <= 100 - left
        assert total >= 100 - left - 4 * max(size, 3)

    asyncio.run(run())


async def test_workers_who_use_half_of_the_limit_together_are_never_refused() -> None:
    world = World(4)
    refused = 0
    for n in range(4000):
        refused += not (await world.take(worker=n * 7 % 4)).allowed
        world.clock.advance(20.0)
    assert refused == 0
    assert len(world.store.asked) < 4000 / 2
