"""What a store of rate limits must do. Implemented in this process by `memory`, in Redis by `redis`."""

from collections.abc import Sequence
from typing import Protocol

from gateway.exchange import Quota
from gateway.limits.gcra import Rate, answer

Take = tuple[bytes, Rate, int]
"""Key, rate, and cost in requests."""


Answer = tuple[Sequence[Quota], str, bool]
"""A store's answer to one request: (quotas, how, waited).

Quotas are one per take, in order, or none when nobody counted. How is "" as usual, "local" or "open" when the
shared store is away. Waited tells whether the network was asked. (A plain tuple: a named one costs 0.3 µs.)
"""


class RateStore(Protocol):
    """Keeps what each key owes."""

    async def take(self, takes: Sequence[Take]) -> Answer:
        """Take from all keys, or from none when one refuses; atomic also among concurrent takes.

        Keys must differ. Raises Shed when the store is away and the policy for that is to close.
        """

    async def close(self) -> None:
        """Let go of connections and timers."""


def answers(takes: Sequence[Take], owed: Sequence[int]) -> list[Quota]:
    """The quotas of several takes, given what each key owed: where one refuses, the others keep theirs."""
    quotas = [answer(rate, ticks, cost) for (_, rate, cost), ticks in zip(takes, owed, strict=True)]
    for quota in quotas:
        if not quota.allowed:
            break
    else:
        return quotas
    return [
        answer(rate, ticks, 0) if quota.allowed else quota
        for (_, rate, _), ticks, quota in zip(takes, owed, quotas, strict=True)
    ]
