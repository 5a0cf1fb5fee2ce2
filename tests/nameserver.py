"""A small DNS server on a UDP port of 127.0.0.1: it answers what a test wrote down, or misbehaves as told."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from threading import Thread
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

TTL = 300


class DnsServer(asyncio.DatagramProtocol):
    """Knows the names that were `put`; others do not exist."""

    def __init__(self) -> None:
        self.port = 0
        self.silent = False
        self.rcode = dns.rcode.NOERROR
        """Anything else is the answer to every question."""
        self.questions: list[str] = []
        """Name and type of each, as `orders.test. A`."""
        self._records: dict[tuple[str, str], dns.rrset.RRset] = {}
        self._along: dict[tuple[str, str], list[dns.rrset.RRset]] = {}
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def address(self) -> str:
        """host:port"""
        return f"127.0.0.1:{self.port}"

    def put(self, name: str, kind: str, *values: str, ttl: int = TTL, along: tuple[tuple[str, str], ...] = ()) -> None:
        """From now on this is the answer; without values the name exists and has no such record.

        `along` are names and types whose records, put before, are sent along with it.
        """
        self._records[name, kind] = dns.rrset.from_text_list(name, ttl, "IN", kind, list(values))
        self._along[name, kind] = [self._records[each] for each in along]

    def forget(self, name: str) -> None:
        """It does not exist any more."""
        for key in [key for key in self._records if key[0] == name]:
            del self._records[key]

    async def asked(self, count: int) -> None:
        """Wait until there were so many questions."""
        async with asyncio.timeout(5):
            while len(self.questions) < count:
                await asyncio.sleep(0.005)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        [asked] = question.question
        name, kind = asked.name.to_text(), dns.rdatatype.to_text(asked.rdtype)
        self.questions.append(f"{name} {kind}")
        if self.silent or self._transport is None:
            return
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.AA | dns.flags.RA
        self._fill(answer, name, kind)
        self._transport.sendto(answer.to_wire(), addr)

    def _fill(self, answer: dns.message.Message, name: str, kind: str) -> None:
        if self.rcode != dns.rcode.NOERROR:
            answer.set_rcode(self.rcode)
            return
        while alias := self._records.get((name, "CNAME")):
            answer.answer.append(alias)
            name = alias[0].to_text()
        if not any(known == name for known, _ in self._records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif records := self._records.get((name, kind)):
            answer.answer.append(records)
            answer.additional += self._along[name, kind]


@asynccontextmanager
async def dns_server() -> AsyncIterator[DnsServer]:
    """One that ends with the test."""
    server, transport = await _open()
    try:
        yield server
    finally:
        transport.close()
        await asyncio.sleep(0)


@contextmanager
def dns_server_in_thread() -> Iterator[DnsServer]:
    """The same for a test without a loop; what it `put`s holds from the next question on."""
    loop = asyncio.new_event_loop()
    server, transport = loop.run_until_complete(_open())
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(transport.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


async def _open() -> tuple[DnsServer, asyncio.DatagramTransport]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(DnsServer, local_addr=("127.0.0.1", 0))
    server.port = transport.get_extra_info("sockname")[1]
    return server, transport
