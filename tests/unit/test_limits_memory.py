"""Rate limits in this process: bounded, and cleaned up on the way."""

import gc
import time
import tracemalloc

import pytest

from gateway.limits.calendar_window import CalendarWindow
from gateway.limits.gcra import rate
from gateway.limits.memory import SHARD, SMALL, MemoryStore
from gateway.limits.meter import Meter
from gateway.limits.sliding_window import SlidingWindow
from tests.fakes import Clock

PER_SECOND = rate("per_second", 10, 1.0)
PER_DAY = rate("per_day", 10, 86_400.0)
KINDS: list[Meter] = [
    rate("gcra", 10, 60.0),
    SlidingWindow("sliding_window", 10, 60.0),
    CalendarWindow("calendar_window", 10, "hour", "UTC"),
]


def store_of(capacity: int, clock: Clock) -> MemoryStore:
    return MemoryStore(capacity=capacity, clock=clock, wall=clock)


def test_keys_that_owe_nothing_any_more_are_dropped_on_the_way() -> None:
    clock = Clock()
    store = store_of(SHARD, clock)
    for n in range(10_000):
        store.take_one(b"%d" % n, PER_SECOND, 1)
        clock.advance(0.001)  # each owes for 100 ms, so at most a hundred owe at a time
        assert len(store) <= 2 * 100 + 4


@pytest.mark.parametrize("meter", KINDS, ids=lambda meter: meter.policy)
def test_states_of_every_kind_that_are_over_are_dropped_on_the_way(meter: Meter) -> None:
    clock = Clock()
    store = store_of(SHARD, clock)
    for n in range(1000):
        store.take_one(b"%d" % n, meter, 1)
        clock.advance(400.0)  # nine an hour
        assert len(store) <= 2 * 10 + SMALL


def test_keys_that_still_owe_do_not_hide_others_from_the_cleaning() -> None:
    clock = Clock()
    store = store_of(SHARD, clock)
    mixed = rate("mixed", 1000, 1000.0)  # one second each
    for n in range(10):
        store.take_one(b"busy%d" % n, mixed, 900)
    for n in range(800):
        store.take_one(b"%d" % n, mixed, 1)
        clock.advance(1.0)
        assert len(store) <= 2 * 11 + SMALL


@pytest.mark.parametrize("meter", KINDS, ids=lambda meter: meter.policy)
def test_e13_a_million_random_keys_take_bounded_memory(meter: Meter) -> None:
    store = store_of(1000, Clock())
    for n in range(2000):
        store.take_one(b"%032d" % n, meter, 1)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(2000, 20_000):
        store.take_one(b"%032d" % n, meter, 1)
        assert len(store) <= 1000
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 1_000_000  # the keys above were not traced; these are a thousand of them


@pytest.mark.parametrize("meter", KINDS, ids=lambda meter: meter.policy)
def test_a_key_takes_less_than_200_bytes(meter: Meter) -> None:
    count = 20_000
    store = store_of(2 * count, Clock(1_800_000_000.0))
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(count):
        store.take_one(b"%032d" % n, meter, 1)
    each = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    assert len(store) == count
    print(f"{meter.policy}: {each:.0f} bytes a key")  # noqa: T201
    assert each < 190  # and some for what the allocator rounds up


def test_no_take_of_a_new_key_waits_for_a_cleaning_of_everything() -> None:
    store = MemoryStore(capacity=50_000)
    slowest = 0.0
    for n in range(100_000):
        key = b"%032d" % n
        started = time.thread_time()  # of this thread: whoever else runs on this machine does not matter
        store.take_one(key, PER_DAY, 1)
        slowest = max(slowest, time.thread_time() - started)
    print(f"slowest take: {slowest * 1000:.2f} ms")  # noqa: T201
    assert slowest < 0.005


@pytest.mark.parametrize("meter", KINDS, ids=lambda meter: meter.policy)
def test_a_full_table_forgets_who_has_used_up_least(meter: Meter) -> None:
    store = store_of(100, Clock())
    for _ in range(10):
        assert store.take_one(b"heavy", meter, 1).allowed
    for n in range(5000):
        store.take_one(b"%d" % n, meter, 1)
    assert 80 <= len(store) <= 100
    assert not store.take_one(b"heavy", meter, 1).allowed


def test_a_full_table_forgets_what_is_over_before_anything_else() -> None:
    clock = Clock()
    store = store_of(100, clock)
    for n in range(50):
        store.take_one(b"living%d" % n, PER_DAY, 1)
    brief = rate("per_day", 10, 1.0)  # another tier of the same policy
    for n in range(5000):
        store.take_one(b"brief%d" % n, brief, 1)
        clock.advance(0.01)  # ten of them at a time mean something
    assert [store.take_one(b"living%d" % n, PER_DAY, 0).remaining for n in range(50)] == [9] * 50


def test_a_flood_under_one_policy_pushes_nobody_out_of_another() -> None:
    store = store_of(8, Clock())
    for _ in range(10):
        store.take_one(b"alice", PER_SECOND, 1)
    for n in range(1000):
        store.take_one(b"%d" % n, PER_DAY, 1)
    assert not store.take_one(b"alice", PER_SECOND, 1).allowed


def test_several_new_keys_at_once_are_bounded_too() -> None:
    store = store_of(10, Clock())
    for n in range(100):
        store.take_all([(b"a%d" % n, PER_DAY, 1), (b"b%d" % n, PER_SECOND, 1)])
        store.take_all([(b"c%d" % n, PER_DAY, 1), (b"d%d" % n, PER_DAY, 1)])
        assert len(store) <= 20


def test_who_only_asks_or_is_refused_at_once_leaves_nothing_behind() -> None:
    store = store_of(100, Clock())
    for n in range(50):
        store.take_one(b"%d" % n, PER_DAY, 0)
        store.take_one(b"%d" % n, PER_DAY, 11)
        store.take_one(b"%d" % n, PER_DAY, -1)
        store.take_all([(b"%d" % n, PER_DAY, 1), (b"%d" % n, PER_SECOND, 11)])
    assert len(store) == 0


def test_a_policy_that_is_counted_otherwise_after_a_reload_begins_anew() -> None:
    store = store_of(100, Clock())
    for _ in range(2):
        for meter in (rate("p", 3, 60.0), SlidingWindow("p", 3, 60.0), CalendarWindow("p", 3, "hour", "UTC")):
            store.take_one(b"k", meter, 1)
    assert store.take_one(b"k", rate("p", 3, 60.0), 0).remaining == 1
    assert store.take_one(b"k", SlidingWindow("p", 3, 60.0), 0).remaining == 1
    assert store.take_one(b"k", CalendarWindow("p", 3, "hour", "UTC"), 0).remaining == 1


def test_the_calendar_goes_by_the_wall_clock_and_all_else_by_the_one_that_nobody_sets() -> None:
    clock, wall = Clock(), Clock(1_800_000_000.0)
    store = MemoryStore(clock=clock, wall=wall)
    for meter in KINDS:
        store.take_one(b"k", meter, 10)
    wall.advance(3600.0)
    assert [store.take_one(b"k", meter, 0).remaining for meter in KINDS] == [0, 0, 10]
    clock.advance(3600.0)
    assert [store.take_one(b"k", meter, 0).remaining for meter in KINDS] == [10, 10, 10]


def test_a_refusal_by_one_of_several_still_cuts_back_what_another_rate_left() -> None:
    clock = Clock()
    store = store_of(100, clock)
    store.take_one(b"k", rate("p", 10, 86_400.0), 10)
    small, full = rate("p", 10, 1.0), rate("q", 1, 60.0)
    store.take_one(b"k", full, 1)
    store.take_all([(b"k", small, 1), (b"k", full, 1)])
    clock.advance(0.2)
    assert store.take_one(b"k", small, 1).allowed
