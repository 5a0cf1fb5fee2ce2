"""Rate limits in this process: bounded, and cleaned up on the way."""

import tracemalloc

from gateway.limits.gcra import rate
from gateway.limits.memory import SAMPLE, MemoryStore
from tests.fakes import Clock

PER_SECOND = rate("per_second", 10, 1.0)
PER_DAY = rate("per_day", 10, 86_400.0)


def test_keys_that_owe_nothing_any_more_are_dropped_on_the_way() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    for n in range(10_000):
        store.take_one(b"%d" % n, PER_SECOND, 1)
        clock.advance(0.001)  # each owes for 100 ms, so at most a hundred owe at a time
        assert len(store) <= 2 * 100 + 4


def test_keys_that_still_owe_do_not_hide_others_from_the_sweep() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    mixed = rate("mixed", 1000, 1000.0)  # one second each
    for n in range(10):
        store.take_one(b"busy%d" % n, mixed, 900)
    for n in range(800):
        store.take_one(b"%d" % n, mixed, 1)
        clock.advance(1.0)
    assert len(store) <= 20


def test_e13_a_million_random_keys_take_bounded_memory() -> None:
    store = MemoryStore(capacity=1000, clock=Clock())
    for n in range(2000):
        store.take_one(b"%032d" % n, PER_DAY, 1)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(2000, 60_000):
        store.take_one(b"%032d" % n, PER_DAY, 1)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(store) == 1000
    assert grown < 1_000_000  # the keys above were not traced; these are a thousand of them


def test_a_full_table_forgets_who_has_used_up_least() -> None:
    store = MemoryStore(capacity=100, clock=Clock())
    for _ in range(10):
        store.take_one(b"heavy", PER_DAY, 1)
    for n in range(5000):
        store.take_one(b"%d" % n, PER_DAY, 1)
    assert len(store) == 100
    assert not store.take_one(b"heavy", PER_DAY, 1).allowed


def test_a_flood_under_one_policy_pushes_nobody_out_of_another() -> None:
    store = MemoryStore(capacity=SAMPLE, clock=Clock())
    for _ in range(10):
        store.take_one(b"alice", PER_SECOND, 1)
    for n in range(1000):
        store.take_one(b"%d" % n, PER_DAY, 1)
    assert not store.take_one(b"alice", PER_SECOND, 1).allowed


def test_several_new_keys_at_once_are_bounded_too() -> None:
    store = MemoryStore(capacity=10, clock=Clock())
    for n in range(100):
        store.take_all([(b"a%d" % n, PER_DAY, 1), (b"b%d" % n, PER_SECOND, 1)])
    assert len(store) == 20
