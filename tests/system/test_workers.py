"""Workers and the other processes end unexpectedly: what they had under way is lost with them, and nothing else."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.system.gateways import Metrics, Process, Start, proxy
from tests.system.load import Load, figure
from tests.system.proc import children, clients_of, needs_proc, wait_gone
from tests.system.upstream import Upstream

pytestmark = needs_proc

KILLS, PAUSE = (10, 1.0) if os.environ.get("GATEWAY_LONG_TESTS") else (4, 0.7)

LIMITED = {
    "rate_limits": {"many": {"by": "ip", "limit": "1000000/second"}},
    "routes": [{"name": "all", "match": {"path": "/**"}, "upstream": "up", "rate_limit": ["many"]}],
}
"""A configuration that needs a store."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def kill(gateway: Process, worker: int) -> set[int]:
    """SIGKILL; returns the ports of the clients whose connections die with it, which no others do."""
    os.kill(worker, signal.SIGSTOP)  # so that what it holds is not changing while we look
    doomed = clients_of(worker, gateway.port)
    os.kill(worker, signal.SIGKILL)
    return doomed


def test_a_killed_worker_takes_its_own_requests_along_and_no_others(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port, workers=2))
    doomed: set[int] = set()
    with Load(gateway.port) as load:
        for number in range(KILLS):
            load.phase = f"kill {number}"
            (victim, *_) = gateway.wait_workers(2)
            doomed |= kill(gateway, victim)
            gateway.wait_workers(2, but=victim)
            time.sleep(PAUSE)
    lost = [failure for failure in load.failures if failure.port in doomed]
    figure(f"{KILLS} kills: {len(lost)} of {load.asked} requests lost, on {len(doomed)} connections")
    assert [failure for failure in load.failures if failure not in lost] == []
    assert len(lost) <= len(doomed)
    assert load.asked > 300
    assert gateway.metric("gateway_worker_restarts_total") == KILLS
    assert gateway.metric("gateway_workers", state="ready") == 2
    assert gateway.ready() == 200


def test_workers_may_die_while_the_configuration_is_reloaded(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port, workers=2))
    doomed: set[int] = set()
    outcomes: list[int] = []
    stop = Event()

    def reload() -> None:
        for number in count():
            if stop.is_set():
                return
            gateway.configure(proxy(upstream.port, workers=2, trusted_proxies=[f"10.{number % 256}.0.0/16"]))
            outcomes.append(gateway.reload()[0])

    reloading = Thread(target=reload)
    with Load(gateway.port) as load:
        reloading.start()
        try:
            for number in range(4):
                load.phase = f"kill {number}"
                victim = gateway.wait_workers(2)[number % 2]
                doomed |= kill(gateway, victim)
                gateway.wait_workers(2, but=victim)
                time.sleep(0.3)
        finally:
            stop.set()
            reloading.join(10)
    lost = [failure for failure in load.failures if failure.port in doomed]
    figure(f"{len(outcomes)} reloads and 4 kills: {len(lost)} of {load.asked} requests lost")
    assert [failure for failure in load.failures if failure not in lost] == []
    assert set(outcomes) == {200}
    assert len(outcomes) > 10
    status, said = gateway.reload()
    assert (status, said["workers"]) == (200, 2)
    assert len(gateway.wait_workers(2)) == 2


def test_metrics_are_exact_over_all_workers_that_ever_lived(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port, workers=2))
    counted = 0
    for _ in range(3):
        with Load(gateway.port, pause=0.01) as load:
            time.sleep(0.4)
        load.check()
        counted += load.asked
        gateway.wait_metric(counted, "gateway_requests_total", status="200")
        assert gateway.metric("gateway_request_duration_seconds_count") == counted
        assert gateway.metric("gateway_upstream_attempts_total") == counted
        victim = gateway.workers()[0]
        os.kill(victim, signal.SIGKILL)
        gateway.wait_workers(2, but=victim)
        assert gateway.metric("gateway_requests_total", status="200") == counted
    time.sleep(0.1)
    assert gateway.metric("gateway_requests_total") == counted == upstream.requests


def test_no_counter_ever_goes_backwards(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port, workers=2))
    before: Metrics = {}
    scrapes = 0
    with Load(gateway.port):
        ends = time.monotonic() + 2.5
        kill_at = [ends - 2.0, ends - 1.0]
        while time.monotonic() < ends:
            now = {key: value for key, value in gateway.metrics().items() if key[0].endswith(("_total", "_count"))}
            fallen = {key: (value, now.get(key)) for key, value in before.items() if now.get(key, -1.0) < value}
            assert not fallen
            before = now
            scrapes += 1
            if kill_at and time.monotonic() > kill_at[0]:
                kill_at.pop(0)
                os.kill(gateway.wait_workers(2)[0], signal.SIGKILL)
            time.sleep(0.05)
    assert scrapes > 15
    assert gateway.metric("gateway_worker_restarts_total") == 2


def test_the_operator_process_comes_back_and_knows_everything(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port, workers=2))
    with Load(gateway.port) as load:
        victim = gateway.operator()
        gateway.configure(proxy(upstream.port, workers=2, trusted_proxies=["10.0.0.0/8"]))
        assert gateway.reload()[0] == 200
        os.kill(victim, signal.SIGKILL)
        assert gateway.ready() == 200, "the socket is the supervisor's: who asks meanwhile waits"
        assert gateway.operator() != victim
        load.go_on(20)
    load.check(20)
    gateway.wait_metric(load.asked, "gateway_requests_total", status="200")
    assert gateway.metric("gateway_config_reloads_total", result="success") == 1
    assert gateway.metric("gateway_worker_restarts_total") == 0


def test_when_the_supervisor_is_killed_the_others_finish_and_go(start: Start, upstream: Upstream, folder: Path):
    gateway = start(proxy(upstream.port, workers=2, runtime_dir=str(folder), **LIMITED))
    (left,) = folder.glob("gateway-*")
    answers: list[int] = []
    asking = Thread(target=lambda: answers.append(gateway.ask("/wait/0.8")[0]))
    asking.start()
    time.sleep(0.3)
    store = gateway.store()
    family = gateway.kill()
    assert len(family) == 4
    assert wait_gone([store], 0.4) == [], "the store needs nothing to finish"
    asking.join(10)
    assert answers == [200]
    assert wait_gone(family) == []
    assert left.exists()
    with pytest.raises(OSError, match="refused"):
        gateway.ask()
    start(proxy(upstream.port, runtime_dir=str(folder)))
    assert not left.exists()
    assert len(list(folder.glob("gateway-*"))) == 1


def test_a_worker_that_cannot_live_is_not_replaced_ever_faster(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port, workers=1))
    killed, ends = set(), time.monotonic() + 2.0
    while time.monotonic() < ends:
        for pid in gateway.workers():
            if pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(0.005)
    assert 3 <= len(killed) <= 7, "at once, then after 0.1, 0.2, 0.4, 0.8 s"
    gateway.wait_workers(1)
    assert gateway.ask()[0] == 200
    assert len(children(gateway.pid)) == 2
