"""One clock for everything below: the call's deadline is set once, and waits and tries keep it."""

from collections.abc import Awaitable, Callable

from gateway.exchange import Call, Reply
from gateway.pipe import Layer, Send


def deadline(total: float, clock: Callable[[], float]) -> Layer:
    """Allow the call `total` seconds from here; never later than what was set already."""

    def layer(send: Send) -> Send:
        # Not async itself: a coroutine that only awaits another costs 0.2 µs for nothing.
        def timed(call: Call) -> Awaitable[Reply]:
            ends = clock() + total
            if ends < call.deadline:
                call.deadline = ends
            return send(call)

        return timed

    return layer
