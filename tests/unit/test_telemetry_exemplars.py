import os
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.cells import SharedCells, Summary
from gateway.telemetry.exemplars import SIZE, SUFFIX, Exemplar, Exemplars, newest
from gateway.telemetry.tally import Cells

BOUNDS = (0.1, 1.0)
NAME = "a_seconds"
FIRST, SECOND = "0af7651916cd43dd8448eb211c80319c", "f" * 32


class Noted(Cells):
    """Storage that counts what is claimed, and lets it be read."""

    def __init__(self):
        super().__init__()
        self.claimed = {}

    def claim(self, name, labels, count, initial=0.0):
        page, at = super().claim(name, labels, count, initial)
        self.claimed[name, labels] = page[at : at + count]
        return page, at

    def read(self, labels=()):
        return self.claimed[NAME + SUFFIX, labels].tolist()


@pytest.fixture
def cells():
    return Noted()


def test_without_a_sampled_request_nothing_is_claimed(cells):
    Exemplars(cells, NAME, BOUNDS)
    assert cells.claimed == {}


def test_each_bucket_has_its_own(cells):
    exemplars = Exemplars(cells, NAME, BOUNDS)
    exemplars.note((), 0.1, FIRST, 5.0)  # on a bound: below it, as the histogram counts
    exemplars.note((), 7.0, SECOND, 6.0)
    assert newest([cells.read()]) == [Exemplar(FIRST, 0.1, 5.0), None, Exemplar(SECOND, 7.0, 6.0)]


def test_a_later_one_takes_the_place_of_an_earlier_one(cells):
    exemplars = Exemplars(cells, NAME, BOUNDS)
    exemplars.note(("r",), 0.05, FIRST, 5.0)
    exemplars.note(("r",), 0.06, SECOND, 6.0)
    assert newest([cells.read(("r",))])[0] == Exemplar(SECOND, 0.06, 6.0)
    assert len(cells.claimed) == 1


def test_an_exemplar_that_is_fresh_is_not_replaced():
    cells = Noted()
    exemplars = Exemplars(cells, NAME, BOUNDS)
    exemplars.note((), 0.05, FIRST, 5.0)
    exemplars.note((), 0.06, SECOND, 5.05)
    assert newest([cells.read()])[0] == Exemplar(FIRST, 0.05, 5.0)
    exemplars.note((), 0.06, SECOND, 4.0)  # the clock was set back
    assert newest([cells.read()])[0] == Exemplar(SECOND, 0.06, 4.0)


def test_of_several_workers_the_newest_is_shown():
    runs = []
    for trace, at in ((FIRST, 5.0), (SECOND, 9.0), (FIRST, 7.0)):
        cells = Noted()
        Exemplars(cells, NAME, BOUNDS).note((), 0.5, trace, at)
        runs.append(cells.read())
    assert newest(runs) == [None, Exemplar(SECOND, 0.5, 9.0), None]


@given(st.integers(0, 2**128 - 1), st.floats(0, 1e9), st.floats(1, 4e9))
def test_every_trace_id_comes_back_as_it_was(number, value, at):
    cells = Noted()
    Exemplars(cells, NAME, ()).note((), value, f"{number:032x}", at)
    assert newest([cells.read()]) == [Exemplar(f"{number:032x}", value, at)]


@given(st.lists(st.booleans(), min_size=SIZE, max_size=SIZE))
def test_half_of_one_and_half_of_another_is_none_of_both(taken):
    whole = []
    for trace, value, at in ((FIRST, 0.05, 5.0), (SECOND, 0.06, 6.0)):
        cells = Noted()
        Exemplars(cells, NAME, ()).note((), value, trace, at)
        whole.append(cells.read())
    mixed = [one if first else other for first, one, other in zip(taken, *whole, strict=True)]
    expected = {tuple(whole[0]): FIRST, tuple(whole[1]): SECOND}.get(tuple(mixed))
    (found,) = newest([mixed])
    assert (found.trace_id if found is not None else None) == expected


def test_what_was_half_written_by_a_killed_worker_is_left_out(cells):
    Exemplars(cells, NAME, ()).note((), 0.05, FIRST, 5.0)
    read = cells.read()
    for cell in range(SIZE):
        torn = [*read[:cell], random.random(), *read[cell + 1 :]]
        assert newest([torn]) == [None]


def test_nothing_torn_is_ever_read_while_a_worker_writes(tmp_path):
    shared = SharedCells(tmp_path / "0")
    exemplars = Exemplars(shared, NAME, ())
    over = threading.Event()

    def write():
        number = 0
        while not over.is_set():
            number += 1
            exemplars.note((), float(number), f"{number * 0x0123456789ABCDEF0123456789:032x}", float(number))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        summary, seen = Summary(tmp_path), set()
        for _ in range(3000):
            for _, runs in summary.each(NAME + SUFFIX):
                for found in newest(runs):
                    if found is not None:
                        assert found.value == found.at
                        assert int(found.trace_id, 16) == int(found.at) * 0x0123456789ABCDEF0123456789
                        seen.add(found.at)
    finally:
        over.set()
        writer.join()
        shared.close()
    assert len(seen) > 10


def test_a_process_without_room_for_them_notes_them_all_the_same(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    cells = SharedCells(tmp_path / "file")  # no folder can be made there
    Exemplars(cells, NAME, BOUNDS).note((), 0.5, FIRST, 5.0)
    assert cells.full
    assert os.path.getsize(tmp_path / "file") == 0


def test_zeros_are_no_exemplar():
    assert newest([[0.0] * SIZE]) == [None]
    assert newest([]) == []
