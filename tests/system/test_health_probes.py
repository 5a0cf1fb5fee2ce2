"""Probes of a running gateway: an ill target gets no requests, whatever happens to the process that probes it."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.system.gateways import Process, Start, proxy
from tests.system.proc import needs_proc
from tests.system.upstream import Upstream

INTERVAL = 0.3
HEARD = 0.5
"""Seconds; workers look four times a second at what is told them."""


class Moody(Upstream):
    """Answers probes as it feels, and everything else as ever."""

    def __init__(self) -> None:
        super().__init__()
        self.ill = False
        self.probes = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _answer(self, head: bytes, length: int, writer: asyncio.StreamWriter) -> None:
        if b"\r\nUser-Agent: gateway-health\r\n" not in head:
            await super()._answer(head, length, writer)
            return
        self.requests -= 1
        self.probes += 1
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % (503 if self.ill else 200))


@pytest.fixture
def one() -> Iterator[Moody]:
    with Moody() as one:
        yield one


@pytest.fixture
def two() -> Iterator[Moody]:
    with Moody() as two:
        yield two


def settings(*targets: Moody, **more: object) -> str:
    health = {"path": "/healthz", "interval": f"{INTERVAL}s", "timeout": f"{INTERVAL}s", "unhealthy_after": 2}
    up = {"targets": [each.url for each in targets], "health": health, "panic": "0%", "retry": "off", "breaker": "off"}
    return proxy(0, upstreams={"up": up}, **more)


def until(condition: Callable[[], bool], patience: float = 5.0) -> float:
    """The seconds it took to come about."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < patience, "it never came about"
        time.sleep(0.02)
    return time.monotonic() - began


def healthy(gateway: Process) -> dict[str, bool]:
    """As operators see it, by target."""
    status, body = gateway.operate("/api/v1/upstreams")
    assert status == 200, body
    return {each["url"]: each["healthy"] for each in json.loads(body)["upstreams"][0]["targets"]}


def goes_to(gateway: Process, target: Moody) -> bool:
    """Whether some of a few requests do."""
    before = target.requests
    assert [gateway.ask()[0] for _ in range(6)] == [200] * 6
    return target.requests > before


def test_an_ill_target_gets_no_requests_and_is_back_within_an_interval_and_a_second(
    start: Start, one: Moody, two: Moody
) -> None:
    gateway = start(settings(one, two))
    assert goes_to(gateway, one)
    one.ill = True
    until(lambda: not healthy(gateway)[one.url])
    until(lambda: not goes_to(gateway, one), HEARD)
    assert "the target " + one.url + " is ill: status 503" in gateway.errors.read_text()
    assert goes_to(gateway, two)
    one.ill = False
    assert until(lambda: goes_to(gateway, one)) < INTERVAL + 1
    assert healthy(gateway)[one.url]


def test_all_workers_have_one_prober(start: Start, one: Moody) -> None:
    start(settings(one, workers=3))
    until(lambda: one.probes > 0)
    before = one.probes
    time.sleep(5 * INTERVAL)
    assert 3 <= one.probes - before <= 7


@needs_proc
def test_what_is_ill_stays_so_when_the_process_that_probes_dies(start: Start, one: Moody, two: Moody) -> None:
    gateway = start(settings(one, two))
    one.ill = True
    until(lambda: not healthy(gateway)[one.url])
    until(lambda: not goes_to(gateway, one), HEARD)
    os.kill(gateway.operator(), signal.SIGKILL)
    probes = one.probes
    until(lambda: not goes_to(gateway, one) and one.probes > probes + 1)
    assert not healthy(gateway)[one.url]
    one.ill = False
    until(lambda: goes_to(gateway, one))


@needs_proc
def test_what_is_ill_stays_so_while_the_process_that_probes_is_frozen(start: Start, one: Moody, two: Moody) -> None:
    gateway = start(settings(one, two))
    one.ill = True
    until(lambda: not healthy(gateway)[one.url])
    until(lambda: not goes_to(gateway, one), HEARD)
    operator = gateway.operator()
    os.kill(operator, signal.SIGSTOP)
    try:
        time.sleep(2 * INTERVAL)
        assert not goes_to(gateway, one)
    finally:
        os.kill(operator, signal.SIGCONT)


def test_a_reload_that_asks_for_no_probes_ends_them(start: Start, one: Moody, two: Moody) -> None:
    gateway = start(settings(one, two))
    one.ill = True
    until(lambda: not healthy(gateway)[one.url])
    gateway.configure(proxy(0, upstreams={"up": {"targets": [one.url, two.url], "panic": "0%"}}))
    assert gateway.reload()[0] == 200
    until(lambda: goes_to(gateway, one), 2.0)
    probes = one.probes
    time.sleep(2 * INTERVAL)
    assert one.probes == probes
