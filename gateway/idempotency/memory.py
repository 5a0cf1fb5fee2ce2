"""Idempotency keys of this process alone: bounded in number and in bytes.

What has expired goes first, then what was answered longest ago. A key in flight is never pushed out, for its request
would be done again; when all places are taken by such keys, a new one is refused.
"""

import heapq
import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.errors import Shed
from gateway.idempotency.records import Answer, Begun, Claim, State

PLACE = 500
"""Bytes that a key takes beside its reply, roughly."""

RETRY_AFTER = 1.0


class _Record:
    __slots__ = ("answer", "claim", "expires", "in_flight", "size")

    def __init__(self, claim: Claim, expires: float, answer: Answer | None, in_flight: bool) -> None:
        self.claim = claim
        self.expires = expires
        self.answer = answer
        self.in_flight = in_flight
        self.size = PLACE if answer is None else PLACE + answer.size


class MemoryRecords:
    """Implements Records; nothing in it awaits."""

    def __init__(
        self,
        *,
        capacity: int = 10_000,
        size: int = 64 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At most `capacity` keys and about `size` bytes."""
        self._capacity = capacity
        self._most = size
        self._clock = clock
        self._in_flight: dict[bytes, _Record] = {}
        self._answered: OrderedDict[bytes, _Record] = OrderedDict()  # the oldest answer first
        # Who may have expired, the soonest first. A record that has ended another way is still in here until then.
        self._ends: list[tuple[float, bytes]] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self._in_flight) + len(self._answered)

    def __contains__(self, key: bytes) -> bool:
        record = self._find(key)
        return record is not None and record.expires > self._clock()

    def owns(self, claim: Claim) -> bool:
        """Whether this claim took its key here."""
        record = self._in_flight.get(claim.key)
        return record is not None and record.claim.token == claim.token

    async def begin(self, claim: Claim, lease: float) -> Begun:
        """As Records.begin."""
        now = self._clock()
        self._expire(now)
        record = self._find(claim.key)
        if record is None:
            self._make_room(PLACE)
            if len(self) >= self._capacity:
                raise Shed("overloaded", 503, "Too many idempotency keys are in use.", retry_after=RETRY_AFTER)
            self._put(_Record(claim, now + lease, None, in_flight=True))
            return State.NEW
        if record.claim.fingerprint != claim.fingerprint:
            return State.MISMATCH
        if record.in_flight:
            return State.IN_FLIGHT
        return State.NOT_KEPT if record.answer is None else record.answer

    async def finish(self, claim: Claim, answer: Answer | None, keep: float) -> None:
        """As Records.finish."""
        now = self._clock()
        self._expire(now)
        record = self._find(claim.key)
        if record is not None:
            if record.claim.token != claim.token:
                return
            self._drop(record)
        kept = _Record(claim, now + keep, answer, in_flight=False)
        self._make_room(kept.size)
        if len(self) < self._capacity:
            self._put(kept)

    async def abandon(self, claim: Claim) -> None:
        """As Records.abandon."""
        if self.owns(claim):
            self._drop(self._in_flight[claim.key])

    async def close(self) -> None:
        """Nothing to let go of."""

    def _find(self, key: bytes) -> _Record | None:
        return self._in_flight.get(key) or self._answered.get(key)

    def _put(self, record: _Record) -> None:
        key = record.claim.key
        (self._in_flight if record.in_flight else self._answered)[key] = record
        self.size += record.size
        heapq.heappush(self._ends, (record.expires, key))

    def _drop(self, record: _Record) -> None:
        del (self._in_flight if record.in_flight else self._answered)[record.claim.key]
        self.size -= record.size

    def _expire(self, now: float) -> None:
        ends = self._ends
        while ends and ends[0][0] <= now:
            _, key = heapq.heappop(ends)
            record = self._find(key)
            if record is not None and record.expires <= now:
                self._drop(record)

    def _make_room(self, size: int) -> None:
        while self._answered and (len(self) >= self._capacity or self.size + size > self._most):
            self._drop(next(iter(self._answered.values())))
        if len(self._ends) > 2 * len(self) + self._capacity:  # mostly of records that were pushed out
            self._ends = [
                (each.expires, key) for kept in (self._in_flight, self._answered) for key, each in kept.items()
            ]
            heapq.heapify(self._ends)
