"""`allow_ip` and `deny_ip` of a route: from which addresses it can be used."""

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import BeforeValidator

from gateway.config.fields import Fault, Network, OrOne, one_or_more
from gateway.config.syntax import Network as AnyNetwork

MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
"""IPv4 addresses as sockets for both families show them (RFC 4291 section 2.5.5.2)."""


def unmapped(network: AnyNetwork) -> AnyNetwork:
    """A range of mapped addresses is the range of IPv4 addresses that it stands for."""
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(MAPPED):
        first = int(network.network_address) & 0xFFFF_FFFF
        return ipaddress.IPv4Network((first, network.prefixlen - MAPPED.prefixlen))
    return network


def _inside(network: AnyNetwork, other: AnyNetwork) -> bool:
    if isinstance(network, ipaddress.IPv4Network) and isinstance(other, ipaddress.IPv4Network):
        return network.subnet_of(other)
    if isinstance(network, ipaddress.IPv6Network) and isinstance(other, ipaddress.IPv6Network):
        return network.subnet_of(other)
    return False


Networks = Annotated[tuple[Network, ...], BeforeValidator(one_or_more), OrOne()]
"""Ranges in CIDR notation, or single addresses."""


def shut_out(allow: Sequence[AnyNetwork], deny: Sequence[AnyNetwork]) -> Iterator[Fault]:
    """What is allowed in vain, because all of it is denied."""
    denied = [(network, unmapped(network)) for network in deny]
    for index, network in enumerate(allow):
        for written, other in denied:
            if _inside(unmapped(network), other):
                yield ("allow_ip", index), f"has no effect: deny_ip has {written}, and what it denies stays denied"
                break
