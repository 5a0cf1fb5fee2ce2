"""One clock for everything below: the call's deadline is set once, and waits and tries keep it.

A trusted caller may ask for less time in a header: it has a deadline of its own, and what is done after that is done
for nobody. What upstreams are told of it is `TimedForwarder`'s (gateway/http/forward.py).
"""

import re
from collections.abc import Awaitable, Callable

from gateway.errors import DeadlinePassed
from gateway.exchange import NEVER, Call, Reply
from gateway.pipe import Layer, Send

MILLISECONDS = re.compile(rb"(-?)([0-9]{1,9})")
"""Whole ones, eleven days at most. Less than nothing is what a caller says whose own time was up as it asked."""


def deadline(total: float, clock: Callable[[], float], heard: bytes | None = None) -> Layer:
    """Allow the call `total` seconds from here; never later than what was set already.

    `heard` is the header, lowercase, in which a trusted caller may ask for less. Raises DeadlinePassed where it is
    left no time.
    """

    # Neither is async itself: a coroutine that only awaits another costs 0.2 µs for nothing.
    def layer(send: Send) -> Send:
        def timed(call: Call) -> Awaitable[Reply]:
            ends = clock() + total
            if ends < call.deadline:
                call.deadline = ends
            return send(call)

        return timed

    def listening(send: Send) -> Send:
        name = heard or b""

        def asked(call: Call) -> Awaitable[Reply]:
            ends, hurried, request = clock() + total, False, call.request
            if request.peer.trusted:
                wanted = request.fields.index.get(name)
                if wanted is not None:
                    # From when it came: another road of the same call has no more time than the first.
                    own = request.received + seconds(wanted)
                    # A caller that asks for more than there is has not set the deadline: who misses it has failed.
                    if own < ends:
                        ends, hurried = own, True
            if ends < call.deadline:
                call.deadline = ends
                call.hurried = hurried
            return send(call)

        return asked

    return layer if heard is None else listening


def seconds(wanted: bytes) -> float:
    """What `wanted` says in milliseconds; NEVER when it is no such number. Raises DeadlinePassed when none is left."""
    number = MILLISECONDS.fullmatch(wanted)
    if number is None:
        return NEVER
    left = int(number[2])
    if number[1] or not left:
        raise DeadlinePassed
    return left / 1000
