"""The keys of one process: bounded, and whom a full table pushes out."""

import pytest

from gateway.errors import Shed
from gateway.idempotency.memory import PLACE, MemoryRecords
from gateway.idempotency.records import Answer, Claim, State
from tests.fakes import Clock

LEASE, KEEP = 45.0, 3600.0


def claim(number: int, token: bytes = b"t") -> Claim:
    return Claim(b"%d" % number, b"print", token)


def answer(size: int = 10) -> Answer:
    return Answer(200, (), b"x" * size)


async def test_what_has_expired_goes_before_what_still_counts() -> None:
    clock = Clock()
    records = MemoryRecords(capacity=2, clock=clock)
    await records.finish(claim(1), answer(), KEEP)
    await records.finish(claim(2), answer(), 1.0)
    clock.advance(2.0)
    assert await records.begin(claim(3), LEASE) is State.NEW
    assert await records.begin(claim(1), LEASE) == answer()
    assert len(records) == 2


async def test_a_full_table_forgets_the_oldest_answer() -> None:
    records = MemoryRecords(capacity=3, clock=Clock())
    for number in range(1, 5):
        await records.finish(claim(number), answer(), KEEP)
    assert [number for number in range(1, 5) if claim(number).key in records] == [2, 3, 4]


async def test_bytes_are_bounded_as_well_as_numbers() -> None:
    records = MemoryRecords(size=10_000, clock=Clock())
    for number in range(100):
        await records.finish(claim(number), answer(2000), KEEP)
        assert records.size <= 10_000
    assert len(records) == 10_000 // (2000 + PLACE)


async def test_a_key_in_flight_is_never_pushed_out() -> None:
    records = MemoryRecords(capacity=2, size=3 * PLACE, clock=Clock())
    await records.begin(claim(1), LEASE)
    for number in range(2, 20):
        await records.finish(claim(number), answer(), KEEP)
    assert await records.begin(claim(1, b"u"), LEASE) is State.IN_FLIGHT


async def test_when_all_places_are_taken_by_keys_in_flight_a_new_one_is_refused() -> None:
    clock = Clock()
    records = MemoryRecords(capacity=2, clock=clock)
    for number in (1, 2):
        await records.begin(claim(number), LEASE)
    with pytest.raises(Shed) as refused:
        await records.begin(claim(3), LEASE)
    assert (refused.value.status, refused.value.retry_after) == (503, 1.0)
    await records.finish(claim(1), answer(), KEEP)
    assert await records.begin(claim(3), LEASE) is State.NEW
    clock.advance(LEASE + 1)
    assert await records.begin(claim(4), LEASE) is State.NEW


async def test_the_sum_of_sizes_is_zero_when_everything_has_gone() -> None:
    clock = Clock()
    records = MemoryRecords(clock=clock)
    for number in range(50):
        await records.begin(claim(number), LEASE)
    for number in range(0, 50, 2):
        await records.finish(claim(number), answer(number), KEEP)
    for number in range(1, 50, 4):
        await records.abandon(claim(number))
    clock.advance(KEEP + 1)
    await records.begin(claim(99), LEASE)
    await records.abandon(claim(99))
    assert (len(records), records.size) == (0, 0)


async def test_who_has_been_pushed_out_leaves_no_trace_for_ever() -> None:
    records = MemoryRecords(capacity=10, clock=Clock())
    for number in range(1000):
        await records.begin(claim(number), LEASE)
        await records.finish(claim(number), answer(), KEEP)
    assert len(records._ends) <= 50
