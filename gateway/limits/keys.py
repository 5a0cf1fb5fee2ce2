"""Whom a limit counts: turns the caller, the address, a part of the request or everybody into the key of a store.

A key is a hash of policy, kind and value, each with its length before it, so that no value can imitate another
(`a` + `bc` against `ab` + `c`), and none is too long or holds a byte that means something. Nobody is unlimited:
whoever does not bring what is counted by counts by address.
"""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address, ip_network

from gateway.auth.api_keys import values
from gateway.auth.claims import find
from gateway.auth.places import cookies
from gateway.exchange import Call, Caller, Fields, header_values

By = str
"""consumer, ip, route, global, header:NAME, cookie:NAME, query:NAME or claim:PATH."""

KeyOf = Callable[[Call, Caller], bytes]
Text = str | bytes
Part = Callable[[Call, Caller], tuple[Text, ...]]
"""What one kind adds to a key: its name, and the value; another name where there is no value."""

REMEMBERED = 4096
"""Values per policy whose key is remembered: 0.1 µs instead of 1, or 5 for an address."""

LONGEST = 256
"""Bytes of a value whose key is remembered, so that REMEMBERED bounds the memory; longer ones are hashed each time."""


def key(*parts: Text) -> bytes:
    """The key of these parts: 32 hexadecimal digits, of 128 bits, which nobody makes collide."""
    digest = blake2b(digest_size=16)
    for part in parts:
        raw = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(raw), raw))
    return digest.hexdigest().encode()


@lru_cache(REMEMBERED)
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


def key_of(policy: str, by: By | Sequence[By]) -> KeyOf:
    """The key under `policy` for a call; of several kinds, each combination has one of its own.

    By consumer: one that the configuration knows is the same whichever provider vouched, while the subject of
    a token stays apart from a namesake of another provider; callers without a name count by address. By route:
    its name, however the path was written. Routes that use the same policy share what it counts, except by route.
    """
    kinds = (by,) if isinstance(by, str) else tuple(by)

    @lru_cache(REMEMBERED)
    def remembered(*parts: Text) -> bytes:
        return key(policy, *parts)

    match kinds:
        case ("consumer",):
            return _by_consumer(policy)
        case ("ip",):
            of_ip = _of_ip(policy)
            return lambda call, caller: of_ip(call.client_ip)
        case ("global",):
            everybody = key(policy, "global")
            return lambda call, caller: everybody
        case (kind,):
            part = part_of(kind)

            def by_one(call: Call, caller: Caller) -> bytes:
                found = part(call, caller)
                return remembered(*found) if len(found[1]) <= LONGEST else key(policy, *found)

            return by_one
    parts = [part_of(kind) for kind in kinds]

    def by_all(call: Call, caller: Caller) -> bytes:
        found = [text for part in parts for text in part(call, caller)]
        return remembered(*found) if sum(map(len, found)) <= LONGEST else key(policy, *found)

    return by_all


def _of_ip(policy: str) -> Callable[[str], bytes]:
    @lru_cache(REMEMBERED)
    def of_ip(address: str) -> bytes:
        return key(policy, "ip", network(address))

    return of_ip


def _by_consumer(policy: str) -> KeyOf:
    """The usual limit: no tuple is made on the way to its key."""
    of_ip = _of_ip(policy)

    @lru_cache(REMEMBERED)
    def of_consumer(provider: str, consumer: str) -> bytes:
        return key(policy, "consumer", provider, consumer)

    def by_consumer(call: Call, caller: Caller) -> bytes:
        consumer = caller.consumer
        if not consumer:
            return of_ip(call.client_ip)
        # Known consumers are labelled with their own name, which is never a provider's (config/auth.py).
        return of_consumer("" if caller.label == consumer else caller.provider, consumer)

    return by_consumer


def part_of(by: By) -> Part:
    """What this kind says of a call."""
    read: Callable[[Call, Caller], Text]
    match by.partition(":"):
        case ("consumer", *_):
            return _consumer
        case ("ip", *_):
            return lambda call, caller: ("ip", network(call.client_ip))
        case ("route", *_):
            return lambda call, caller: ("route", call.route)
        case ("header", _, name):
            read = _header(name.lower().encode())
        case ("cookie", _, name):
            read = _cookie(name.encode())
        case ("query", _, name):
            read = _query(name.encode())
        case ("claim", _, name):
            read = _claim(name)
        case _:
            raise ValueError(f"nothing is counted by {by}")
    kind = by.lower() if by.startswith("header:") else by

    def value(call: Call, caller: Caller) -> tuple[Text, ...]:
        found = read(call, caller)
        return (kind, found) if found else ("nobody", network(call.client_ip))

    return value


def _consumer(call: Call, caller: Caller) -> tuple[Text, ...]:
    consumer = caller.consumer
    if not consumer:
        return "ip", network(call.client_ip)
    return "consumer", "" if caller.label == consumer else caller.provider, consumer


def _header(name: bytes) -> Callable[[Call, Caller], bytes]:
    def read(call: Call, caller: Caller) -> bytes:
        fields = call.request.fields
        if fields.repeated:  # all of them: with two, one could count here and the other at the upstream
            return b", ".join(header_values(fields.headers, name))
        return fields.index.get(name, b"")

    return read


def _cookie(name: bytes) -> Callable[[Call, Caller], bytes]:
    place = (b"cookie", name)

    def parse(fields: Fields) -> bytes:
        lines = header_values(fields.headers, b"cookie") if b"cookie" in fields.index else []
        return b"; ".join(value for line in lines for value in cookies(line, name))

    def read(call: Call, caller: Caller) -> bytes:
        fields = call.request.fields
        found = fields.derived.get(place)  # of a head that was seen before on this connection
        if found is None:
            found = fields.derived[place] = parse(fields)
        return found

    return read


def _query(name: bytes) -> Callable[[Call, Caller], bytes]:
    return lambda call, caller: b"&".join(values(call.query, name)) if call.query else b""


def _claim(path: str) -> Callable[[Call, Caller], str]:
    def read(call: Call, caller: Caller) -> str:
        found = find(caller.claims, path)
        if found is None or isinstance(found, str):
            return found or ""
        return json.dumps(found, sort_keys=True)  # a number and its digits are one value

    return read
