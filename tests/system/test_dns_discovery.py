"""Targets from a DNS server: they come and go without a lost request, and stay when the DNS knows nothing of them."""

import json
import time
from collections.abc import Callable, Iterator
from threading import Thread

import dns.rcode
import pytest

from tests.nameserver import DnsServer, dns_server_in_thread
from tests.system.gateways import Process, Start, proxy
from tests.system.upstream import Upstream

SERVICE = "_http._tcp.orders.test"


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with dns_server_in_thread() as server:
        server.put("one.test.", "A", "127.0.0.1")
        yield server


@pytest.fixture
def one() -> Iterator[Upstream]:
    with Upstream() as one:
        yield one


@pytest.fixture
def two() -> Iterator[Upstream]:
    with Upstream() as two:
        yield two


def tell(server: DnsServer, *targets: Upstream, ttl: int = 1) -> None:
    """The service is at these from now on."""
    server.put(f"{SERVICE}.", "SRV", *(f"0 1 {each.port} one.test." for each in targets), ttl=ttl)


def settings(server: DnsServer, **more: object) -> str:
    discover = {"dns": SERVICE, "type": "srv", "server": server.address, "refresh": "1s"}
    return proxy(0, upstreams={"up": {"discover": discover, "retry": "off", "breaker": "off", **more}})


def until(condition: Callable[[], bool], patience: float = 8.0) -> None:
    ends = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < ends, "it never came about"
        time.sleep(0.05)


def served_by(gateway: Process, *upstreams: Upstream) -> bool:
    """Whether these get requests; none may be lost."""
    before = [each.requests for each in upstreams]
    assert [gateway.ask()[0] for _ in range(6)] == [200] * 6
    return all(each.requests > had for each, had in zip(upstreams, before, strict=True))


def ready(gateway: Process) -> bool:
    """Whether it is, and has heard of a target."""
    return gateway.ready() == 200 and gateway.ask()[0] == 200


def test_targets_come_and_go_with_the_dns(start: Start, server: DnsServer, one: Upstream, two: Upstream) -> None:
    tell(server, one)
    gateway = start(settings(server))
    until(lambda: ready(gateway))
    assert served_by(gateway, one)
    tell(server, one, two)
    until(lambda: served_by(gateway, one, two))
    tell(server, two)
    until(lambda: not served_by(gateway, one))
    assert served_by(gateway, two)


def test_a_request_under_way_ends_well_after_its_target_has_gone_from_the_dns(
    start: Start, server: DnsServer, one: Upstream, two: Upstream
) -> None:
    tell(server, one)
    gateway = start(settings(server, timeouts={"try": "8s", "total": "9s"}))
    until(lambda: ready(gateway))
    statuses: list[int] = []
    slow = Thread(target=lambda: statuses.append(gateway.ask("/wait/4/x")[0]))
    before = one.requests
    slow.start()
    until(lambda: one.requests > before)
    tell(server, two)
    until(lambda: not served_by(gateway, one) and served_by(gateway, two), 3.5)
    slow.join(10)
    assert statuses == [200]


@pytest.mark.parametrize("trouble", ["no such name", "errors", "silence", "nothing in it"])
def test_targets_stay_when_the_dns_does_not_know_of_them(
    start: Start, server: DnsServer, one: Upstream, trouble: str
) -> None:
    tell(server, one)
    gateway = start(settings(server))
    until(lambda: ready(gateway))
    match trouble:
        case "no such name":
            server.forget(f"{SERVICE}.")
        case "errors":
            server.rcode = dns.rcode.SERVFAIL
        case "silence":
            server.silent = True
        case _:
            tell(server)
    asked = len(server.questions)
    until(lambda: len(server.questions) >= asked + 2)
    assert served_by(gateway, one)


def test_a_gateway_is_not_ready_before_it_knows_a_target(start: Start, server: DnsServer, one: Upstream) -> None:
    gateway = start(settings(server))
    until(lambda: len(server.questions) > 0)
    status, body = gateway.operate("/readyz")
    assert status == 503
    assert "no target of upstream up has been discovered yet" in body
    assert gateway.ask()[0] == 503
    tell(server, one)
    until(lambda: ready(gateway))


def test_operators_see_what_was_discovered(start: Start, server: DnsServer, one: Upstream) -> None:
    tell(server, one)
    gateway = start(settings(server))
    until(lambda: ready(gateway))
    (upstream,) = json.loads(gateway.operate("/api/v1/upstreams")[1])["upstreams"]
    (target,) = upstream["targets"]
    assert (target["url"], target["discovered"]) == (f"http://127.0.0.1:{one.port}", True)
