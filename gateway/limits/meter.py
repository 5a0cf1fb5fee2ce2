"""What a rate limit is to the stores: a pure rule that knows what one key's state and the time allow.

There are three of them: `gcra.Rate` lets requests pass evenly, `sliding_window.SlidingWindow` counts in a window that
moves along, `calendar_window.CalendarWindow` per hour, day, week or month. Each exists twice, as `take` here and in
`take.lua` for Redis; tests hold them together.

All three keep what they know of a key in one int, which is what makes a million keys affordable. Its upper bits say
until when it means something, as a tick of 100 ns; its lower `counts` bits hold counts, if there are any. So a store
that knows nothing of meters can still tell which states are over, and which of the others will be first.
"""

from typing import Any, Protocol

from gateway.exchange import Quota

TICKS = 10_000_000
"""Ticks per second."""

COUNT = 30
"""Bits of a count: more than any limit that can be configured (nine digits)."""

COUNTED = (1 << COUNT) - 1
"""Takes a count out of a state, and is the largest limit of meters that count."""


class Meter(Protocol):
    """One policy's rule; of several tiers of a policy each has its own."""

    @property
    def policy(self) -> str:
        """The limit's name, for headers, metrics and the state's place."""

    @property
    def limit(self) -> int:
        """Requests that are allowed in a window."""

    @property
    def window(self) -> float:
        """Seconds; what a quota says is exact, also where months differ."""

    @property
    def table(self) -> str:
        """States of the same table understand each other: those of one policy and one kind of meter."""

    @property
    def counts(self) -> int:
        """How many lower bits of a state are not its time."""

    @property
    def by_calendar(self) -> bool:
        """Its time is the wall clock's, since 1970; else it is of a clock that nobody sets."""

    def take(self, state: int, now: int, cost: int) -> tuple[int, Quota]:
        """Take `cost` from a key with this state (0: a new one), at this tick: its new state, and the answer.

        0 only asks. A negative cost gives back, never more than is owed. What is refused takes nothing; yet the state
        may change, if it came from another rate or a clock that has been set back, so that nobody waits longer than
        the answer says.
        """

    def asks(self, key: bytes, wall: float) -> tuple[bytes, tuple[bytes, bytes, bytes]]:
        """The key under which Redis keeps the state, and what comes before the cost in the script's arguments."""

    def answer(self, held: Any, wall: float, cost: int) -> Quota:
        """What taking `cost` gave, by what the script says was held before; `wall` as it was asked."""
