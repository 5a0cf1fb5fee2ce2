"""What was found out and ordered about upstreams and routes outlives reloads, workers and the operator process.

Four things at once: a target that probes found ill, one that was found in the DNS, a circuit that is held open, a
rehearsal. Whatever happens, they are in force from the first request on, and can be taken back afterwards.
"""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.nameserver import DnsServer, dns_server_in_thread
from tests.system.callers import SURE, ask, tell
from tests.system.gateways import Process, Start, proxy
from tests.system.load import Load
from tests.system.proc import needs_proc, wait_gone
from tests.system.test_health_probes import INTERVAL, Moody, until
from tests.system.upstream import Upstream

pytestmark = needs_proc

SERVICE = "_http._tcp.orders.test"


class Scene:
    """A gateway with all four, and what is behind it."""

    def __init__(self, start: Start, server: DnsServer, ill: Moody, well: Moody) -> None:
        self.server, self.ill, self.well = server, ill, well
        ill.ill = True
        server.put("one.test.", "A", "127.0.0.1")
        self.found_at(well)
        self.gateway: Process = start(self.settings())
        until(lambda: self.gateway.ready() == 200 and not self.healthy())
        tell(self.gateway, "circuits", "open", "held")
        self.rehearsal = tell(
            self.gateway, "chaos", "start", "rehearsed", "--status", "500", "--share", "100%", "--for", "1h"
        )
        until(self.in_force)

    def found_at(self, upstream: Upstream) -> None:
        self.server.put(f"{SERVICE}.", "SRV", f"0 1 {upstream.port} one.test.", ttl=1)

    def settings(self, *, header_timeout: str = "9s", total: str = "9s") -> str:
        """`header_timeout` has nothing to do with upstreams, `total` makes all of them anew."""
        health = {"path": "/healthz", "interval": f"{INTERVAL}s", "timeout": f"{INTERVAL}s", "unhealthy_after": 2}
        one, two = [self.ill.url], [self.well.url]
        discover = {"dns": SERVICE, "type": "srv", "server": self.server.address, "refresh": "1s"}
        upstreams: dict[str, dict[str, object]] = {
            "watched": {"targets": one + two, "health": health, "panic": "0%"},
            "held": {"targets": two},
            "rehearsed": {"targets": two},
            "found": {"discover": discover},
        }
        for each in upstreams.values():
            each |= {"timeouts": {"total": total}, "retry": "off"}
        routes = [{"name": name, "match": {"path": f"/{name}/**"}, "upstream": name} for name in upstreams]
        wire = {"lame_duck": "100ms", "header_timeout": header_timeout}
        return proxy(0, workers=2, upstreams=upstreams, routes=routes, wire=wire)

    def answers(self, name: str, times: int = SURE) -> Counter[int]:
        """To requests on connections of their own, so that both workers are asked."""
        return Counter(ask(self.gateway.port, {}, f"/{name}/x").status for _ in range(times))

    def in_force(self) -> bool:
        before = self.ill.requests
        said = {name: set(self.answers(name)) for name in ("watched", "held", "rehearsed", "found")}
        return self.ill.requests == before and said == {
            "watched": {200}, "held": {503}, "rehearsed": {500}, "found": {200},
        }  # fmt: skip

    def healthy(self) -> bool:
        """As operators see the ill target."""
        (watched,) = [each for each in self.upstreams() if each["name"] == "watched"]
        return bool(next(each["healthy"] for each in watched["targets"] if each["url"] == self.ill.url))

    def upstreams(self) -> list[dict[str, Any]]:
        status, body = self.gateway.operate("/api/v1/upstreams")
        assert status == 200, body
        found: list[dict[str, Any]] = json.loads(body)["upstreams"]
        return found

    def take_back(self) -> None:
        """All four, by whoever is the operator process now."""
        gateway, well = self.gateway, self.well
        assert [each["id"] for each in tell(gateway, "chaos", "list")["faults"]] == [self.rehearsal["id"]]
        assert [each["held"] for each in tell(gateway, "circuits")["circuits"] if each["upstream"] == "held"] == [True]
        assert not self.healthy()
        tell(gateway, "chaos", "stop", self.rehearsal["id"])
        tell(gateway, "circuits", "close", "held")
        self.ill.ill = False
        self.found_at(self.ill)
        until(lambda: set(self.answers("rehearsed")) == set(self.answers("held")) == {200})
        until(lambda: self.moves(self.ill, "watched"))
        until(lambda: self.moves(self.ill, "found") and not self.moves(well, "found"))

    def moves(self, upstream: Upstream, name: str) -> bool:
        """Whether it gets some of a few requests; none may be lost."""
        before = upstream.requests
        assert self.answers(name, 8) == {200: 8}
        return upstream.requests > before


@pytest.fixture
def scene(start: Start) -> Iterator[Scene]:
    ill, well = Moody(), Moody()
    with dns_server_in_thread() as server, ill, well:
        yield Scene(start, server, ill, well)


def reload(scene: Scene, **changes: str) -> None:
    scene.gateway.configure(scene.settings(**changes))
    status, said = scene.gateway.reload()
    assert status == 200, said


def kill_a_worker(scene: Scene) -> None:
    victim = scene.gateway.workers()[0]
    os.kill(victim, signal.SIGKILL)
    scene.gateway.wait_workers(2, but=victim)


def kill_the_operator(scene: Scene) -> None:
    """In the middle of probes and questions; the next one is at work afterwards."""
    victim = scene.gateway.operator()
    os.kill(victim, signal.SIGKILL)
    assert wait_gone([victim]) == []
    assert scene.in_force(), "before there is another"
    probes, asked = scene.ill.probes, len(scene.server.questions)
    until(lambda: scene.ill.probes > probes + 1 and len(scene.server.questions) > asked + 1)


def reload_and_kill_all(scene: Scene) -> None:
    reload(scene, header_timeout="8s", total="8s")
    kill_the_operator(scene)
    kill_a_worker(scene)
    reload(scene, header_timeout="7s")


@pytest.mark.parametrize(
    "event",
    [
        lambda scene: reload(scene, total="8s"),
        kill_a_worker,
        kill_the_operator,
        reload_and_kill_all,
    ],
    ids=["reload of the upstreams", "a worker", "the operator process", "all of it"],
)
def test_what_was_found_and_ordered_stays_in_force(scene: Scene, event: Callable[[Scene], None]) -> None:
    event(scene)
    assert scene.in_force()
    time.sleep(INTERVAL)  # a probe, and a look or two at what is told
    assert scene.in_force()
    scene.take_back()


def test_callers_notice_none_of_it(scene: Scene) -> None:
    """Neither a request to a discovered target nor one past the ill one fails, not even at the first moment."""
    port = scene.gateway.port
    with Load(port, path="/watched") as watched, Load(port, path="/found") as found:
        for number in range(3):
            reload(scene, total=f"{8 - number}s")
        victim = scene.gateway.operator()
        os.kill(victim, signal.SIGKILL)
        before = scene.ill.probes
        until(lambda: scene.ill.probes > before + 1)
        reload(scene, total="5s")
        watched.go_on(50)
        found.go_on(50)
    watched.check()
    found.check()
    assert scene.ill.requests == 0


def test_reloads_leave_no_connection_and_no_descriptor_behind(scene: Scene) -> None:
    """Pools of discovered targets are made anew with their upstream: the old ones let go."""

    def held() -> dict[int, int]:
        counts = {}
        for pid in [*scene.gateway.workers(), scene.gateway.operator()]:
            with suppress(FileNotFoundError):
                counts[pid] = len(os.listdir(f"/proc/{pid}/fd"))
        return counts

    def settled() -> dict[int, int]:
        assert scene.in_force()  # there is a connection to each upstream
        return held()

    reload(scene, total="8s")
    before = settled()
    for number in range(8):
        reload(scene, total=f"{5 + number % 2}s")
        assert scene.answers("found", 4) == {200: 4}
    settled()
    until(lambda: all(count <= before[pid] + 2 for pid, count in held().items()))
