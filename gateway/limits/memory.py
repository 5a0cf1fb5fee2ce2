"""Rate limits counted in this process: exact, bounded, and without a pause for cleaning up.

Each policy has a table of its own, so that a flood of keys under one policy (addresses, say) cannot push
out the keys of another. A new key pays for cleaning: it inspects two others, drops them if they owe nothing
any more, and sends them to the back of the queue if they do. A table thus never holds more than about twice
the keys that still owe something. When it is full all the same, the key of the next few that is soonest
free of debt makes room: whoever has used up most is remembered longest.
"""

import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from itertools import islice

from gateway.exchange import Quota
from gateway.limits.gcra import TICKS, Rate, debt, take
from gateway.limits.store import Answer, Take, answers

SWEEP = 2
"""Keys inspected for each new one: more than one, or the sweep would never catch up."""

SAMPLE = 8
"""Keys compared when one has to go; with 8 the victim is nearly always among the least indebted fifth."""


class MemoryStore:
    """A RateStore for one process; `capacity` bounds the keys of each policy (about 250 bytes each)."""

    def __init__(self, *, capacity: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._tables: defaultdict[str, OrderedDict[bytes, int]] = defaultdict(OrderedDict)

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    def take_one(self, key: bytes, rate: Rate, cost: int) -> Quota:
        """Take from a single key, without awaiting anything."""
        now = int(self._clock() * TICKS)
        table = self._tables[rate.policy]
        tat = table.get(key)
        new, quota = take(tat or 0, now, rate, cost)
        if tat is None:
            self._make_room(table, now)
        table[key] = new
        return quota

    def take_all(self, takes: Sequence[Take]) -> list[Quota]:
        """Take from all keys or from none, without awaiting anything."""
        now = int(self._clock() * TICKS)
        tables = self._tables
        owed = [debt(tables[rate.policy].get(key, 0), now, rate) for key, rate, _ in takes]
        quotas = answers(takes, owed)
        for quota in quotas:
            if not quota.allowed:
                return quotas
        for (key, rate, cost), ticks in zip(takes, owed, strict=True):
            table = tables[rate.policy]
            if key not in table:
                self._make_room(table, now)
            table[key] = now + ticks + cost * rate.interval
        return quotas

    async def take(self, takes: Sequence[Take]) -> Answer:
        """As RateStore.take."""
        if len(takes) == 1:
            key, rate, cost = takes[0]
            return [self.take_one(key, rate, cost)], "", False
        return self.take_all(takes), "", False

    async def close(self) -> None:
        """Nothing to let go of."""

    def _make_room(self, table: OrderedDict[bytes, int], now: int) -> None:
        for key in list(islice(table, SWEEP)):
            if table[key] <= now:
                del table[key]
            else:
                table.move_to_end(key)
        if len(table) >= self._capacity:
            del table[min(islice(table, SAMPLE), key=table.__getitem__)]
