"""Which of several upstreams takes a request: by weight, and for the same client always the same one. Pure.

A client's place is found by weighted rendezvous hashing (the logarithmic method of Schindelhauer and Schomaker,
2005): for each upstream a hash of its name and the client's key is turned into a waiting time, drawn from an
exponential distribution whose rate is the weight, and the first to ring has the client. So its chances are its
share of the weights; and when weights change, a client moves only from one upstream to another whose weight has
grown in relation to the first one's. Every worker and instance finds the same place, and nobody keeps a table.
"""

from bisect import bisect
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from math import log
from typing import NamedTuple

from gateway.exchange import Call, Hop, Reply
from gateway.pipe import Send

REMEMBERED = 4096
"""Clients whose place is remembered: 0.1 µs instead of 0.7 for each choice."""

LONGEST = 256
"""Bytes of a key that is remembered, so that REMEMBERED bounds the memory; longer ones are placed each time."""


class Choice(NamedTuple):
    """Where a request may go."""

    name: str
    send: Send


def split(
    choices: Sequence[tuple[str, int, Send]],
    key_of: Callable[[Call], bytes] | None,
    dice: Callable[[], float],
    clock: Callable[[], float],
) -> Send:
    """Send each call to one of `choices` (name, weight, road), and tell which; weight 0 gets none.

    Calls with the same key go to the same one; those without (an empty key, or no `key_of`) fall as the dice do.
    Raises ValueError if nobody is left who could take a call.
    """
    if any(weight < 0 for _, weight, _ in choices):
        raise ValueError("a weight cannot be less than 0")
    taken = [(Choice(name, send), weight) for name, weight, send in choices if weight]
    if not taken:
        raise ValueError("a split needs a weight above 0")
    fallen = _by_dice(taken, dice)

    # Neither is async itself: a coroutine that only awaits another costs 0.2 µs for nothing.
    def by_dice(call: Call) -> Awaitable[Reply]:
        name, send = fallen()
        call.hops.append(Hop("split", name, "chosen", clock(), 0.0, False))
        return send(call)

    if key_of is None:
        return by_dice
    placed = _by_key(taken)
    remembered = lru_cache(REMEMBERED)(placed)

    def by_key(call: Call) -> Awaitable[Reply]:
        key = key_of(call)
        if not key:
            return by_dice(call)
        name, send = remembered(key) if len(key) <= LONGEST else placed(key)
        call.hops.append(Hop("split", name, "chosen", clock(), 0.0, False))
        return send(call)

    return by_key


def _by_dice(taken: Sequence[tuple[Choice, int]], dice: Callable[[], float]) -> Callable[[], Choice]:
    """Each has as much of a line as it weighs; the dice fall somewhere on it."""
    choices = [choice for choice, _ in taken]
    *ends, total = accumulate(weight for _, weight in taken)
    return lambda: choices[bisect(ends, dice() * total)]


def _by_key(taken: Sequence[tuple[Choice, int]]) -> Callable[[bytes], Choice]:
    """The place of a key."""
    lots = [(choice, weight, _begun(choice.name.encode())) for choice, weight in taken]

    def placed(key: bytes) -> Choice:
        soonest, first = float("inf"), lots[0][0]
        for choice, weight, begun in lots:
            digest = begun.copy()
            digest.update(key)
            # In the middle of its 2**-64 of the line from 0 to 1: never 0, which has no logarithm.
            rings = -log((int.from_bytes(digest.digest(), "big") + 0.5) / 2**64) / weight
            if rings < soonest:
                soonest, first = rings, choice
        return first

    return placed


def _begun(name: bytes) -> blake2b:
    """A hash that has read the name: a copy goes on with the key, in two thirds of the time.

    The length stands before the name, so that no name and key make the same bytes as another pair.
    """
    return blake2b(b"%d:%b" % (len(name), name), digest_size=8)
