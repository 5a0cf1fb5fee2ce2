"""Addresses behind a name: the last good ones stay in use whatever the DNS does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.http import resolving
from gateway.http.resolving import FRESH, Addresses, is_address
from tests.fakes import Clock


class Dns:
    """Resolves a name as told; while it is `slow` no answer comes before it is `released`."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.failing = False
        self.questions = 0
        self._released = asyncio.Event()
        self._released.set()

    def slow(self) -> None:
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    async def __call__(self, host: str, port: int) -> list[str]:
        self.questions += 1
        await self._released.wait()
        if self.failing:
            raise OSError("no such name")
        return self.addresses


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits a tenth of a second."""
    monkeypatch.setattr(resolving, "PATIENCE", 0.001)


def addresses(dns: Dns, clock: Clock) -> Addresses:
    return Addresses("orders.internal", 80, resolve=dns, clock=clock)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%eth0"])
async def test_an_address_is_never_looked_up(host: str) -> None:
    dns = Dns()
    assert is_address(host)
    assert await Addresses(host, 80, resolve=dns).get() == [host]
    assert dns.questions == 0


async def test_an_answer_is_asked_for_again_after_a_second() -> None:
    dns, clock = Dns("192.0.2.1"), Clock()
    found = addresses(dns, clock)
    assert await found.get() == await found.get() == ["192.0.2.1"]
    assert dns.questions == 1
    clock.advance(FRESH)
    dns.addresses = ["192.0.2.2"]
    assert await found.get() == ["192.0.2.2"]
    assert dns.questions == 2


async def test_who_comes_while_a_lookup_is_under_way_shares_it() -> None:
    dns = Dns("192.0.2.1")
    found = addresses(dns, Clock())
    assert await asyncio.gather(*(found.get() for _ in range(20))) == [["192.0.2.1"]] * 20
    assert dns.questions == 1


async def test_a_name_that_stops_to_exist_keeps_its_last_addresses(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    dns, clock = Dns("192.0.2.1"), Clock()
    found = addresses(dns, clock)
    await found.get()
    dns.failing = True
    for _ in range(3):
        clock.advance(FRESH)
        assert await found.get() == ["192.0.2.1"]
    assert dns.questions == 4
    dns.failing = False
    clock.advance(FRESH)
    await found.get()
    assert caplog.messages == [
        "orders.internal cannot be resolved: its last addresses stay in use: no such name",
        "orders.internal is resolved again",
    ]


async def test_a_slow_lookup_is_waited_for_once_and_for_a_moment_only(impatient: None) -> None:
    dns, clock = Dns("192.0.2.1"), Clock()
    found = addresses(dns, clock)
    await found.get()
    clock.advance(FRESH)
    dns.slow()
    dns.addresses = ["192.0.2.2"]
    assert await found.get() == ["192.0.2.1"]
    clock.advance(0.5)
    before = asyncio.get_running_loop().time()
    for _ in range(100):
        assert await found.get() == ["192.0.2.1"]
    assert asyncio.get_running_loop().time() - before < 0.05
    assert dns.questions == 2
    dns.release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await found.get() == ["192.0.2.2"]  # which nobody had to wait for


async def test_without_any_addresses_the_answer_is_waited_for(impatient: None) -> None:
    dns = Dns("192.0.2.1")
    dns.slow()
    waiting = asyncio.ensure_future(addresses(dns, Clock()).get())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    dns.release()
    assert await waiting == ["192.0.2.1"]


async def test_who_leaves_does_not_end_the_lookup_that_others_wait_for() -> None:
    dns = Dns("192.0.2.1")
    dns.slow()
    found = addresses(dns, Clock())
    first, second = asyncio.ensure_future(found.get()), asyncio.ensure_future(found.get())
    await asyncio.sleep(0)
    first.cancel()
    dns.release()
    assert await second == ["192.0.2.1"]
    assert first.cancelled()


async def test_a_name_that_never_existed_fails_each_time_it_is_asked_for() -> None:
    dns = Dns("192.0.2.1")
    dns.failing = True
    found = addresses(dns, Clock())
    for _ in range(2):
        with pytest.raises(OSError, match=r"orders\.internal: no such name"):
            await found.get()
    dns.failing = False
    assert await found.get() == ["192.0.2.1"]


async def test_connections_take_turns_among_equals_and_the_other_family_stays_behind() -> None:
    found = addresses(Dns("192.0.2.1", "192.0.2.2", "2001:db8::1"), Clock())
    orders = [await found.get() for _ in range(4)]
    assert {order[0] for order in orders} == {"192.0.2.1", "192.0.2.2"}
    assert all(order[2] == "2001:db8::1" for order in orders)
    assert all(len(set(order)) == 3 for order in orders)


@asynccontextmanager
async def server() -> AsyncIterator[int]:
    """Takes connections at 127.0.0.1, and nowhere else."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0.01)


async def test_an_address_that_refuses_is_passed_over() -> None:
    async with server() as port:
        found = Addresses("orders.internal", port, resolve=Dns("127.0.0.2", "127.0.0.1"), clock=Clock())
        for _ in range(2):  # each of them comes first once
            made = await found.connect(Visitor, None, None)
            assert made.transport.get_extra_info("peername")[0] == "127.0.0.1"
            made.transport.abort()


async def test_where_all_addresses_refuse_the_next_connection_asks_the_dns_again() -> None:
    async with server() as port:
        dns = Dns("127.0.0.2")
        found = Addresses("orders.internal", port, resolve=dns, clock=Clock())
        with pytest.raises(ConnectionRefusedError):
            await found.connect(Visitor, None, None)
        dns.addresses = ["127.0.0.1"]
        (await found.connect(Visitor, None, None)).transport.abort()
        assert dns.questions == 2


class Visitor(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]


async def test_the_system_knows_localhost() -> None:
    assert {"127.0.0.1", "::1"} >= set(await resolving.system("localhost", 80)) != set()


async def test_the_system_says_that_a_name_which_cannot_be_one_leads_nowhere() -> None:
    with pytest.raises(OSError, match="label"):
        await Addresses("a" * 64 + ".test", 80).get()
