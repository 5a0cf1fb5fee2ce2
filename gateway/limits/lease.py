"""Lease mode: permits of a hot key are taken from the store several at a time, and spent here without asking.

The store counts a lease from the moment it is given, so all workers together never pass more than the limit. What
it counts it also works off, one permit each interval, and a permit that is worked off there must not be spent any
more: it would be one too many. So an unspent lease melts away until its last permit goes when the store's debt of
that moment is gone: after as many intervals as it has permits where the key was idle. It is not given back.

The price: of what the store counts at a refusal, each worker may hold one lease unspent, so a refusal may come that
much early. (No lease is smaller than what its caller costs.) `remaining` is what the store said when it was last
asked and what is left of the lease; what others have taken since then is not known here. A store in this process
gains nothing by leases.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from gateway.exchange import Quota
from gateway.limits.gcra import Rate
from gateway.limits.meter import TICKS
from gateway.limits.store import Answer, RateStore, Take

TRIPS = 2
"""Round trips at most for those who wait together: one for leases, one for what was left instead of a whole one."""

REMEMBERED = 1 * TICKS
"""So long callers are refused by what the store has said, at most: it may have lost its memory since."""


class _Lease:
    """What is in hand and what is known of one key, in ticks of this process's clock. Mutable."""

    __slots__ = ("asked", "how", "tat", "unspent", "until", "waiting")

    def __init__(self) -> None:
        self.unspent = 0  # debt that the store counts and that nobody has used
        self.until = 0  # when the store has worked it off
        self.tat = 0  # when it has worked off everything it counted when it was last asked
        self.asked = -(1 << 62)  # when that was; its own now was later, so the times above are rather too early
        self.how = ""  # it counted
        self.waiting: list[_Claim] | None = None  # for the store's answer; None while nothing is asked

    def spend(self, rate: Rate, cost: int, now: int) -> Quota | None:
        """The answer, where it follows from what is in hand and known; None when the store has to be asked."""
        unspent, left = self.unspent, self.until - now
        if left < unspent:
            unspent = self.unspent = max(0, left)
        _, quota = rate.take(self.tat - unspent, now, cost)
        if not quota.allowed:
            return quota if now - self.asked < REMEMBERED else None
        price = cost * rate.interval
        if price > unspent:
            return None
        self.unspent = unspent - price
        return quota

    def outrun(self, rate: Rate, cost: int, now: int) -> Quota:
        """The refusal of one for whom there would be enough, but others were quicker in every trip."""
        full = now + rate.depth - cost * rate.interval + 1
        return rate.take(max(self.tat - self.unspent, full), now, cost)[1]

    def lacking(self, rate: Rate, size: int, costs: Sequence[int], now: int) -> list[int]:
        """The leases to ask for, to serve takes of these costs: no more than the store can have; none if in vain.

        Several leases instead of a large one: that would be refused as a whole, however much of it is left.
        """
        held = self.unspent // rate.interval
        size = max(size, *costs)
        wanted = -(-max(0, sum(costs) - held) // size) * size
        if now - self.asked < REMEMBERED:
            wanted = min(wanted, rate.take(self.tat, now, 0)[1].remaining)
            if held + wanted < min(costs):
                return []
        return [size] * (wanted // size) + [wanted % size] * (wanted % size > 0)

    def hear(self, rate: Rate, sizes: Sequence[int], answers: Sequence[Answer], asked: int) -> int:
        """Note what the store said about leases of these sizes; the ticks of the last one given, or 0."""
        given = 0
        for size, ((quota,), how, _) in zip(sizes, answers, strict=True):
            self.how = how
            if quota.allowed:
                given = size * rate.interval
                self.unspent += given
        owed = max(round(quota.reset_after * TICKS) for (quota,), _, _ in answers)
        self.asked = asked
        # Of the first lease the store has worked off a little before it gave the last one.
        self.tat = asked + max(owed, self.unspent)
        if given:
            self.until = self.tat
        return given


class _Claim:
    """A take of a leased limit that may have to wait, or to be undone. Mutable."""

    __slots__ = ("answer", "cost", "lease", "rate", "ready", "until")

    def __init__(self, rate: Rate, cost: int, lease: _Lease) -> None:
        self.rate = rate
        self.cost = cost
        self.lease = lease
        self.answer: Answer | Exception | None = None
        self.until = 0  # of the lease that paid
        self.ready: asyncio.Future[None] | None = None  # for one who has to wait

    @property
    def gone(self) -> bool:
        """Whoever waited for it has left."""
        return self.ready is not None and self.ready.cancelled()

    def settle(self, answer: Answer | Exception) -> None:
        """Give the answer to whoever waits."""
        self.answer = answer
        self.until = self.lease.until
        if self.ready is not None and not self.ready.done():
            self.ready.set_result(None)

    def spend(self, now: int, waited: bool = False) -> bool:
        """Settle it, if what is in hand and known will do."""
        quota = self.lease.spend(self.rate, self.cost, now)
        if quota is not None:
            self.settle(([quota], self.lease.how, waited))
        return quota is not None

    async def settled(self) -> Answer:
        """The answer. Raises what the store has raised."""
        if self.ready is not None:
            await self.ready
        assert self.answer is not None
        if isinstance(self.answer, Exception):
            raise self.answer.with_traceback(None)  # the others who waited raise the same one
        return self.answer

    def undo(self, now: int) -> Answer:
        """Put back what was spent, unless that lease has gone since, or wait no longer; how things stand then."""
        if not isinstance(self.answer, tuple):
            if self.ready is not None:
                self.ready.cancel()
            return (), "", False
        quotas, how, waited = self.answer
        if not quotas or not quotas[0].allowed:
            return self.answer
        if self.until == self.lease.until:
            self.lease.unspent += self.cost * self.rate.interval
        return [self.rate.take(self.lease.tat - self.lease.unspent, now, 0)[1]], how, waited


class LeasedStore:
    """A RateStore that takes the limits of `sizes` (policy: permits of a lease) from `store` in leases. GCRA only.

    Takes of other limits go to `store` as they are, and so do those that cost nothing. `capacity` bounds the keys
    whose leases are kept: one more makes room by forgetting the one that was not used for the longest time.
    """

    def __init__(
        self,
        store: RateStore,
        sizes: Mapping[str, int],
        *,
        capacity: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._sizes = sizes
        self._capacity = capacity
        self._clock = clock
        self._leases: OrderedDict[bytes, _Lease] = OrderedDict()
        self._questions: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._leases)

    async def take(self, takes: Sequence[Take]) -> Answer:
        """As RateStore.take. When a leased limit refuses, exact ones are not asked and have no quota in the answer."""
        if len(takes) == 1:
            key, meter, cost = takes[0]
            lease = self._leases.get(key)
            if lease is not None and cost > 0 and isinstance(meter, Rate):
                quota = lease.spend(meter, cost, int(self._clock() * TICKS))
                if quota is not None:
                    self._leases.move_to_end(key)
                    return [quota], lease.how, False
        for take in takes:
            if take[1].policy in self._sizes:
                return await self._take_all(takes)
        return await self._store.take(takes)

    async def close(self) -> None:
        """Let questions on their way be answered, then close the store."""
        if self._questions:
            await asyncio.wait(self._questions)
        await self._store.close()

    async def _take_all(self, takes: Sequence[Take]) -> Answer:
        """The leased ones first: what they have spent can be put back here, what the store has taken is taken."""
        claims, exact = {}, []
        for key, meter, cost in takes:
            if cost > 0 and meter.policy in self._sizes and isinstance(meter, Rate):
                claims[key] = self._claim(key, meter, cost)
            else:
                exact.append((key, meter, cost))
        try:
            parts = [await claim.settled() for claim in claims.values()]
            if exact and _allowed(parts):
                parts.append(await self._store.take(exact))
        except BaseException:  # also when the caller leaves: what goes nowhere does not count
            for claim in claims.values():
                claim.undo(self._now())
            raise
        passed = _allowed(parts)
        if not passed:
            parts[: len(claims)] = [claim.undo(self._now()) for claim in claims.values()]
        return _together(takes, [[key] for key in claims] + [[key for key, _, _ in exact]], parts, passed)

    def _claim(self, key: bytes, rate: Rate, cost: int) -> _Claim:
        """Settled at once where that is possible; else it waits for an answer, which may be on its way already."""
        lease = self._leases.get(key)
        if lease is None:
            if len(self._leases) >= self._capacity:
                self._leases.popitem(last=False)
            lease = self._leases[key] = _Lease()
        self._leases.move_to_end(key)
        claim = _Claim(rate, cost, lease)
        if not claim.spend(self._now()):
            loop = asyncio.get_running_loop()
            claim.ready = loop.create_future()
            if lease.waiting is not None:
                lease.waiting.append(claim)
            else:
                lease.waiting = [claim]
                question = loop.create_task(self._serve(key, lease, self._sizes[rate.policy]))
                self._questions.add(question)
                question.add_done_callback(self._questions.discard)
        return claim

    async def _serve(self, key: bytes, lease: _Lease, size: int) -> None:
        """Ask until everybody who waits for this key has an answer. A task of its own: who leaves does not end it."""
        while lease.waiting:
            claims, lease.waiting = lease.waiting, []
            now = self._now()
            # Some came while the last question was on its way, and what it brought may do for them.
            claims = [claim for claim in claims if not claim.gone and not claim.spend(now, waited=True)]
            if claims:
                try:
                    await self._renew(key, lease, size, claims, now)
                except Exception as error:  # the outermost boundary of this task: whatever it was, they are told
                    for claim in claims:
                        claim.settle(error)
        lease.waiting = None

    async def _renew(self, key: bytes, lease: _Lease, size: int, claims: Sequence[_Claim], asked: int) -> None:
        """Take leases for these claims and settle all of them."""
        rate, costs = claims[0].rate, [claim.cost for claim in claims]
        given, waited = 0, False
        for _ in range(TRIPS):
            sizes = lease.lacking(rate, size, costs, asked)
            if not sizes:
                break
            # They travel together: a shared store sends in one go what is asked in one turn of the loop.
            answers = await asyncio.gather(*(self._store.take([(key, rate, permits)]) for permits in sizes))
            for quotas, how, waited in answers:
                if not quotas:
                    for claim in claims:
                        claim.settle(((), how, waited))
                    return
            given = lease.hear(rate, sizes, answers, asked) or given
        for claim in claims:
            if not claim.gone and not claim.spend(asked, waited):
                claim.settle(([lease.outrun(claim.rate, claim.cost, asked)], lease.how, waited))
        if given:
            # More than one lease is left only where callers have left; and older permits would melt too late now.
            lease.unspent = min(lease.unspent, given)

    def _now(self) -> int:
        return int(self._clock() * TICKS)


def _allowed(parts: Sequence[Answer]) -> bool:
    return all(quota.allowed for quotas, _, _ in parts for quota in quotas)


def _together(takes: Sequence[Take], keys: Sequence[Sequence[bytes]], parts: Sequence[Answer], passed: bool) -> Answer:
    """One answer of several, each about some of the keys; the last may be missing."""
    told = {
        key: quota for some, part in zip(keys, parts, strict=False) for key, quota in zip(some, part[0], strict=False)
    }
    waited = any(waited for _, _, waited in parts)
    if passed and len(told) < len(takes):
        return (), "open", waited  # not all of them were counted
    how = next((how for _, how, _ in parts if how), "")
    return [told[key] for key, _, _ in takes if key in told], how, waited
