"""What a store of rate limits must do. Implemented in this process by `memory`, in Redis by `redis`."""

from collections.abc import Sequence
from typing import Any, Protocol

from gateway.exchange import Quota
from gateway.limits.meter import Meter

Take = tuple[bytes, Meter, int]
"""Key, meter, and cost in requests: 0 only asks, less than that gives back (which only stores do)."""


Answer = tuple[Sequence[Quota], str, bool]
"""A store's answer to one request: (quotas, how, waited).

Quotas are one per take that was asked, in order, or none when nobody counted. How is "" as usual, "local" or "open"
when the shared store is away. Waited tells whether the network was asked. (A plain tuple: a named one costs 0.3 µs.)
"""


class StoreError(Exception):
    """A shared store gave no answer in time, or is left alone for now. `waited` tells whether it was asked."""

    def __init__(self, reason: str, *, waited: bool) -> None:
        super().__init__(reason)
        self.waited = waited


class RateStore(Protocol):
    """Keeps what is known of each key."""

    async def take(self, takes: Sequence[Take]) -> Answer:
        """Take from all keys, or from none when one refuses; atomic also among concurrent takes.

        Keys must differ. Raises Shed when the store is away and the policy for that is to close.
        """

    async def close(self) -> None:
        """Let go of connections and timers."""


def answers(takes: Sequence[Take], held: Sequence[Any], wall: float) -> list[Quota]:
    """The quotas of several takes, by what the script says was held before: where one refuses, the others keep theirs.

    `wall` as it was asked.
    """
    quotas = [meter.answer(known, wall, cost) for (_, meter, cost), known in zip(takes, held, strict=True)]
    for quota in quotas:
        if not quota.allowed:
            break
    else:
        return quotas
    return [
        meter.answer(known, wall, 0) if quota.allowed else quota
        for (_, meter, _), known, quota in zip(takes, held, quotas, strict=True)
    ]
