import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gateway.telemetry.cells import SIZE, SharedCells, Summary
from gateway.telemetry.tally import PAGE, Counter, Family, Gauge, Gauges, Histogram

TOTAL = Family("a_total", "counter", "")
SECONDS = Family("a_seconds", "histogram", "", bounds=(1.0, 2.0))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def opened(tmp_path):
    """Opens a set by its name; one that is open already is closed, as if its process had ended."""
    sets = {}

    def open_set(name="0"):
        if name in sets:
            sets[name].close()
        sets[name] = SharedCells(tmp_path / "cells" / name)
        return sets[name]

    yield open_set
    for cells in sets.values():
        cells.close()


@pytest.fixture
def summary(tmp_path):
    return Summary(tmp_path / "cells")


def counter(cells, *labels):
    return Counter(cells, "a_total", labels)


def total(summary, *labels):
    return summary.collect([TOTAL], ())["a_total"].get(labels)


@contextmanager
def files_no_larger_than(size):
    """What a full file system does, done by the kernel: writes are cut short, then fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_one_counts_another_one_reads(opened, summary):
    first = counter(opened(), "x", 'a "quoted"\nname \udcff')
    first.inc(2)
    assert total(summary, "x", 'a "quoted"\nname \udcff') == [2]
    first.inc()
    assert total(summary, "x", 'a "quoted"\nname \udcff') == [3]


def test_series_and_sets_that_come_later_are_found(opened, summary):
    assert total(summary, "x") is None
    counter(opened("0"), "x").inc()
    assert total(summary, "x") == [1]
    counter(opened("1"), "x").inc(5)
    counter(opened("1"), "y").inc(7)
    assert (total(summary, "x"), total(summary, "y")) == ([6], [7])


def test_histograms_are_added_cell_by_cell(opened, summary):
    for name, values in (("0", (0.5, 1.5)), ("1", (1.5, 9.0))):
        histogram = Histogram(opened(name), "a_seconds", (), SECONDS.bounds)
        for value in values:
            histogram.observe(value)
    assert summary.collect([SECONDS], ())["a_seconds"] == {(): [12.5, 1, 2, 1]}


def test_a_sum_is_rounded_once_so_that_the_order_of_the_sets_is_all_the_same(opened, summary):
    for name, value in (("0", 0.1), ("1", 0.2), ("2", 0.3)):
        Histogram(opened(name), "a_seconds", (), SECONDS.bounds).observe(value)
    assert summary.collect([SECONDS], ())["a_seconds"][()][0] == 0.6  # one by one it would be 0.6000000000000001


def test_an_inherited_set_counts_on_where_it_stood(opened, summary):
    counter(opened(), "x").inc(40)
    Histogram(opened(), "a_seconds", (), SECONDS.bounds).observe(0.5)
    heir = opened()
    counter(heir, "x").inc(2)
    counter(heir, "y").inc()
    Histogram(heir, "a_seconds", (), SECONDS.bounds).observe(1.5)
    assert (total(summary, "x"), total(summary, "y")) == ([42], [1])
    assert summary.collect([SECONDS], ())["a_seconds"] == {(): [2.0, 1, 1, 0]}


def test_a_series_that_is_asked_for_twice_is_one(opened, summary):
    cells = opened()
    counter(cells, "x").inc()
    counter(cells, "x").inc()
    assert total(summary, "x") == [2]


def test_a_series_cannot_change_its_size(opened):
    counter(opened(), "x")
    with pytest.raises(ValueError, match="1 cells, not 4"):
        Histogram(opened(), "a_total", ("x",), SECONDS.bounds)


def test_a_line_that_a_killed_process_left_half_written_is_cut_off(opened, summary, tmp_path):
    counter(opened(), "x").inc()
    series = tmp_path / "cells" / "0" / "series"
    whole = series.read_bytes()
    series.write_bytes(whole + b'["a_total", ["y"], 0, 1')
    assert total(summary, "x") == [1]
    heir = opened()
    assert series.read_bytes() == whole
    counter(heir, "z").inc(9)
    assert (total(summary, "x"), total(summary, "y"), total(summary, "z")) == ([1], None, [9])


def test_a_cell_that_was_written_but_never_announced_starts_anew(opened, summary, tmp_path):
    page, at = opened().claim("a_total", ("x",), 1)
    page[at + 1] = 77.0  # its owner was killed before the line was written
    counter(opened(), "y").inc()
    assert total(summary, "y") == [1]


def test_a_page_that_is_full_is_followed_by_another_one(opened, summary, tmp_path):
    cells = opened()
    cells.claim("a_total", ("first",), PAGE - 3)
    histogram = Histogram(cells, "a_seconds", (), SECONDS.bounds)
    histogram.observe(1.5)
    again = opened()
    counter(again, "last").inc(3)
    assert total(summary, "last") == [3]
    assert summary.collect([SECONDS], ())["a_seconds"] == {(): [1.5, 0, 1, 0]}
    pages = sorted((tmp_path / "cells" / "0").glob("page-*"))
    assert [(page.name, page.stat().st_size) for page in pages] == [("page-0", SIZE), ("page-1", SIZE)]


def test_a_page_has_no_holes_for_which_a_full_file_system_would_have_no_room(opened, tmp_path):
    counter(opened(), "x")
    with (tmp_path / "cells" / "0" / "page-0").open("rb") as page:
        assert os.lseek(page.fileno(), 0, os.SEEK_HOLE) == SIZE


def test_threads_that_claim_at_once_share_no_cell(opened):
    cells = opened()
    begin = threading.Barrier(4)
    claimed = []

    def claim(thread):
        begin.wait()
        claimed.extend(cells.claim("a_total", (str(thread), str(n)), 2) for n in range(300))

    threads = [threading.Thread(target=claim, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(id(page), at) for page, at in claimed}) == len(claimed) == 1200


def test_nobody_else_may_read_it_and_no_program_inherits_it(opened, tmp_path):
    counter(opened(), "x")
    folder = tmp_path / "cells" / "0"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()} == {"series": 0o600, "page-0": 0o600}
    for fd in range(3, 64):
        with suppress(OSError):
            if str(tmp_path) in os.readlink(f"/proc/self/fd/{fd}"):
                assert not os.get_inheritable(fd)


# -- gauges ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("way", "expected"), [("sum", 6.0), ("max", 3.0), ("min", 1.0)])
def test_gauges_are_combined_over_the_living_in_their_way(opened, summary, way, expected):
    for name, value in (("0", 1.0), ("1", 2.0), ("2", 3.0), ("3", -50.0)):
        Gauges(opened(name), "a").replace({("x",): value})
    found = summary.collect([Family("a", "gauge", "", way=way)], {"0", "1", "2"})
    assert found == {"a": {("x",): [expected]}}


@pytest.mark.parametrize("way", ["sum", "max", "min"])
def test_a_gauge_that_is_not_there_does_not_count(opened, summary, way):
    family = Family("a", "gauge", "", way=way)
    first = Gauges(opened("0"), "a")
    first.replace({("x",): 4.0, ("y",): 5.0})
    first.replace({("x",): 4.0})
    Gauges(opened("1"), "a").replace({})
    assert summary.collect([family], {"0", "1"}) == {"a": {("x",): [4.0]}}


def test_a_new_gauge_is_never_seen_as_zero(opened, summary):
    Gauge(opened(), "a", ("x",))
    assert summary.collect([Family("a", "gauge", "", way="min")], {"0"}) == {"a": {}}


def test_what_an_ended_process_measured_is_not_its_heirs(opened, summary):
    Gauges(opened(), "a").replace({("gone",): 7.0, ("x",): 8.0})
    heir = Gauges(opened(), "a")
    family = Family("a", "gauge", "")
    assert summary.collect([family], {"0"}) == {"a": {}}
    heir.replace({("x",): 1.0})
    assert summary.collect([family], {"0"}) == {"a": {("x",): [1.0]}}


# -- no room -----------------------------------------------------------------------------------------


def test_without_room_for_a_page_the_counting_goes_on_unseen_and_says_so_once(opened, summary, caplog, tmp_path):
    caplog.set_level(logging.ERROR)
    cells = opened()
    with files_no_larger_than(SIZE // 2):
        for n in range(3):
            one = counter(cells, str(n))
            one.inc(5)
            assert one.value == 5
    assert cells.full
    assert total(summary, "0") is None
    assert [record.name for record in caplog.records] == ["gateway.telemetry"]
    counter(cells, "later").inc(2)  # there is room again
    assert total(summary, "later") == [2]


def test_without_room_for_its_line_a_series_is_not_announced_and_leaves_the_file_whole(opened, summary, tmp_path):
    cells = opened()
    counter(cells, "x").inc()
    series = tmp_path / "cells" / "0" / "series"
    whole = series.read_bytes()
    with files_no_larger_than(len(whole) + 10):
        lost = counter(cells, "y")
        lost.inc()
    assert cells.full
    assert series.read_bytes() == whole
    counter(cells, "z").inc(2)
    assert (total(summary, "x"), total(summary, "y"), total(summary, "z"), lost.value) == ([1], None, [2], 1)


def test_without_a_folder_it_counts_all_the_same(tmp_path, caplog):
    (tmp_path / "file").touch()
    cells = SharedCells(tmp_path / "file" / "0")
    one = counter(cells, "x")
    one.inc()
    assert one.value == 1
    assert cells.full
    assert len(caplog.records) == 1


# -- several processes -------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from gateway.telemetry.cells import SharedCells
from gateway.telemetry.tally import Counter, Histogram

cells = SharedCells(Path(sys.argv[1]))
counter = Counter(cells, "a_total", ("x",))
histogram = Histogram(cells, "a_seconds", (), (1.0, 2.0))
for n in range(int(sys.argv[2])):
    counter.inc()
    histogram.observe(0.1)
print("done", flush=True)
sys.stdin.read()
"""


class Writer:
    """A process that counts to a number, says so and waits for its end."""

    def __init__(self, folder, count):
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )

    def done(self):
        assert self.process.stdout.readline() == b"done\n"

    def end(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()


def test_the_sum_is_exact_and_never_goes_back_while_processes_count_die_and_are_replaced(tmp_path, summary):
    count, half = 60_000, 30_000
    folder = tmp_path / "cells"
    seen = [[0.0], [0.0]]
    watching = threading.Event()

    def watch():
        while not watching.is_set():
            found = summary.collect([TOTAL, SECONDS], ())
            seen[0] += found["a_total"].get(("x",), [])
            seen[1] += found["a_seconds"].get((), [])[:1]

    watcher = threading.Thread(target=watch)
    watcher.start()
    writers = [Writer(folder / name, half if name == "0" else count) for name in "0123"]
    try:
        writers[0].done()
        writers[0].end()
        writers.append(Writer(folder / "0", half))
        for writer in writers[1:]:
            writer.done()
        assert total(summary, "x") == [4 * count]
    finally:
        watching.set()
        watcher.join()
        for writer in writers:
            if writer.process.returncode is None:
                writer.end()
    assert total(summary, "x") == [4 * count]
    duration, *buckets = summary.collect([SECONDS], ())["a_seconds"][()]
    assert buckets == [4 * count, 0, 0]
    assert duration == pytest.approx(0.4 * count)
    for values in seen:
        assert values == sorted(values)
        assert len(set(values)) > 3  # it did look while they counted


def test_a_set_whose_owner_is_killed_while_it_claims_can_be_inherited(tmp_path, summary):
    code = WRITER.replace("counter.inc()", 'Counter(cells, "b_total", (str(n),)).inc()').replace(
        "for n", 'print("done", flush=True)\nfor n'
    )
    folder = tmp_path / "cells" / "0"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), "10000000"], stdout=subprocess.PIPE, stdin=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert process.stdout.readline() == b"done\n"
        while len(summary.collect([Family("b_total", "counter", "")], ())["b_total"]) < 50:
            pass
    finally:
        process.kill()
        process.wait(10)
        process.stdin.close()
        process.stdout.close()
    left = summary.collect([Family("b_total", "counter", "")], ())["b_total"]
    heir = SharedCells(folder)
    for n in range(len(left) + 5):
        Counter(heir, "b_total", (str(n),)).inc()
    heir.close()
    found = summary.collect([Family("b_total", "counter", "")], ())["b_total"]
    assert found == {(str(n),): [left.get((str(n),), [0.0])[0] + 1] for n in range(len(left) + 5)}
