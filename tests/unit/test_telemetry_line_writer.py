import contextlib
import os
import threading

import pytest

from gateway.telemetry import line_writer
from gateway.telemetry.line_writer import LineWriter


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    for end in (read, write):
        with contextlib.suppress(OSError):
            os.close(end)


def test_lines_reach_a_file_in_order_and_closing_writes_the_last(tmp_path):
    path = tmp_path / "access.log"
    path.write_bytes(b"older\n")
    writer = LineWriter(path, gather=0)
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


def test_several_threads_lose_nothing(tmp_path):
    path = tmp_path / "access.log"
    writer = LineWriter(path, gather=0)
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
    writer = LineWriter(write, pending=100, gather=0)
    for _ in range(500):
        writer.put(b"x" * 4096 + b"\n")  # a pipe holds 16 of them
    assert writer.dropped >= 400
    writer.close()  # and this returns
    os.close(read)  # which ends the write under way
    monkeypatch.undo()
    writer.close()
    assert writer.dropped == 500


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


def test_a_file_that_cannot_be_opened_says_so_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        LineWriter(tmp_path / "missing" / "access.log")
