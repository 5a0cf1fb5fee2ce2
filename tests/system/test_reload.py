"""Reloads under load: nobody notices, what has not changed stays, and what is wrong is refused and said."""

import re
import signal
import time

import pytest

from tests.servers import free_port
from tests.system.gateways import Process, Start, command, fetch, proxy, quiet_port
from tests.system.load import Load, figure
from tests.system.proc import anonymous, listening_ports, needs_proc
from tests.system.upstream import Upstream


def variant(upstream: Upstream, number: int, **parts: object) -> str:
    """One of ever different configurations: other routes, limits and timeouts."""
    up = {"targets": [f"http://127.0.0.1:{upstream.port}"], "timeouts": {"try": f"{3 + number % 3}s"}}
    routes = [{"name": f"r{n}", "match": {"path": f"/r{n}/**"}, "upstream": "up"} for n in range(number % 5)]
    limited = {"name": "limited", "match": {"path": "/limited/**"}, "upstream": "up", "rate_limit": ["some"]}
    every = {"name": "all", "match": {"path": "/**"}, "upstream": "up"}
    settings: dict[str, object] = {
        "workers": 2,
        "rate_limits": {"some": {"by": "ip", "limit": f"{1000 + number % 4}/second"}},
        "upstreams": {"up": up},
        "routes": [*routes, limited, every],
    }
    return proxy(upstream.port, **{**settings, **parts})


BROKEN = "routes: [{name: all, match: {path: /**}, upstream: nowhere}]\n"


def reload_by_signal(gateway: Process, done: int) -> None:
    """SIGHUP, and wait until there have been so many reloads."""
    gateway.process.send_signal(signal.SIGHUP)
    gateway.wait_metric(done, "gateway_config_reloads_total")


@needs_proc
def test_a_hundred_reloads_under_load_fail_no_request(start: Start, upstream: Upstream):
    gateway = start(variant(upstream, 0))
    grown = []
    with Load(gateway.port) as load:
        for number in range(100):
            load.phase = f"reload {number}"
            broken = number % 2 == 1
            gateway.configure(BROKEN if broken else variant(upstream, number + 1))
            if number % 4 < 2:
                reload_by_signal(gateway, number + 1)
            else:
                status, said = gateway.reload()
                assert (status, said.get("reloaded", False)) == ((422, False) if broken else (200, True)), said
            assert gateway.ready() == 200
            if number == 10:
                grown = [anonymous(pid) for pid in sorted(gateway.workers())]
        load.phase = "after"
        used = [anonymous(pid) for pid in sorted(gateway.workers())]
    load.check(200)
    scrape = gateway.metrics()
    hashes = [dict(labels)["hash"] for (name, labels) in scrape if name == "gateway_config_info"]
    figure(f"{load.asked} requests, slowest {load.slowest * 1000:.0f} ms; memory of workers {grown} -> {used} KiB")
    assert gateway.metric("gateway_config_reloads_total", result="success") == 50
    assert gateway.metric("gateway_config_reloads_total", result="failure") == 50
    assert gateway.metric("gateway_config_last_reload_successful") == 0
    assert gateway.metric("gateway_requests_total", status="200") == load.asked
    assert len(hashes) == 1
    gateway.configure(variant(upstream, 99))  # the last one that was fine
    assert gateway.reload()[1]["hash"] == hashes[0]
    assert max(now - then for now, then in zip(used, grown, strict=True)) < 4096


def fragile(upstream: Upstream, path: str, **more: object) -> str:
    """A route that may change, in front of an upstream that is given up soon."""
    up = {"targets": [f"http://127.0.0.1:{upstream.port}"], "retry": "off", **more}
    routes = [
        {"name": "all", "match": {"path": "/**"}, "upstream": "up", "rate_limit": ["three"] if path == "/few" else []},
        {"name": "other", "match": {"path": path}, "upstream": "up"},
    ]
    limits = {"three": {"by": "ip", "limit": "3/hour"}}
    return proxy(upstream.port, upstreams={"up": up}, routes=routes, rate_limits=limits)


def reloaded(gateway: Process, settings: str) -> None:
    gateway.configure(settings)
    status, said = gateway.reload()
    assert status == 200, f"{said} {gateway.errors.read_text()[-3000:]}"


def test_an_open_circuit_stays_open_unless_its_settings_change(start: Start, upstream: Upstream):
    breaker = {"consecutive_failures": 3, "open_for": "1h"}
    gateway = start(fragile(upstream, "/a", breaker=breaker))
    assert [gateway.ask("/status/503")[0] for _ in range(4)] == [503] * 4
    assert upstream.requests == 3
    reloaded(gateway, fragile(upstream, "/b", breaker=breaker))
    assert gateway.ask("/x")[0] == 503
    assert upstream.requests == 3
    reloaded(gateway, fragile(upstream, "/b", breaker={**breaker, "open_for": "2h"}))
    assert gateway.ask("/x")[0] == 200


def test_the_connections_to_an_upstream_are_kept_unless_its_settings_change(start: Start, upstream: Upstream):
    gateway = start(fragile(upstream, "/a"))
    assert gateway.ask("/x")[0] == 200
    reloaded(gateway, fragile(upstream, "/b"))
    assert gateway.ask("/x")[0] == 200
    assert upstream.connections == 1
    reloaded(gateway, fragile(upstream, "/b", timeouts={"connect": "2s"}))
    assert gateway.ask("/x")[0] == 200
    assert upstream.connections == 2


@pytest.mark.parametrize("store", ["memory", "embedded"])
def test_what_callers_have_used_up_stays_used_up(start: Start, upstream: Upstream, store: str):
    def settings(try_timeout: int) -> str:
        each = {"timeouts": {"try": f"{try_timeout}s"}}
        return fragile(upstream, "/few", **each) + f"store: {{url: {store}}}\n"

    gateway = start(settings(2))
    assert [gateway.ask("/x")[0] for _ in range(4)] == [200, 200, 200, 429]
    reloaded(gateway, settings(3))
    assert gateway.ask("/x")[0] == 429


def test_addresses_come_and_go_while_clients_ask(start: Start, upstream: Upstream):
    gateway, further = start(proxy(upstream.port, workers=2)), quiet_port()
    first = gateway.listen["http"]
    with Load(gateway.port, kept=4, fresh=2) as load:
        load.phase = "one address"
        gateway.configure(proxy(upstream.port, workers=2), http=[first, f"127.0.0.1:{further}"])
        assert gateway.reload()[0] == 200
        with Load(further, kept=4, fresh=2) as other:
            load.phase = other.phase = "two addresses"
            reloaded(gateway, proxy(upstream.port, workers=2, trusted_proxies=["10.0.0.0/8"]))
            time.sleep(0.3)
        load.phase = "one address again"
        gateway.configure(proxy(upstream.port, workers=2), http=[first])
        assert gateway.reload()[0] == 200
        with pytest.raises(OSError, match="refused"):
            fetch(f"http://127.0.0.1:{further}/x")
        time.sleep(0.3)
    load.check()
    other.check()


@needs_proc
def test_workers_come_and_go_while_clients_ask(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port, workers=1))
    with Load(gateway.port) as load:
        for count in (3, 2, 1, 2):
            load.phase = f"{count} workers"
            reloaded(gateway, proxy(upstream.port, workers=count))
            gateway.wait_workers(count)
            gateway.wait_metric(count, "gateway_workers", state="ready")
            time.sleep(0.3)
    load.check(200)
    assert gateway.metric("gateway_requests_total") == load.asked
    assert gateway.metric("gateway_worker_restarts_total") == 0


@needs_proc
def test_the_operators_can_be_given_another_address(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port, workers=2))
    old, new = gateway.admin, quiet_port()
    operator = gateway.operator()
    with Load(gateway.port) as load:
        gateway.configure(proxy(upstream.port, workers=2), admin=f"127.0.0.1:{new}")
        assert gateway.reload()[0] == 200, "the answer comes to the old address"
        gateway.admin = new
        assert gateway.ready() == 200
        load.go_on(20)
        gateway.configure(proxy(upstream.port, workers=2, trusted_proxies=["10.0.0.0/8"]))
        assert gateway.reload()[0] == 200
        load.go_on(20)
    load.check(40)
    assert listening_ports(operator) == {new}
    assert all(old not in listening_ports(pid) for pid in [gateway.pid, *gateway.workers()])
    with pytest.raises(OSError, match="refused"):
        fetch(f"http://127.0.0.1:{old}/readyz")


def test_the_command_tells_how_a_reload_went(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port))
    admin = f"http://127.0.0.1:{gateway.admin}"
    done = command("reload", "--admin", admin)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"reloaded in \d+ ms: 1 worker, sha256:[0-9a-f]{12}\n", done.stdout)
    gateway.configure(BROKEN)
    done = command("reload", "--admin", admin)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{gateway.path}:2:" in done.stderr
    assert "'nowhere'" in done.stderr
    assert "the gateway goes on with the one it has" in done.stderr
    assert (gateway.ready(), gateway.ask("/x")[0]) == (200, 200)
    gateway.wait_for(f"{gateway.path}:2:")
    done = command("reload", "--admin", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_a_reload_that_cannot_listen_changes_nothing(start: Start, upstream: Upstream):
    gateway, other = start(proxy(upstream.port)), start(proxy(upstream.port))
    gateway.configure(proxy(upstream.port, routes=[]), http=[gateway.listen["http"], f"127.0.0.1:{other.port}"])
    status, said = gateway.reload()
    assert status == 500
    assert f"127.0.0.1:{other.port}" in said["detail"]
    assert "in use" in said["detail"].lower()
    assert (gateway.ready(), gateway.ask("/x")[0], other.ask("/x")[0]) == (200, 200, 200)


def test_a_watched_file_is_reloaded_and_a_broken_one_refused(start: Start, upstream: Upstream):
    gateway = start(proxy(upstream.port), "--watch")
    gateway.configure(proxy(upstream.port, routes=[{"name": "a", "match": {"path": "/a"}, "upstream": "up"}]))
    gateway.wait_metric(1, "gateway_config_reloads_total", result="success")
    assert (gateway.ask("/a")[0], gateway.ask("/b")[0]) == (200, 404)
    gateway.configure(BROKEN)
    gateway.wait_metric(1, "gateway_config_reloads_total", result="failure")
    assert (gateway.ready(), gateway.ask("/a")[0]) == (200, 200)
    gateway.configure(proxy(upstream.port))
    gateway.wait_metric(2, "gateway_config_reloads_total", result="success")
    assert gateway.ask("/b")[0] == 200


def thousand(upstream: Upstream, number: int) -> str:
    """A thousand routes, of which a tenth changes with the number, each with a limit."""
    routes = [
        {
            "name": f"r{n}",
            "match": {"path": f"/r{n}{f'-{number}' if n % 10 == 0 else ''}/{{id}}", "methods": ["GET", "POST"]},
            "upstream": "up",
            "rate_limit": ["many"],
        }
        for n in range(1000)
    ]
    every = {"name": "all", "match": {"path": "/**"}, "upstream": "up"}
    many = {"many": {"by": "ip", "limit": "1000000/second"}}
    return proxy(upstream.port, rate_limits=many, routes=[*routes, every])


def test_a_thousand_routes_are_reloaded_fast_and_requests_do_not_wait_for_them(start: Start, upstream: Upstream):
    gateway = start(thousand(upstream, 0))
    took, waited = [], []
    with Load(gateway.port, kept=1, fresh=0, pause=0.002) as load:
        for number in range(1, 7):  # the best counts, and one that is good is enough: other tests may be running
            gateway.configure(thousand(upstream, number))
            time.sleep(0.3)
            load.slowest = 0.0
            status, said = gateway.reload()
            assert status == 200
            took.append(round(said["took_ms"]))
            waited.append(round(load.slowest * 1000, 1))
            if number > 2 and min(took) < 500 and min(waited) < 20:
                break
    load.check()
    lag = gateway.metric("gateway_loop_lag_seconds") * 1000
    figure(f"reloads of 1,000 routes took {took} ms, slowest answers {waited} ms, lag of the loop at most {lag:.1f} ms")
    assert min(took) < 500
    assert min(waited) < 20
