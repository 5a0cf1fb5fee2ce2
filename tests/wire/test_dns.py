"""Discovery against a DNS server over a real socket."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import dns.rcode
import pytest

from gateway.process import lookup
from gateway.process.lookup import look_up
from gateway.process.resolver import Resolver
from gateway.upstream.discovery import Answer, Discovery, LookupFailed, Record
from tests.nameserver import DnsServer, dns_server


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with dns_server() as server:
        yield server


def orders(server: DnsServer, **more: object) -> Discovery:
    return Discovery("orders.test", 8080, server=server.address, **more)  # type: ignore[arg-type]


def services(server: DnsServer) -> Discovery:
    return Discovery("_http._tcp.orders.test", kind="srv", server=server.address)


def records(*addresses: str) -> tuple[Record, ...]:
    return tuple(Record(address, 8080) for address in addresses)


async def test_all_addresses_are_found_and_how_long_they_hold(server: DnsServer) -> None:
    server.put("orders.test.", "A", "192.0.2.1", "192.0.2.2", ttl=7)
    answer = await look_up(orders(server))
    assert set(answer.records) == set(records("192.0.2.1", "192.0.2.2"))
    assert answer.ttl == 7
    assert server.questions == ["orders.test. A"]


async def test_a_name_with_ipv6_only_has_those_addresses(server: DnsServer) -> None:
    server.put("orders.test.", "AAAA", "2001:db8::1")
    assert (await look_up(orders(server))).records == records("2001:db8::1")
    assert server.questions == ["orders.test. A", "orders.test. AAAA"]


async def test_an_alias_holds_no_longer_than_its_shortest_part(server: DnsServer) -> None:
    server.put("orders.test.", "CNAME", "green.test.", ttl=5)
    server.put("green.test.", "A", "192.0.2.1", ttl=60)
    assert await look_up(orders(server)) == Answer(records("192.0.2.1"), 5)


async def test_services_come_with_addresses_or_these_are_asked_for(server: DnsServer) -> None:
    server.put("one.test.", "A", "192.0.2.1", ttl=50)
    server.put("two.test.", "AAAA", "2001:db8::2", ttl=40)
    server.put("_http._tcp.orders.test.", "SRV", "10 30 8001 one.test.", "20 5 8002 two.test.",
               along=(("one.test.", "A"),))  # fmt: skip
    answer = await look_up(services(server))
    assert set(answer.records) == {Record("192.0.2.1", 8001, 30, 10), Record("2001:db8::2", 8002, 5, 20)}
    assert answer.ttl == 40
    assert server.questions == ["_http._tcp.orders.test. SRV", "two.test. A", "two.test. AAAA"]


async def test_addresses_of_a_service_share_its_weight(server: DnsServer) -> None:
    server.put("one.test.", "A", "192.0.2.1", "192.0.2.2")
    server.put("_http._tcp.orders.test.", "SRV", "0 30 80 one.test.")
    assert [record.weight for record in (await look_up(services(server))).records] == [15, 15]


async def test_a_service_that_is_gone_does_not_take_the_others_along(server: DnsServer) -> None:
    server.put("one.test.", "A", "192.0.2.1")
    server.put("_http._tcp.orders.test.", "SRV", "0 1 80 one.test.", "0 1 80 gone.test.", "0 0 0 .")
    assert (await look_up(services(server))).records == (Record("192.0.2.1", 80, 1, 0),)


async def test_a_service_whose_address_nobody_can_tell_fails_the_whole_lookup(
    server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put("one.test.", "A", "192.0.2.1")
    server.put("_http._tcp.orders.test.", "SRV", "0 1 80 one.test.", "0 1 80 two.test.", along=(("one.test.", "A"),))
    server.put("two.test.", "SRV", "0 1 80 one.test.")
    fill = server._fill

    def broken(answer: object, name: str, kind: str) -> None:
        server.rcode = dns.rcode.SERVFAIL if name == "two.test." else dns.rcode.NOERROR
        fill(answer, name, kind)  # type: ignore[arg-type]

    monkeypatch.setattr(server, "_fill", broken)
    with pytest.raises(LookupFailed, match="answer with errors"):
        await look_up(services(server))


async def test_a_name_that_does_not_exist_fails(server: DnsServer) -> None:
    with pytest.raises(LookupFailed, match="there is no such name"):
        await look_up(orders(server))


async def test_a_server_with_errors_fails(server: DnsServer) -> None:
    server.rcode = dns.rcode.SERVFAIL
    with pytest.raises(LookupFailed, match="answer with errors"):
        await look_up(orders(server))


async def test_a_server_that_keeps_silent_fails_in_time(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.silent = True
    monkeypatch.setattr(lookup, "WITHIN", 0.2)
    with pytest.raises(LookupFailed, match="no answer of a DNS server within"):
        await look_up(orders(server))


async def test_a_server_that_is_not_there_fails(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.servers import free_port

    monkeypatch.setattr(lookup, "WITHIN", 0.3)
    with pytest.raises(LookupFailed):
        await look_up(Discovery("orders.test", 80, server=f"127.0.0.1:{free_port()}"))


async def test_a_name_without_addresses_is_an_empty_answer(server: DnsServer) -> None:
    server.put("orders.test.", "A")
    server.put("orders.test.", "TXT", "none")
    assert (await look_up(orders(server))).records == ()


async def test_the_dns_server_may_have_a_name(server: DnsServer) -> None:
    server.put("orders.test.", "A", "192.0.2.1")
    asked = Discovery("orders.test", 8080, server=f"localhost:{server.port}")
    assert (await look_up(asked)).records == records("192.0.2.1")


async def test_the_hosts_file_comes_first_and_needs_no_server(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.77 orders.test\n")
    assert await look_up(Discovery("orders.test", 8080, refresh=3.0), hosts) == Answer(records("192.0.2.77"), 3.0)


async def test_a_server_that_was_named_is_asked_whatever_the_hosts_file_says(server: DnsServer, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.77 orders.test\n")
    server.put("orders.test.", "A", "192.0.2.1")
    assert (await look_up(orders(server), hosts)).records == records("192.0.2.1")


async def test_targets_follow_the_dns_and_outlive_its_failures(
    server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second at least lies between two questions; the test has no time for that."""
    monkeypatch.setattr("gateway.upstream.discovery.LEAST_PAUSE", 0.01)
    told: list[list[str]] = []
    server.put("orders.test.", "A", "192.0.2.1", ttl=0)
    resolver = Resolver(lambda found: told.append([each.url for each in found["orders"]]), {})
    try:
        resolver.follow({"orders": orders(server)})
        await server.asked(2)
        server.forget("orders.test.")
        await server.asked(len(server.questions) + 2)
        server.put("orders.test.", "A", "192.0.2.2", "192.0.2.1", ttl=0)
        async with asyncio.timeout(5):
            while len(told) < 2:
                await asyncio.sleep(0.005)
    finally:
        await resolver.close()
    assert told == [["http://192.0.2.1:8080"], ["http://192.0.2.1:8080", "http://192.0.2.2:8080"]]
