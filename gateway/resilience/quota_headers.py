"""What an upstream's reply says about its own limit: how long to leave it alone. Pure.

In this order: Retry-After with 429 (RFC 6585 section 4); RateLimit (draft-ietf-httpapi-ratelimit-headers-11, a
list of `"name";r=0;t=30`; up to version 7 a dictionary, `limit=100, remaining=0, reset=30`); the fields of the
first versions, RateLimit-Remaining and RateLimit-Reset; and X-RateLimit-Remaining and -Reset, which nobody has
ever specified: their reset is in seconds from now, or a date in Unix seconds or milliseconds. Of several limits
the one that is used up counts. All this is another's word: what is malformed or too long is not heard.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from gateway.exchange import Headers, Reply
from gateway.resilience.retry_after import retry_after

LONGEST = 3600.0
"""Seconds of a pause at most. A daily limit is then asked once an hour whether it is still used up, and a wrong
clock or a slip of the upstream's costs no more than that."""

READABLE = 1024
"""A longer field is not read; a dozen limits with long names take less."""

DATES = 1e9
"""A reset from here on is a Unix time: as seconds from now it would be in over thirty years."""

MILLISECONDS = 1e11
"""And from here on one in milliseconds: in seconds it would be in the year 5138."""

NUMBER = re.compile(rb"-?[0-9]{1,15}(?:\.[0-9]{1,9})?")
STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?')
REMAINING = re.compile(rb"(?:^|[;, \t])(?:r|remaining)=(-?[0-9]{1,15})(?![0-9.])")
RESET = re.compile(rb"(?:^|[;, \t])(?:t|reset)=([0-9]{1,15})(?![0-9.])")

NAMES = frozenset(
    {b"ratelimit", b"ratelimit-remaining", b"ratelimit-reset", b"x-ratelimit-remaining", b"x-ratelimit-reset"}
)

REMAINS = frozenset({b"ratelimit", b"ratelimit-remaining", b"x-ratelimit-remaining"})
LITTLE = re.compile(rb"(?:^|=)[ \t]*[-0]")
"""Some number begins with a zero or a minus: without one, nothing can be used up."""

Words = dict[bytes, list[bytes]]
"""The values of the fields in NAMES that a reply has."""


class Limit(NamedTuple):
    """What is told of one limit."""

    remaining: float
    reset: float | None
    """As written."""


def tells_of_quota(headers: Headers) -> bool:
    """Whether to ask `pause_asked` at all, outside of a pause: the quick look at each reply of an upstream."""
    for name, value in headers:  # noqa: SIM110 - `any` with a generator takes twice the time
        if name in REMAINS and LITTLE.search(value[:READABLE]):
            return True
    return False


def pause_asked(reply: Reply, wall: Callable[[], float], unavailable: bool = False) -> float | None:
    """Seconds for which `reply` asks to be left alone; 0 when some quota is left, None when it does not say.

    `unavailable`: Retry-After with 503 counts as well. `wall` tells the Unix time.
    """
    if reply.status == 429 or (unavailable and reply.status == 503):
        asked = retry_after(reply, wall())
        if asked:
            return min(asked, LONGEST)
    words: Words | None = None
    for name, value in reply.headers:
        if name in NAMES and len(value) <= READABLE:
            if words is None:
                words = {}
            words.setdefault(name, []).append(value)
    return None if words is None else _pause(_limits(words), wall())


def _pause(limits: Iterable[Limit], wall: float) -> float | None:
    pause: float | None = None
    for remaining, reset in limits:
        if remaining > 0:
            pause = pause or 0.0
        elif reset is not None:
            pause = max(pause or 0.0, _seconds(reset, wall))
        # Else it is used up, but until when is not said: nothing can be made of that.
    return pause


def _seconds(reset: float, wall: float) -> float:
    if reset >= MILLISECONDS:
        reset = reset / 1000 - wall
    elif reset >= DATES:
        reset -= wall
    return min(max(reset, 0.0), LONGEST)


def _limits(words: Words) -> Iterator[Limit]:
    """Of the family that comes first: upstreams that speak several say the same in all."""
    for value in words.get(b"ratelimit", ()):
        yield from _structured(value)
    if b"ratelimit" in words:
        return
    for family in (b"ratelimit-", b"x-ratelimit-"):
        remaining = words.get(family + b"remaining")
        if remaining is not None:
            yield from _separate(remaining, words.get(family + b"reset", []))
            return


def _structured(value: bytes) -> Iterator[Limit]:
    bare = STRING.sub(b"", value)  # names may hold anything, separators too
    whole = b"remaining=" in bare  # a dictionary: its commas are between the members of one limit
    for item in [bare] if whole else bare.split(b","):
        remaining, reset = REMAINING.search(item), RESET.search(item)
        if remaining is not None:
            yield Limit(float(remaining[1]), None if reset is None else float(reset[1]))


def _separate(remaining: list[bytes], resets: list[bytes]) -> Iterator[Limit]:
    for number, value in enumerate(remaining):
        reset = _number(resets[number]) if number < len(resets) else None
        if (left := _number(value)) is not None:
            yield Limit(left, reset)


def _number(value: bytes) -> float | None:
    text = value.strip(b" \t")
    return float(text) if NUMBER.fullmatch(text) else None
