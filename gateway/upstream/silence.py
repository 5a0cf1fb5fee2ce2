"""Targets that do not answer at all, found before their first try times out.

A frozen process keeps accepting connections, so nothing fails until the time for a try is over; until then round robin
would send it its share. So tries begun since the last answer are counted, and `Member.silent` is what balancing asks.
An answer is the head of a reply, whatever it says, or a failure within PATIENCE: a refused or broken connection is a
matter of milliseconds, and circuits see to those. Whatever ends later, or is cancelled later, was no answer.
"""

from collections.abc import Awaitable, Callable

from gateway.errors import UpstreamFailed
from gateway.exchange import Call, Reply
from gateway.pipe import Send
from gateway.upstream.members import PATIENCE, Member

Try = Callable[[Call, Member], Awaitable[Reply]]
"""One try at the target of this member."""


def listened(send: Send, clock: Callable[[], float]) -> Try:
    """Write down at the member that a try has begun, and when it is answered."""

    async def listened_try(call: Call, member: Member) -> Reply:
        started = member.last = clock()
        # A target need not answer before it has all of the body, which comes at the client's pace: not counted.
        if type(call.body) is bytes:
            if not member.unanswered:
                member.first = started
            member.unanswered += 1
        try:
            reply = await send(call)
        except UpstreamFailed:
            if clock() - started <= PATIENCE:
                member.unanswered = 0
            raise
        except BaseException:  # the client left, we refused, the call's time is over: if soon, it says nothing
            if member.unanswered and member.first <= started and clock() - started <= PATIENCE:
                member.unanswered -= 1
            raise
        member.unanswered = 0
        return reply

    return listened_try
