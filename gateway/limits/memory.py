"""Rate limits counted in this process: exact, bounded, and without a pause for cleaning up.

Each policy has a table of its own, so that a flood of keys under one policy (addresses, say) cannot push out the keys
of another. A table is cut into shards by the hash of the key, each small enough to be cleaned or to grow within a
fraction of a millisecond; one dict of a million keys would stop the process for 80 ms whenever it doubles.

New keys pay for cleaning. A shard that has doubled since it was last cleaned is written anew without the states that
are over, so a table never holds more than about twice the keys that still mean something. When it is full all the
same, those make room that will be over first, and of those that end together the ones with the lowest counts: whoever
has used up most is remembered longest.
"""

import math
import time
from collections.abc import Callable, Sequence

from gateway.exchange import Quota
from gateway.limits.meter import TICKS, Meter
from gateway.limits.store import Answer, Take

SHARD = 1024
"""Keys of a full shard, or less. To clean it takes 0.3 ms, to choose who makes room 0.8 ms."""

SMALL = 16
"""A shard with fewer keys is not worth cleaning."""

LEAVING = 8
"""When a shard has to make room, one key of so many goes: more than one, so that it has not to choose every time."""


class _Table:
    """The states of one policy: at most `capacity` of them (an empty shard takes its first key all the same)."""

    __slots__ = ("capacity", "clock", "counts", "held", "marks", "mask", "shards")

    def __init__(self, capacity: int, clock: Callable[[], float], counts: int) -> None:
        shards = 1 << (max(1, capacity // SHARD) - 1).bit_length()  # a power of two: a mask, not a division
        self.capacity = capacity
        self.clock = clock
        self.counts = counts
        self.held = 0  # keys in all
        self.mask = shards - 1
        self.shards: list[dict[bytes, int]] = [{} for _ in range(shards)]
        self.marks = [SMALL] * shards  # with how many keys a shard is cleaned

    def put(self, key: bytes, state: int, now: int) -> None:
        """The state of this key from now on."""
        number = hash(key) & self.mask
        shard = self.shards[number]
        if key not in shard:
            if len(shard) >= self.marks[number] or self.held >= self.capacity:
                shard = self._clean(number, now)
            self.held += 1
        shard[key] = state

    def _clean(self, number: int, now: int) -> dict[bytes, int]:
        shard = self.shards[number]
        over = now << self.counts
        kept = {key: state for key, state in shard.items() if state > over}
        if self.held - len(shard) + len(kept) >= self.capacity:
            for key in sorted(kept, key=kept.__getitem__)[: math.ceil(len(kept) / LEAVING)]:
                del kept[key]
        self.held += len(kept) - len(shard)
        self.shards[number] = kept
        self.marks[number] = max(SMALL, 2 * len(kept))
        return kept


class MemoryStore:
    """A RateStore for one process; `capacity` bounds the keys of each policy (about 160 bytes each).

    `clock` is for what passes evenly, `wall` (seconds since 1970) for what goes by the calendar.
    """

    def __init__(
        self,
        *,
        capacity: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._capacity = capacity
        self._clock = clock
        self._wall = wall
        self._tables: dict[str, _Table] = {}

    def __len__(self) -> int:
        return sum(table.held for table in self._tables.values())

    def take_one(self, key: bytes, meter: Meter, cost: int) -> Quota:
        """Take from a single key, without awaiting anything."""
        table = self._tables.get(meter.table)
        if table is None:
            table = self._new_table(meter)
        now = int(table.clock() * TICKS)
        shard = table.shards[hash(key) & table.mask]
        state = shard.get(key)
        if state is not None:
            shard[key], quota = meter.take(state, now, cost)
            return quota
        state, quota = meter.take(0, now, cost)
        if cost > 0 and quota.allowed:
            table.put(key, state, now)
        return quota

    def take_all(self, takes: Sequence[Take]) -> list[Quota]:
        """Take from all keys or from none, without awaiting anything."""
        steps: list[_Step] = []
        allowed = True
        for key, meter, cost in takes:
            table = self._tables.get(meter.table)
            if table is None:
                table = self._new_table(meter)
            now = int(table.clock() * TICKS)
            state = table.shards[hash(key) & table.mask].get(key)
            new, quota = meter.take(state or 0, now, cost)
            if not quota.allowed:
                allowed = False
            steps.append((table, now, state, new, quota))
        if not allowed:
            return _nothing(takes, steps)
        for (key, _, cost), (table, now, state, new, _) in zip(takes, steps, strict=True):
            if state is not None or cost > 0:
                table.put(key, new, now)
        return [step[4] for step in steps]

    async def take(self, takes: Sequence[Take]) -> Answer:
        """As RateStore.take."""
        if len(takes) == 1:
            key, meter, cost = takes[0]
            return [self.take_one(key, meter, cost)], "", False
        return self.take_all(takes), "", False

    async def close(self) -> None:
        """Nothing to let go of."""

    def _new_table(self, meter: Meter) -> _Table:
        clock = self._wall if meter.by_calendar else self._clock
        table = self._tables[meter.table] = _Table(self._capacity, clock, meter.counts)
        return table


_Step = tuple[_Table, int, int | None, int, Quota]
"""One of several takes: where its state is, the tick, the state (None: a new key), what it would be, the answer."""


def _nothing(takes: Sequence[Take], steps: Sequence[_Step]) -> list[Quota]:
    """One refuses: the others only say what there is."""
    quotas = []
    for (key, meter, _), (table, now, state, new, quota) in zip(takes, steps, strict=True):
        if quota.allowed:
            new, quota = meter.take(state or 0, now, 0)
        if state is not None:
            table.put(key, new, now)  # it may have been cut back
        quotas.append(quota)
    return quotas
