"""Several tries for one call at the same time: how one of them wins and the others end.

The first try runs in the caller's own task, the others in tasks beside it. Where another one wins, the caller's task
is cancelled and takes that back at once (`uncancel`), as `asyncio.timeout` does: a cancellation that came from outside
as well is still one. Every try has ended, and every reply but the winner's is discarded, before the call goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import GatewayError
from gateway.exchange import Call, Hop, Reply
from gateway.pipe import Send
from gateway.resilience.budget import RetryBudget
from gateway.resilience.replay import discard


class Timer(Protocol):
    """asyncio.TimerHandle, as far as it is needed."""

    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Timer]


class Delay(Protocol):
    """When another try begins, in seconds after the last one; hears how long first tries took."""

    after: float

    def add(self, took: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What the races for one upstream share; `hedge` says what they are."""

    upstream: str
    delay: Delay
    most: int
    budget: RetryBudget
    bad: frozenset[int]
    send: Send
    clock: Callable[[], float]
    later: Later


class Race:
    """One call whose first try is under way. `others` is empty as long as that one is not late."""

    __slots__ = (
        "_call",
        "_cancelling",
        "_interrupted",
        "_over",
        "_rules",
        "_task",
        "_tried",
        "_waiter",
        "_winner",
        "others",
        "started",
        "timer",
    )

    def __init__(self, rules: Rules, call: Call) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._rules = rules
        self._call = call
        self._tried = len(call.tried)
        self._task = task
        self._cancelling = task.cancelling()
        self._interrupted = False  # we have cancelled the caller's task: the first try is not waited for any more
        self._over = False  # replies that come now are discarded
        self._winner: Other | None = None
        self._waiter: asyncio.Future[None] | None = None  # the first try has ended badly, and others have not yet
        self.others: list[Other] = []
        self.started = rules.clock()
        self.timer = rules.later(rules.delay.after, self.another)

    def another(self) -> None:
        """It is late: one more try, if the budget has one."""
        rules, call, now = self._rules, self._call, self._rules.clock()
        if self._over:
            return
        if len(call.tried) > self._tried:  # else the first still waits for a place, and another would wait behind it
            if not rules.budget.take(now):
                call.hops.append(Hop("hedge", rules.upstream, "budget", now, 0.0, waited=False))
                return
            other = Other(self, call, now)
            self.others.append(other)
            other.task = asyncio.get_running_loop().create_task(other.run(rules))
        if len(self.others) < rules.most:
            self.timer = rules.later(rules.delay.after, self.another)

    def arrived(self, other: Other, reply: Reply | None) -> None:
        """`other` has ended, with this reply or without one."""
        if reply is not None and (self._over or reply.status in self._rules.bad):
            discard(reply)
        elif reply is not None:
            self._over = True
            self._winner = other
            other.reply = reply
            if self._waiter is None:
                self._interrupted = True
                self._task.cancel()
        if self._waiter is not None and not self._waiter.done() and (self._over or not self._running()):
            self._waiter.set_result(None)

    async def decide(self, outcome: Reply | BaseException) -> Reply:
        """The reply that wins, once the first try's `outcome` is there and others have begun. Else raises `outcome`."""
        ended = self._rules.clock()
        result: Reply | BaseException | None = None
        try:
            try:
                await self._settle(outcome, ended)
            finally:
                await self._end()
            result = self._take(outcome)
        finally:
            self._report(ended)
            won = self._winner.reply if self._winner is not None else None
            for reply in (outcome, won):
                if isinstance(reply, Reply) and reply is not result:
                    discard(reply)
            self._part()
        if isinstance(result, Reply):
            return result
        raise result

    async def _settle(self, outcome: Reply | BaseException, ended: float) -> None:
        """Wait until there is a winner, or nobody left who could be. Raises CancelledError when the caller leaves."""
        if self._interrupted:
            if self._task.uncancel() > self._cancelling:
                raise asyncio.CancelledError
            # The first try took longer than this, nobody knows how long: still a time of the slowest.
            self._rules.delay.add(ended - self.started)
        elif isinstance(outcome, asyncio.CancelledError):
            raise outcome
        elif isinstance(outcome, Reply) and outcome.status not in self._rules.bad:
            self._rules.delay.add(ended - self.started)
        elif self._running():
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def _end(self) -> None:
        """Nothing counts any more; see every try end."""
        self._over = True
        tasks = [other.task for other in self.others if other.task is not None and not other.ended]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _take(self, outcome: Reply | BaseException) -> Reply | BaseException:
        winner = self._winner
        if winner is None or winner.reply is None:
            return outcome
        self._call.target = winner.call.target
        return winner.reply

    def _part(self) -> None:
        """Let go of each other: who leads back here, or by a last exception to itself, waits for the collector."""
        for other in self.others:
            other.task = None
        self.others.clear()
        self._winner = None

    def _running(self) -> bool:
        return any(not other.ended for other in self.others)

    def _report(self, first_ended: float) -> None:
        """Of tries at the same time only one was waited for: the first, and when that had failed the last hedge."""
        now, hops = self._rules.clock(), self._call.hops
        for other in self.others:
            hops += [hop._replace(waited=False) for hop in other.call.hops]
            outcome = "won" if other is self._winner else "lost"
            took = (other.ended or now) - other.started
            hops.append(Hop("hedge", self._rules.upstream, outcome, other.started, took, waited=False))
        if self._waiter is not None:
            hops[-1] = hops[-1]._replace(started=first_ended, took=now - first_ended, waited=True)


class Other:
    """Another try beside the first. It travels on a call of its own, so that each has its own target and hops."""

    __slots__ = ("_race", "call", "ended", "reply", "started", "task")

    def __init__(self, race: Race, call: Call, now: float) -> None:
        self._race = race
        self.call = twin(call)
        self.started = now
        self.ended = 0.0  # not yet
        self.reply: Reply | None = None
        self.task: asyncio.Task[None] | None = None

    async def run(self, rules: Rules) -> None:
        """To the head of its reply. A defect of ours ends the task, and asyncio's own report tells of it."""
        reply = None
        try:
            with suppress(GatewayError):
                reply = await rules.send(self.call)
        finally:
            self.ended = rules.clock()
            self._race.arrived(self, reply)


def twin(call: Call) -> Call:
    """A call that shares everything with `call`, `tried` above all, but for its target and its hops."""
    other = Call.__new__(Call)
    for name in Call.__slots__:
        setattr(other, name, getattr(call, name))
    other.target = None
    other.hops = []
    return other
