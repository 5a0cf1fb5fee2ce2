"""Whom a limit counts: turns the caller, the address, the route or everybody into the key of a store.

A key is a hash of policy, kind and value, each with its length before it, so that no value can imitate
another (`a` + `bc` against `ab` + `c`), and none is too long or holds a byte that means something.
"""

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Literal

from gateway.exchange import Call, Caller

By = Literal["consumer", "ip", "route", "global"]
KeyOf = Callable[[Call, Caller], bytes]

REMEMBERED = 4096
"""Values per policy whose key is remembered: 0.1 µs instead of 1, or 5 for an address."""


def key(*parts: str) -> bytes:
    """The key of these parts: 32 hexadecimal digits, of 128 bits, which nobody makes collide."""
    digest = blake2b(digest_size=16)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(raw), raw))
    return digest.hexdigest().encode()


def network(address: str) -> str:
    """Who an address stands for: itself, or for IPv6 its /64, which one subscriber has all to himself."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address  # "unix"
    if not isinstance(ip, IPv6Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ip_network((int(ip), 64), strict=False))


def key_of(policy: str, by: By) -> KeyOf:
    """The key under `policy` for a call.

    By consumer: one that the configuration knows is the same whichever provider vouched, while the subject of
    a token stays apart from a namesake of another provider; callers without a name count by address. Routes
    that use the same policy share what it counts, except by route.
    """

    @lru_cache(REMEMBERED)
    def of_ip(address: str) -> bytes:
        return key(policy, "ip", network(address))

    @lru_cache(REMEMBERED)
    def of_consumer(provider: str, consumer: str) -> bytes:
        return key(policy, "consumer", provider, consumer)

    @lru_cache(REMEMBERED)
    def of_route(route: str) -> bytes:
        return key(policy, "route", route)

    everybody = key(policy, "global")

    def by_consumer(call: Call, caller: Caller) -> bytes:
        consumer = caller.consumer
        if not consumer:
            return of_ip(call.client_ip)
        # Known consumers are labelled with their own name, which is never a provider's (config/auth.py).
        return of_consumer("" if caller.label == consumer else caller.provider, consumer)

    match by:
        case "consumer":
            return by_consumer
        case "ip":
            return lambda call, caller: of_ip(call.client_ip)
        case "route":
            return lambda call, caller: of_route(call.route)
        case "global":
            return lambda call, caller: everybody
