"""A rehearsal of an upstream's failure: some requests are answered with an error, or come late, on purpose.

It stands where the upstream would fail, so fallbacks and metrics treat it like the real thing. Every reply to a
call that it struck says so.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.errors import DeadlinePassed, GatewayError, reply_to
from gateway.exchange import NEVER, Call, Hop, Reply
from gateway.pipe import Layer, Send


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens, to how many, and until when."""

    share: float
    """Of the requests that it may strike, from 0 to 1."""
    status: int = 0
    """The error that is the answer; 0 lets the request go on, after the delay."""
    delay: float = 0.0
    """Seconds that pass before."""
    header: bytes = b""
    """Lowercase name: only requests that carry this field are struck (testers); b"" is all."""
    until: float = NEVER
    """Wall-clock second from which on nothing is struck any more, whoever forgets to take the fault away."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError("the share of a fault is from 0 to 1")
        if self.status and not 400 <= self.status <= 599:
            raise ValueError("the status of a fault is an error: 400 to 599")
        if not 0.0 <= self.delay < NEVER:
            raise ValueError("the delay of a fault is a number of seconds")
        if not self.status and not self.delay:
            raise ValueError("a fault needs a status or a delay")


def fault(
    planned: Fault,
    *,
    clock: Callable[[], float],
    wall: Callable[[], float] = time.time,
    dice: Callable[[], float] = random.random,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Layer:
    """Strike calls as `planned`. A delay ends with the call's deadline: DeadlinePassed."""
    share, status, delay, until = planned.share, planned.status, planned.delay, planned.until
    name = planned.header
    mark = b"x-gateway-fault: %b\r\n" % (b"abort" if status else b"delay")

    async def wait(call: Call) -> None:
        started = clock()
        left = call.deadline - started
        try:
            await sleep(max(0.0, min(delay, left)))
        finally:  # also when the client has left
            call.hops.append(Hop("fault", call.route, "delay", started, clock() - started))
        if delay >= left:
            raise DeadlinePassed

    def layer(send: Send) -> Send:
        async def struck(call: Call) -> Reply:
            call.added += mark
            if delay:
                await wait(call)
            if not status:
                return await send(call)
            call.reason = "fault"
            call.hops.append(Hop("fault", call.route, "abort", clock(), 0.0, waited=False))
            return reply_to(GatewayError("fault", status), call.id)

        # Not async itself: a coroutine that only awaits another costs 0.2 µs for nothing.
        def rehearsed(call: Call) -> Awaitable[Reply]:
            if dice() >= share or (name and name not in call.request.fields.index) or wall() >= until:
                return send(call)
            return struck(call)

        return rehearsed

    return layer
