"""Balancing by key: the same key goes to the same target, while that one is eligible and not overloaded. Pure.

Weighted rendezvous hashing (Thaler and Ravishankar 1998; the weights as in Schindelhauer and Schomaker 2005): every
member draws a number from the key, the lowest wins. So each key has an order of all members, and when a target comes
or goes only the keys that it wins move. Loads are bounded (Mirrokni, Thorup and Zadimoghaddam 2016): a member takes
no more than 1.25 times the mean of its share, then the next in the key's order is asked. The same in all processes.
"""

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from math import ceil, log
from operator import attrgetter

from gateway.exchange import Call
from gateway.upstream.members import Member, Members

BOUND = 1.25
"""Times the mean: less moves many keys, more lets one target take much. The paper's and HAProxy's usual choice."""

REMEMBERED = 1024
"""Keys whose order is remembered: 0.1 µs instead of 2."""

LONGEST = 64
"""Bytes of a key that is remembered as it is; longer ones are hashed first, so that memory is bounded."""

WORD = (1 << 64) - 1
WEIGHT, SHARE = attrgetter("weight"), attrgetter("share")


class ConsistentHash:
    """A Choose by the key that `key_of` finds for a call."""

    def __init__(self, members: Members, key_of: Callable[[Call], bytes]) -> None:
        self._members = members
        self._key_of = key_of
        self._version = 0  # of the members that are remembered
        self._seeds: dict[str, int] = {}
        self._remembered = lru_cache(REMEMBERED)(lambda key: self._order(key, WEIGHT))

    def __call__(self, fit: list[Member], call: Call) -> Member:
        members = self._members
        if members.version != self._version:
            self._version = members.version
            self._seeds = {name: number(name.encode()) for name in (member.target.name for member in members.all)}
            self._remembered.cache_clear()
        key = self._key_of(call)
        if len(key) > LONGEST:
            key = blake2b(key, digest_size=16).digest()
        # While a target warms up, more and more of its keys come back to it.
        order = self._order(key, SHARE) if members.warming else self._remembered(key)
        for member in order:
            if member in fit:
                return member if not member.target.busy else within_bound(order, fit)
        raise AssertionError("eligible members are members")

    def _order(self, key: bytes, part: Callable[[Member], float]) -> list[Member]:
        word, seeds = number(key), self._seeds
        return sorted(self._members.all, key=lambda member: -draw(word ^ seeds[member.target.name]) / part(member))


def within_bound(order: list[Member], fit: list[Member]) -> Member:
    """The first in order that would have no more than BOUND times the mean, were this request there."""
    requests, shares = 1, 0.0
    for member in fit:
        requests += member.target.busy
        shares += member.share
    each = BOUND * requests / shares
    able = [member for member in order if member in fit]
    for member in able:
        if member.target.busy < ceil(each * member.share):
            return member
    raise AssertionError("not all can be above the mean")


def number(text: bytes) -> int:
    """64 bits of a hash that is the same everywhere."""
    return int.from_bytes(blake2b(text, digest_size=8).digest())


def draw(word: int) -> float:
    """The logarithm of an even number between 0 and 1 that `word` leads to (splitmix64's finaliser)."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & WORD
    return log(((word ^ word >> 31) + 1) / (WORD + 2))
