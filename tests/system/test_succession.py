"""SIGUSR2: another supervisor, perhaps of a newer version, takes over the sockets; no client notices."""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.system.gateways import Process, Start, proxy
from tests.system.load import Load
from tests.system.proc import alive, children, descendants, holders, needs_proc, wait_gone
from tests.system.upstream import Upstream

pytestmark = needs_proc


def successors(gateway: Process, count: int) -> list[int]:
    """Their pids, once there were so many; all of them write where the first one does."""
    ends = time.monotonic() + 10
    while len(found := re.findall(r"successor \(pid (\d+)\) is ready", gateway.errors.read_text())) < count:
        assert time.monotonic() < ends, gateway.errors.read_text()
        time.sleep(0.02)
    return [int(pid) for pid in found]


@contextmanager
def heirs(gateway: Process) -> Iterator[None]:
    """Afterwards none of the successors is left: they are not our children, which would end with the test."""
    try:
        yield
    finally:
        for pid in successors(gateway, 0):
            for each in (pid, *descendants(pid)):
                if alive(each):
                    os.kill(each, signal.SIGKILL)


def test_successors_take_over_and_no_request_fails(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port, workers=2))
    old = children(gateway.pid)
    with heirs(gateway):
        with Load(gateway.port) as load:
            time.sleep(0.2)
            load.phase = "first takes over"
            gateway.process.send_signal(signal.SIGUSR2)
            (first,) = successors(gateway, 1)
            assert gateway.process.wait(10) == 0
            assert wait_gone(old, 1) == []
            load.phase = "second takes over"
            os.kill(first, signal.SIGUSR2)
            _, second = successors(gateway, 2)
            assert wait_gone([first], 10) == []
            load.phase = "taken over"
            time.sleep(0.2)
            assert gateway.ready() == 200
            assert len(holders(children(second), gateway.port)) == 2
        load.check(100)
        os.kill(second, signal.SIGTERM)
        assert wait_gone([second], 5) == []
        assert "Traceback" not in gateway.errors.read_text()


def test_a_successor_has_what_the_file_says_by_now(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port, workers=2))
    with heirs(gateway):
        with Load(gateway.port) as load:
            gateway.configure(proxy(upstream.port, workers=1, routes=[
                {"name": "all", "match": {"path": "/load/**"}, "upstream": "up"}]))  # fmt: skip
            gateway.process.send_signal(signal.SIGUSR2)
            (first,) = successors(gateway, 1)
            assert gateway.process.wait(10) == 0
            assert len(holders(children(first), gateway.port)) == 1
        load.check()
        assert gateway.ask("/x")[0] == 404


def test_a_successor_that_cannot_start_changes_nothing(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port, workers=2))
    family = children(gateway.pid)
    with Load(gateway.port) as load:
        gateway.path.write_text("routes: nonsense\n")
        gateway.process.send_signal(signal.SIGUSR2)
        gateway.wait_for("the successor did not become ready")
        assert gateway.ready() == 200
        time.sleep(0.3)
    load.check()
    assert children(gateway.pid) == family, "what has failed was collected, too"
    gateway.configure(proxy(upstream.port, workers=2))
    assert gateway.reload()[0] == 200
    assert gateway.stop() == 0
