"""Asking again: runs the first try plainly, and tenacity only after it has failed.

tenacity costs 20 µs a call even when nothing fails, and its engine keeps state per thread, so it is built
for the one call that needs it. Its callbacks are synchronous, and cancellation is an outcome to them: the
policy knows only replies and UpstreamFailed, so a client that left is never retried.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState
from tenacity.wait import wait_exponential

from gateway.errors import UpstreamFailed
from gateway.exchange import Call, Hop, Reply
from gateway.pipe import Layer, Send
from gateway.resilience.budget import RetryBudget
from gateway.resilience.replay import Replay, discard
from gateway.resilience.retry_after import retry_after
from gateway.resilience.retry_policy import FINAL, RetryPolicy
from gateway.resilience.verdict import kind_of

__all__ = ["RetryPolicy", "retry"]

ATTEMPTS = b"x-gateway-attempts: "


def never(call: Call) -> bool:
    """The next try goes where the last one went: there is one target, or nobody has said."""
    return False


def retry(
    policy: RetryPolicy,
    budget: RetryBudget,
    *,
    elsewhere: Callable[[Call], bool] = never,
    attempts_header: bool = False,
    clock: Callable[[], float],
    wall: Callable[[], float] = time.time,
    dice: Callable[[], float] = random.random,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Layer:
    """Repeat failed tries as far as `policy`, `budget` and the call's deadline allow.

    `elsewhere` tells whether the next try would go to a target that this call has not tried. With `attempts_header`
    the reply, an error too, says how many tries there were in all, hedges included.
    """
    statuses = policy.statuses
    count_request = budget.request
    limit = policy.replay_limit
    ceiling = wait_exponential(multiplier=policy.base, max=policy.cap)

    def layer(send: Send) -> Send:
        tools = Tools(policy, budget, ceiling, send, elsewhere, clock, wall, dice, sleep)

        async def tried(call: Call) -> Reply:
            count_request(clock())
            body = call.body
            if not isinstance(body, bytes):
                call.body = Replay(body, limit)
            outcome: Reply | UpstreamFailed
            try:
                outcome = await send(call)
                if outcome.status not in statuses:
                    return outcome
            except UpstreamFailed as error:
                outcome = error
            return await Retries(tools, call, outcome).run()

        async def counted(call: Call) -> Reply:
            try:
                return await tried(call)
            finally:
                call.added = told(call.added, len(call.tried))

        return counted if attempts_header else tried

    return layer


def told(added: bytes, tries: int) -> bytes:
    """`added` with the number of tries, in place of the one that another upstream's retries have left there."""
    if ATTEMPTS in added:
        added = b"".join(line for line in added.splitlines(keepends=True) if not line.startswith(ATTEMPTS))
    return b"%b%b%d\r\n" % (added, ATTEMPTS, tries)


@dataclass(frozen=True, slots=True)
class Tools:
    """What the retries of all calls of one route share."""

    policy: RetryPolicy
    budget: RetryBudget
    ceiling: wait_exponential
    send: Send
    elsewhere: Callable[[Call], bool]
    clock: Callable[[], float]
    wall: Callable[[], float]
    dice: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]


class Retries:
    """The tries of one call after its first has failed. Mutable."""

    __slots__ = ("_asked", "_call", "_first", "_outcome", "_tools")

    def __init__(self, tools: Tools, call: Call, first: Reply | UpstreamFailed) -> None:
        self._tools = tools
        self._call = call
        self._first: Reply | UpstreamFailed | None = first
        self._outcome: Reply | BaseException = first  # of the latest try
        self._asked: float | None = None  # the latest reply's Retry-After

    async def run(self) -> Reply:
        """The reply that is left in the end, or raises the error that is."""
        if not self._worth_another(self._outcome):
            return await self._try()
        engine = AsyncRetrying(
            retry=self._retry,
            wait=self._wait,
            stop=self._stop,
            before_sleep=self._prepare,
            sleep=self._pause,
            # Not `reraise`: the last outcome may be a reply, which that would wrap in a RetryError.
            retry_error_callback=_let_stand,
        )
        return await engine(self._try)

    async def _try(self) -> Reply:
        """tenacity's first try is the one that has been made already."""
        first, self._first = self._first, None
        if first is None:
            return await self._tools.send(self._call)
        if isinstance(first, Reply):
            return first
        raise first

    def _retry(self, state: RetryCallState) -> bool:
        assert state.outcome is not None
        self._outcome = state.outcome.exception() or state.outcome.result()
        return self._worth_another(self._outcome)

    def _worth_another(self, outcome: Reply | BaseException) -> bool:
        self._asked = retry_after(outcome, self._tools.wall()) if isinstance(outcome, Reply) else None
        reason = self._tools.policy.stands(self._call, outcome, self._asked)
        body = self._call.body
        if not reason and isinstance(body, Replay) and not body.replayable:
            reason = "body"
        if reason and reason != FINAL:
            self._withhold(reason)
        return not reason

    def _wait(self, state: RetryCallState) -> float:
        if self._innocent() or self._spread():
            return 0.0
        # Full jitter, as tenacity's wait_random_exponential, but the dice are ours.
        backoff = self._tools.dice() * self._tools.ceiling(state)
        return max(backoff, self._asked or 0.0)

    def _stop(self, state: RetryCallState) -> bool:
        tools, now = self._tools, self._tools.clock()
        if state.attempt_number >= tools.policy.attempts:
            reason = "attempts"
        elif now + state.upcoming_sleep >= self._call.deadline:
            reason = "deadline"
        elif not self._free() and not tools.budget.take(now):
            reason = "budget"
        else:
            return False
        self._withhold(reason)
        return True

    def _prepare(self, state: RetryCallState) -> None:
        if isinstance(self._outcome, Reply):
            discard(self._outcome)
        if isinstance(self._call.body, Replay):
            self._call.body.rewind()

    async def _pause(self, seconds: float) -> None:
        started = self._tools.clock()
        ended = "abandoned"  # unless the client is still there afterwards
        try:
            await self._tools.sleep(seconds)
            ended = "retry"
        finally:
            took = self._tools.clock() - started
            self._call.hops.append(Hop("wait", kind_of(self._outcome), ended, started, took))

    def _innocent(self) -> bool:
        """A stale connection, for the first time at this target: nothing failed, so nothing is waited for."""
        outcome, call = self._outcome, self._call
        if not isinstance(outcome, UpstreamFailed) or not outcome.stale:
            return False
        return call.target is None or call.tried.count(call.target) <= 1

    def _spread(self) -> bool:
        """Another target is there to ask: it has not failed, so it needs no time to recover.

        Unlike a 503, a 429 speaks for all targets: they count the same caller.
        """
        outcome = self._outcome
        return not (isinstance(outcome, Reply) and outcome.status == 429) and self._tools.elsewhere(self._call)

    def _free(self) -> bool:
        """The budget bounds added load: a try that nobody received has added none."""
        return self._innocent() or (isinstance(self._outcome, UpstreamFailed) and not self._outcome.sent)

    def _withhold(self, reason: str) -> None:
        hop = Hop("withheld", reason, kind_of(self._outcome), self._tools.clock(), 0.0, waited=False)
        self._call.hops.append(hop)


def _let_stand(state: RetryCallState) -> Reply:
    assert state.outcome is not None
    reply: Reply = state.outcome.result()
    return reply
