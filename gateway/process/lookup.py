"""Asks once where an upstream is: the hosts file first, for addresses, then DNS servers of the system or a given one.

Settings of the system are read anew each time: that takes less than an answer, and they may change.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.rdtypes.IN.SRV
import dns.resolver
from dns.rdataclass import IN
from dns.rdatatype import AAAA, SRV, A, RdataType
from dns.rrset import RRset

from gateway.config.syntax import split_authority
from gateway.http.resolving import system
from gateway.upstream.discovery import Answer, Discovery, LookupFailed, Record, addresses_in

WITHIN = 5.0
"""Seconds for all there is to ask."""

ONE_SERVER = 2.0
"""Seconds; then the next one is asked, or the same again."""

AT_ONCE = 16
"""Questions at the same time for the addresses of services that did not come along."""

HOSTS = Path("/etc/hosts")

PORT = 53

Addresses = tuple[tuple[str, ...], float]
"""And for how many seconds they hold."""

FOR_EVER = float("inf")
NOWHERE: Addresses = ((), FOR_EVER)


async def look_up(asked: Discovery, hosts: Path = HOSTS) -> Answer:
    """What the DNS says now. Raises LookupFailed."""
    try:
        async with asyncio.timeout(WITHIN):
            return await _look_up(asked, hosts)
    except dns.resolver.NXDOMAIN:
        raise LookupFailed("there is no such name") from None
    except dns.resolver.NoNameservers:
        raise LookupFailed("the DNS servers answer with errors") from None
    except (dns.exception.Timeout, TimeoutError):
        raise LookupFailed(f"no answer of a DNS server within {WITHIN:g} s") from None
    except (dns.exception.DNSException, OSError, ValueError) as error:
        raise LookupFailed(str(error) or type(error).__name__) from None


async def _look_up(asked: Discovery, hosts: Path) -> Answer:
    if asked.kind == "a" and not asked.server and (local := _local(asked.dns, hosts)):
        return Answer(_records(local, asked.port), asked.refresh)
    resolver = await _resolver(asked.server)
    name = dns.name.from_text(asked.dns, None)  # without a final dot it is relative, and the search list applies
    if asked.kind == "srv":
        return await _services(resolver, name)
    addresses, ttl = await _addresses(resolver, name)
    return Answer(_records(addresses, asked.port), ttl)


def _records(addresses: tuple[str, ...], port: int) -> tuple[Record, ...]:
    return tuple(Record(address, port) for address in addresses)


def _local(name: str, hosts: Path) -> tuple[str, ...]:
    """What the hosts file says, which the DNS does not know of."""
    try:
        return addresses_in(hosts.read_text(errors="replace"), name)
    except OSError:  # not every image has one
        return ()


async def _resolver(server: str) -> dns.asyncresolver.Resolver:
    if server:
        resolver = dns.asyncresolver.Resolver(configure=False)
        host, port = split_authority(server)
        resolver.port = port or PORT
        resolver.nameservers = [(await system(host, resolver.port))[0]]
    else:
        resolver = dns.asyncresolver.Resolver()
        resolver.use_search_by_default = True
    resolver.lifetime, resolver.timeout = WITHIN, ONE_SERVER
    return resolver


async def _ask(resolver: dns.asyncresolver.Resolver, name: dns.name.Name, kind: RdataType) -> dns.resolver.Answer:
    """The answer may be empty. Raises what dnspython raises."""
    return await resolver.resolve(name, kind, raise_on_no_answer=False)


async def _addresses(resolver: dns.asyncresolver.Resolver, name: dns.name.Name) -> Addresses:
    answer = await _ask(resolver, name, A)
    if not answer.rrset:
        answer = await _ask(resolver, name, AAAA)
    return _texts(answer.rrset), _ttl(answer)


def _ttl(answer: dns.resolver.Answer) -> float:
    """The shortest of the chain of names that led to the answer."""
    return float(answer.chaining_result.minimum_ttl)


def _texts(rrset: RRset | None) -> tuple[str, ...]:
    return tuple(record.to_text() for record in rrset or ())


async def _services(resolver: dns.asyncresolver.Resolver, name: dns.name.Name) -> Answer:
    answer = await _ask(resolver, name, SRV)
    services = [cast("dns.rdtypes.IN.SRV.SRV", service) for service in answer.rrset or ()]
    hosts = {service.target for service in services if service.target != dns.name.root}  # the root: no such service
    places = await _places(resolver, answer, sorted(hosts))
    records = [
        Record(address, service.port, service.weight // len(addresses), service.priority)
        for service in services
        for addresses in [places.get(service.target, NOWHERE)[0]]  # which share the weight
        for address in addresses
    ]
    return Answer(tuple(records), min([_ttl(answer), *(ttl for _, ttl in places.values())]))


async def _places(
    resolver: dns.asyncresolver.Resolver, answer: dns.resolver.Answer, hosts: list[dns.name.Name]
) -> dict[dns.name.Name, Addresses]:
    """Where services are: as the server sent along with them, or as it says when it is asked."""
    room = asyncio.Semaphore(AT_ONCE)

    async def ask(host: dns.name.Name) -> Addresses:
        async with room:
            try:
                return await _addresses(resolver, host)
            except dns.resolver.NXDOMAIN:  # this one is gone: the others count
                return NOWHERE

    places = {host: along for host in hosts if (along := _along(answer, host)) is not None}
    asked = [host for host in hosts if host not in places]
    # What fails in another way fails all of it: one lost answer must not take targets away.
    found = await asyncio.gather(*map(ask, asked), return_exceptions=True)
    for host, each in zip(asked, found, strict=True):
        if isinstance(each, BaseException):
            raise each
        places[host] = each
    return places


def _along(answer: dns.resolver.Answer, host: dns.name.Name) -> Addresses | None:
    for kind in (A, AAAA):
        rrset = answer.response.get_rrset(answer.response.additional, host, IN, kind)
        if rrset:
            return _texts(rrset), float(rrset.ttl)
    return None
