"""Whether a client's address may use a route. Pure.

What is denied stays denied; an empty list of what is allowed allows the rest. An address that is not one (`unix`: the
client came through a unix socket, and no trusted proxy has said for whom) lies in no range: it is let in only where
nothing is listed as allowed.
"""

import ipaddress
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from gateway.config.addresses import unmapped
from gateway.errors import Refused
from gateway.exchange import Call
from gateway.http.trust import Network

REMEMBERED = 4096
"""Addresses whose answer is kept; when there are more they are all dropped: a flood costs no memory."""

LONGEST = 64
"""Characters of an address that is kept: IPv6 with the name of an interface behind it takes no more."""


def addresses(allow: Sequence[Network], deny: Sequence[Network]) -> Callable[[Call], None]:
    """A step of a route's door: raises Refused for calls from elsewhere."""
    allowed, denied = Ranges(allow), Ranges(deny)
    known: dict[str, bool] = {}

    def judge(address: str) -> bool:
        number = _number(address)
        welcome = not denied.hold(*number) and (not allow or allowed.hold(*number))
        if len(address) <= LONGEST:
            if len(known) >= REMEMBERED:
                known.clear()
            known[address] = welcome
        return welcome

    def check(call: Call) -> None:
        address = call.client_ip
        welcome = known.get(address)
        if welcome is None:
            welcome = judge(address)
        if not welcome:
            # Which address it was is not said: behind proxies that are not trusted it is one of ours.
            raise Refused("forbidden", 403, "requests from this address are not taken here")

    return check


class Ranges:
    """Networks as sorted numbers: what overlaps or touches is one range, so one search finds the only candidate."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, networks: Iterable[Network]) -> None:
        plain = [unmapped(network) for network in networks]
        v4 = ipaddress.collapse_addresses([each for each in plain if isinstance(each, ipaddress.IPv4Network)])
        v6 = ipaddress.collapse_addresses([each for each in plain if isinstance(each, ipaddress.IPv6Network)])
        # Sorted and apart from one another, as (first, last).
        merged = {4: [(int(net[0]), int(net[-1])) for net in v4], 6: [(int(net[0]), int(net[-1])) for net in v6]}
        self._starts = {version: [first for first, _ in found] for version, found in merged.items()}
        self._ends = {version: [last for _, last in found] for version, found in merged.items()}

    def hold(self, version: int, number: int) -> bool:
        """Whether the address with this number is in one of them; version 0 is no address."""
        starts = self._starts.get(version)
        if not starts:
            return False
        place = bisect_right(starts, number) - 1
        return place >= 0 and number <= self._ends[version][place]


def _number(address: str) -> tuple[int, int]:
    """Version and number; of a mapped address those of the IPv4 address that it is."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return 0, 0
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.version, int(ip)
