"""Several workers and no store of the user's: the gateway brings one along, and takes it along when it goes."""

import os
import signal
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.system.gateways import Process, Start, fetch, proxy
from tests.system.load import Load, figure
from tests.system.proc import listening_ports, needs_proc, wait_gone
from tests.system.upstream import Upstream

pytestmark = needs_proc

LIMIT = 60


def limited(upstream: Upstream, limit: str, **parts: object) -> str:
    settings: dict[str, object] = {
        "workers": 2,
        "rate_limits": {"some": {"by": "ip", "limit": limit}},
        "routes": [{"name": "all", "match": {"path": "/**"}, "upstream": "up", "rate_limit": ["some"]}],
    }
    return proxy(upstream.port, **{**settings, **parts})


def statuses(gateway: Process, count: int) -> Counter[int]:
    """Of requests on connections of their own, eight at a time."""
    with ThreadPoolExecutor(8) as clients:
        return Counter(clients.map(lambda _: fetch(f"http://127.0.0.1:{gateway.port}/x")[0], range(count)))


def test_a_limit_is_exact_over_all_workers(start: Start, upstream: Upstream):
    gateway = start(limited(upstream, f"{LIMIT}/hour"))
    assert statuses(gateway, 3 * LIMIT) == {200: LIMIT, 429: 2 * LIMIT}
    decisions = "gateway_rate_limit_decisions_total"
    assert gateway.metric(decisions, decision="allowed") == LIMIT
    gateway.wait_metric(1, "gateway_store_up")
    assert gateway.metric("gateway_requests_total") == 3 * LIMIT


def test_memory_that_is_asked_for_is_not_shared_and_that_is_said(start: Start, upstream: Upstream):
    gateway = start(limited(upstream, f"{LIMIT}/hour", store={"url": "memory"}))
    counted = statuses(gateway, 3 * LIMIT)
    assert LIMIT < counted[200] <= 2 * LIMIT, "each of two workers counts for itself"
    assert "each of the 2 workers counts for itself" in gateway.errors.read_text()


def test_the_store_is_a_child_that_nobody_else_can_reach(start: Start, upstream: Upstream):
    with tempfile.TemporaryDirectory() as folder:
        gateway = start(limited(upstream, "1000/second", runtime_dir=folder))
        assert listening_ports(gateway.store()) == set()
        (own,) = Path(folder).glob("gateway-*")
        assert own.stat().st_mode & 0o777 == 0o700
        assert (own / "store.sock").is_socket()
        assert gateway.stop() == 0
        assert list(Path(folder).iterdir()) == []


def test_a_killed_store_is_started_again_and_no_request_fails(start: Start, upstream: Upstream):
    gateway = start(limited(upstream, "1000000/second"))
    with Load(gateway.port) as load:
        for number in range(2):
            load.phase = f"kill {number}"
            store = gateway.store()
            os.kill(store, signal.SIGKILL)
            gateway.wait_for("the embedded store has ended and is started again", number + 1)
            ends = time.monotonic() + 5
            while not (found := stores(gateway)) or found == [store]:
                assert time.monotonic() < ends, gateway.errors.read_text()
                time.sleep(0.02)
            gateway.wait_metric(1, "gateway_store_up")
            time.sleep(0.3)
    load.check(100)
    figure(f"{load.asked} requests, slowest {load.slowest * 1000:.0f} ms")
    assert load.slowest < 1


def stores(gateway: Process) -> list[int]:
    try:
        return [gateway.store()]
    except ValueError:
        return []


def test_the_store_goes_when_the_supervisor_does(start: Start, upstream: Upstream):
    gateway = start(limited(upstream, "1000/second"))
    store = gateway.store()
    assert gateway.stop() == 0
    assert wait_gone([store], 0.5) == []
    gateway = start(limited(upstream, "1000/second"))
    store = gateway.store()
    gateway.kill()
    assert wait_gone([store], 0.5) == []


def test_a_reload_that_needs_a_store_brings_it(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port, workers=2))
    assert stores(gateway) == [], "without limits there is nothing to count"
    with Load(gateway.port) as load:
        gateway.configure(limited(upstream, "1000000/second"))
        assert gateway.reload()[0] == 200
        assert len(stores(gateway)) == 1
        time.sleep(0.3)
    load.check()
    assert gateway.metric("gateway_rate_limit_decisions_total", decision="allowed") > 10
    gateway.configure(limited(upstream, "5/hour"))
    assert gateway.reload()[0] == 200
    assert statuses(gateway, 20) == {200: 5, 429: 15}
