import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time

import pytest

from gateway.logs import line_writer
from gateway.logs.line_writer import LineWriter


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    for end in (read, write):
        with contextlib.suppress(OSError):
            os.close(end)


@pytest.fixture
def file(tmp_path):
    """A path, and where writing appends to it."""
    path = tmp_path / "access.log"
    to = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield path, to
    os.close(to)


def test_lines_reach_a_file_in_order_and_closing_writes_the_last(file):
    path, to = file
    path.write_bytes(b"older\n")
    writer = LineWriter(to, gather=0)
    for n in range(1000):
        writer.put(b"%d\n" % n)
    writer.close()
    assert path.read_bytes() == b"older\n" + b"".join(b"%d\n" % n for n in range(1000))
    assert writer.dropped == 0


def test_lines_are_written_without_anybody_closing(pipe):
    read, write = pipe
    writer = LineWriter(write, gather=0)
    for n in range(3):
        writer.put(b"line %d\n" % n)
        assert os.read(read, 100) == b"line %d\n" % n
    writer.close()


def test_several_threads_lose_nothing(file):
    path, to = file
    writer = LineWriter(to, gather=0)
    threads = [threading.Thread(target=lambda: [writer.put(b"x\n") for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert path.read_bytes() == b"x\n" * 8000


def test_a_sink_that_does_not_read_costs_lines_not_time_or_memory(pipe, monkeypatch):
    monkeypatch.setattr(line_writer, "PATIENCE", 0.05)
    read, write = pipe
    writer = LineWriter(write, pending=100 * 70_001, gather=0)
    for _ in range(500):
        writer.put(b"x" * 70_000 + b"\n")  # a pipe does not hold one of them
    assert writer.dropped >= 400
    writer.close()  # and this returns
    assert writer.dropped == 500  # those it has given up are among them
    os.close(read)  # which ends the write under way
    monkeypatch.undo()
    writer.close()
    assert writer.dropped == 500


def test_what_waits_is_bounded_in_bytes_and_there_is_room_again_for_what_was_written(pipe):
    read, write = pipe
    writer = LineWriter(write, pending=100, gather=0)
    for _ in range(50):
        writer.put(b"x" * 99 + b"\n")  # each fills it
        assert len(os.read(read, 200)) == 100
        while writer._settled < writer._taken:
            time.sleep(0.001)
    assert writer.dropped == 0
    writer.put(b"x" * 100 + b"\n")
    assert writer.dropped == 1
    writer.close()


def test_a_non_blocking_sink_is_waited_for(pipe):
    read, write = pipe
    os.set_blocking(write, False)
    writer = LineWriter(write, gather=0)
    whole = b"".join(b"%06d\n" % n for n in range(20_000))
    for n in range(0, len(whole), 7):
        writer.put(whole[n : n + 7])
    got = b""
    while len(got) < len(whole):
        got += os.read(read, 65536)
    writer.close()
    assert got == whole
    assert writer.dropped == 0


def test_a_sink_whose_reader_left_is_no_error(pipe):
    read, write = pipe
    os.close(read)
    writer = LineWriter(write, gather=0)
    writer.put(b"nobody reads this\n")
    writer.close()
    assert writer.dropped == 1


WRITER = """
import sys
from pathlib import Path
from gateway.logs import line_writer
line_writer.PATIENCE = 30  # the reader is slow, the machine may be
writer = line_writer.LineWriter(1, lock=Path(sys.argv[2]), gather=0.001)
for n in range(5000):
    writer.put((sys.argv[1] * (300 + n * 7919 % 2700) + f" {n}\\n").encode())
writer.close()
sys.exit(writer.dropped > 0)
"""
"""Writes 5,000 lines of 300 to 3,000 of its letter, each with its number."""


def test_two_processes_that_share_a_pipe_do_not_tear_each_others_lines(pipe, tmp_path):
    read, write = pipe
    writers = []
    try:
        for letter in "ab":
            command = [sys.executable, "-c", WRITER, letter, str(tmp_path / "lock")]
            writers.append(subprocess.Popen(command, stdout=write))
        os.close(write)
        got = b""
        while piece := os.read(read, 65536):
            got += piece
            time.sleep(0.0005)  # slower than they write, so that both find the pipe full
        assert [writer.wait(10) for writer in writers] == [0, 0]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    lines = got.decode().splitlines()
    expected = {letter: [f"{letter * (300 + n * 7919 % 2700)} {n}" for n in range(5000)] for letter in "ab"}
    assert {letter: [line for line in lines if line.startswith(letter)] for letter in "ab"} == expected


def test_a_process_that_is_stuck_in_its_turn_costs_the_others_lines_not_time(pipe, tmp_path, monkeypatch):
    monkeypatch.setattr(line_writer, "PATIENCE", 0.05)
    _, write = pipe
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another open file: to the kernel somebody else
        writer = LineWriter(write, lock=tmp_path / "lock", pending=50, gather=0)
        for _ in range(15):
            writer.put(b"line\n")
        writer.close()
        assert writer.dropped == 15
    monkeypatch.undo()
    writer.close()  # the turn is over, its thread ends


def test_a_regular_file_needs_no_lock(file, tmp_path):
    path, to = file
    writer = LineWriter(to, lock=tmp_path / "lock", gather=0)
    writer.put(b"line\n")
    writer.close()
    assert path.read_bytes() == b"line\n"
    assert not (tmp_path / "lock").exists()


def test_closing_twice_lets_go_of_the_lock_once(pipe, tmp_path):
    read, write = pipe
    writer = LineWriter(write, lock=tmp_path / "lock", gather=0)
    writer.put(b"line\n")
    writer.close()
    with (tmp_path / "lock").open("w") as lock:  # takes the number that was the lock's
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        writer.close()
        lock.write("still open")
    assert os.read(read, 100) == b"line\n"


FULL = """
import os, resource, sys, time
from gateway.logs.line_writer import LineWriter

writer = LineWriter(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), gather=0.05)
resource.setrlimit(resource.RLIMIT_FSIZE, (25, resource.RLIM_INFINITY))  # bytes: the third line is cut off
for n in range(5):
    writer.put(b"line %04d\\n" % n)
while writer.dropped < 3:
    time.sleep(0.001)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.put(b"line 0005\\n")
writer.put(b"line 0006\\n")
writer.close()
sys.exit(writer.dropped != 3)
"""
"""Writes to a disk that is full for a while: it ends in the middle of a line."""


def test_what_a_full_disk_cuts_off_is_counted_and_does_not_spoil_the_next_line(tmp_path):
    path = tmp_path / "access.log"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], stderr=subprocess.PIPE, timeout=20)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == b"line 0000\nline 0001\nline \nline 0005\nline 0006\n"
    assert done.stderr.count(b"lines of the access log are lost: File too large") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no disk that is always full")
def test_a_disk_without_room_costs_lines_and_is_told_once(caplog):
    before = time.monotonic()
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        writer = LineWriter(full, gather=0)
        for _ in range(50):
            writer.put(b"line\n")
            time.sleep(0.001)  # several batches
        writer.close()
        assert writer.dropped == 50
    finally:
        os.close(full)
    assert time.monotonic() - before < 2.0
    assert caplog.messages == ["lines of the access log are lost: No space left on device"]
