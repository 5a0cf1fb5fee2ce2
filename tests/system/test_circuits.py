"""Circuits held open by hand, and rehearsals: in all workers within a second, through whatever happens meanwhile."""

import os
import signal
import time
from collections import Counter

from tests.system.callers import SOON, SURE, ask, operate, tell
from tests.system.gateways import Process, Start, command, proxy, quiet_port
from tests.system.load import figure
from tests.system.proc import needs_proc, wait_gone
from tests.system.upstream import Upstream

pytestmark = needs_proc

PATIENCE = 5.0
"""Seconds for what a busy machine may delay."""


def in_force(what: str, wanted: int, gateway: Process, *, within: float = SOON, path: str = "/x") -> None:
    """Wait until every worker answers with this status."""
    began = last = time.monotonic()
    row = 0
    while row < SURE:
        if ask(gateway.port, {}, path).status == wanted:
            row += 1
        else:
            row, last = 0, time.monotonic()
            assert last - began < PATIENCE, f"{what}: never {wanted}"
    figure(f"{what}: in force after {(last - began) * 1000:.0f} ms")
    assert last - began < within, what


def state(gateway: Process) -> tuple[str, bool]:
    """Of the one circuit there is, as the list says."""
    (circuit,) = tell(gateway, "circuits")["circuits"]
    return circuit["state"], circuit["held"]


def changes(gateway: Process) -> Counter[tuple[str, str]]:
    """How often circuits of an upstream went over to a state."""
    found: Counter[tuple[str, str]] = Counter()
    for each in tell(gateway, "circuits")["events"]:
        found[each["upstream"], each["to"]] += each["times"]
    return found


def wait_for_state(gateway: Process, wanted: str) -> None:
    ends = time.monotonic() + PATIENCE
    while state(gateway)[0] != wanted:
        assert time.monotonic() < ends, f"{state(gateway)}, not {wanted}"
        time.sleep(0.05)


def two_workers(upstream: Upstream, **parts: object) -> str:
    return proxy(upstream.port, workers=2, **parts)


# -- circuits


def test_a_circuit_is_held_open_in_all_workers_until_it_is_closed(start: Start, upstream: Upstream):
    gateway = start(two_workers(upstream))
    in_force("an upstream that is well", 200, gateway)
    assert tell(gateway, "circuits", "open", "up") == {"upstream": "up", "target": None, "held": True}
    in_force("a circuit held open", 503, gateway)
    wait_for_state(gateway, "open")
    assert state(gateway) == ("open", True)
    before = upstream.requests
    assert Counter(ask(gateway.port, {}).status for _ in range(20)) == {503: 20}
    assert upstream.requests == before
    tell(gateway, "circuits", "close", "up")
    in_force("a closed circuit", 200, gateway)
    wait_for_state(gateway, "closed")
    assert state(gateway) == ("closed", False)
    ends = time.monotonic() + PATIENCE
    while changes(gateway) != {("up", "open"): 2, ("up", "closed"): 2}:  # of two workers
        assert time.monotonic() < ends, changes(gateway)
        time.sleep(0.1)
    gateway.wait_for("held open by 127.0.0.1")
    gateway.wait_for("closed by 127.0.0.1")


def test_it_outlives_a_worker_the_operator_process_and_a_reload(start: Start, upstream: Upstream):
    gateway = start(two_workers(upstream))
    target = f"http://127.0.0.1:{upstream.port}"
    tell(gateway, "circuits", "open", "up", "--target", target)
    in_force("a circuit held open", 503, gateway)
    victim = gateway.workers()[0]
    os.kill(victim, signal.SIGKILL)
    gateway.wait_workers(2, but=victim)
    assert Counter(ask(gateway.port, {}).status for _ in range(SURE)) == {503: SURE}
    operator = gateway.operator()
    os.kill(operator, signal.SIGKILL)
    assert wait_gone([operator]) == []
    ends = time.monotonic() + PATIENCE
    while (answered := command("circuits", "--admin", f"http://127.0.0.1:{gateway.admin}")).returncode:
        assert time.monotonic() < ends, answered.stderr
    assert state(gateway) == ("open", True)
    gateway.configure(two_workers(upstream, wire={"lame_duck": "100ms", "header_timeout": "7s"}))
    assert gateway.reload()[0] == 200
    assert Counter(ask(gateway.port, {}).status for _ in range(SURE)) == {503: SURE}
    tell(gateway, "circuits", "close", "up", "--target", target)
    in_force("a closed circuit", 200, gateway)


def test_a_circuit_that_opened_by_itself_is_closed_by_hand(start: Start, upstream: Upstream):
    dead = quiet_port()
    breaker = {"consecutive_failures": 1, "open_for": "1h"}
    up = {"targets": [f"http://127.0.0.1:{dead}"], "retry": "off", "breaker": breaker}
    gateway = start(two_workers(upstream, upstreams={"up": up}))
    in_force("open circuits", 503, gateway, within=PATIENCE)
    wait_for_state(gateway, "open")
    assert state(gateway) == ("open", False)
    tell(gateway, "circuits", "close", "up")
    ends = time.monotonic() + PATIENCE
    while ask(gateway.port, {}).status != 502:  # it is asked again
        assert time.monotonic() < ends


def test_a_reload_without_the_upstream_ends_it(start: Start, upstream: Upstream):
    gateway = start(two_workers(upstream))
    tell(gateway, "circuits", "open", "up")
    in_force("a circuit held open", 503, gateway)
    other = {"other": {"targets": [f"http://127.0.0.1:{upstream.port}"]}}
    route = {"name": "all", "match": {"path": "/**"}, "upstream": "other"}
    gateway.configure(two_workers(upstream, upstreams=other, routes=[route]))
    assert gateway.reload()[0] == 200
    in_force("another upstream", 200, gateway)
    gateway.wait_for("circuit of up is no longer held open: it is not configured any more")
    gateway.configure(two_workers(upstream))
    assert gateway.reload()[0] == 200
    in_force("the upstream again", 200, gateway)
    assert state(gateway)[1] is False


# -- rehearsals


def test_a_rehearsal_strikes_in_all_workers_and_ends_by_itself(start: Start, upstream: Upstream):
    gateway = start(two_workers(upstream))
    began = time.monotonic()
    made = tell(gateway, "chaos", "start", "all", "--status", "500", "--share", "100%", "--for", "3s")
    in_force("a rehearsal", 500, gateway)
    assert [each["id"] for each in tell(gateway, "chaos", "list")["faults"]] == [made["id"]]
    assert operate(gateway, "POST", "faults", route="all", status=503, share="1%", **{"for": "1m"})[0] == 409
    time.sleep(max(0.0, began + 3.0 - time.monotonic()))
    in_force("its end", 200, gateway)
    assert tell(gateway, "chaos", "list") == {"faults": []}
    gateway.wait_for(f"rehearsal {made['id']} on route all is over")


def test_a_rehearsal_is_stopped_at_once(start: Start, upstream: Upstream):
    gateway = start(two_workers(upstream))
    made = tell(gateway, "chaos", "start", "all", "--status", "500", "--share", "100%", "--for", "1h")
    in_force("a rehearsal", 500, gateway)
    tell(gateway, "chaos", "stop", made["id"])
    in_force("its end", 200, gateway)


# -- upstreams, and where to ask


def test_upstreams_are_shown_as_the_workers_have_them(start: Start, upstream: Upstream):
    gateway = start(two_workers(upstream))
    in_force("an upstream that is well", 200, gateway)
    ends = time.monotonic() + PATIENCE
    while True:
        status, said = operate(gateway, "GET", "upstreams")
        assert status == 200
        (up,) = said["upstreams"]
        if up["targets"][0]["circuit"] == "closed" and up["connections"]["idle"] and not up["connections"]["busy"]:
            break
        assert time.monotonic() < ends, up
        time.sleep(0.05)
    assert up["targets"][0]["url"] == f"http://127.0.0.1:{upstream.port}"
    assert (up["targets"][0]["healthy"], up["targets"][0]["held"]) == (True, False)


def test_a_command_that_is_sent_to_the_clients_listener_says_so(start: Start, upstream: Upstream):
    route = {"name": "one", "match": {"path": "/one"}, "upstream": "up"}
    gateway = start(two_workers(upstream, routes=[route]))
    done = command("circuits", "--admin", f"http://127.0.0.1:{gateway.port}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"http://127.0.0.1:{gateway.port} is where a gateway listens for clients")
