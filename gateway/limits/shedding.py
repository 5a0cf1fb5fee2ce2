"""What a worker turns away when it has more to do than it can, unimportant requests first. Pure.

There are two signs. A loop that is late has too much to do: each tick on which it is raises the level by one, each on
which it is half as late or less lowers it, and at each level one more priority is turned away. And a request that has
waited for too long before anybody looked at it is turned away itself: its client has less and less use for a reply,
and every one that is spared shortens the wait of those behind it. What is critical is never turned away.
"""

from collections.abc import Callable, Collection

from gateway.errors import Shed
from gateway.exchange import Call, Caller, Hop

Admit = Callable[[Call, Caller], None]
"""Raises Shed."""

PRIORITIES = ("low", "normal", "high", "critical")
"""The least important first: a priority is turned away at the levels above its place in this."""

CRITICAL = PRIORITIES.index("critical")

RETRY_AFTER = 1.0
"""Seconds to say: in four ticks a level that was as high as it can be has come down."""

DETAILS = {
    "lag": "The gateway has more to do than it can.",
    "age": "The request has waited for too long inside the gateway.",
}


class Shedding:
    """The level of one worker, 0 to 3, and what it means for a route's calls."""

    __slots__ = ("_clock", "_last", "_loop_lag", "_queue_age", "level")

    def __init__(
        self, loop_lag: float, queue_age: float, last: Collection[str] = (), *, clock: Callable[[], float]
    ) -> None:
        """Seconds; callers of the tiers in `last` count as one priority higher."""
        self.level = 0
        self._loop_lag = loop_lag
        self._queue_age = queue_age
        self._last = frozenset(last)
        self._clock = clock

    def tick(self, lag: float) -> None:
        """The loop has been late by so much since the last tick."""
        if lag > self._loop_lag:
            self.level = min(self.level + 1, CRITICAL)
        elif lag < self._loop_lag / 2:
            self.level = max(self.level - 1, 0)

    def admit(self, priority: str) -> Admit:
        """The door's step for a route of this priority."""
        normally = PRIORITIES.index(priority)
        if normally == CRITICAL:
            return admit_all
        clock, last, queue_age = self._clock, self._last, self._queue_age

        def admit(call: Call, caller: Caller) -> None:
            now = clock()
            if not self.level and now - call.request.received <= queue_age:
                return
            rank = normally + 1 if caller.tier in last else normally
            if rank == CRITICAL:
                return
            if rank < self.level:
                reason = "lag"
            elif now - call.request.received - waited(call) > queue_age:
                reason = "age"
            else:
                return
            call.hops.append(Hop("shed", priority, reason, now, 0.0, waited=False))
            raise Shed("overloaded", 503, DETAILS[reason], retry_after=RETRY_AFTER)

        return admit


def waited(call: Call) -> float:
    """Seconds that the call has waited for others, such as the issuer of its token: this is no sign of load here."""
    return sum(hop.took for hop in call.hops if hop.waited)


def admit_all(call: Call, caller: Caller) -> None:
    """For routes from which nothing is turned away."""
