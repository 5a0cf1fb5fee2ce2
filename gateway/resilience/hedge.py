"""A second try while the first one is late; the first good reply wins (Dean and Barroso, "The Tail at Scale", 2013).

A call that is answered in time costs a timer and no task. What happens when it is not is in `race.py`.
"""

import asyncio
from collections.abc import Callable

from gateway.exchange import Call, Reply
from gateway.pipe import Layer, Send
from gateway.resilience.budget import RetryBudget
from gateway.resilience.race import Later, Race, Rules, Timer
from gateway.resilience.recent_times import Percentile
from gateway.resilience.retry_policy import IDEMPOTENT

__all__ = ["Percentile", "hedge"]

BAD = frozenset({429, 502, 503, 504})
"""Statuses that do not win, where no retry policy says which: what is retried by default, and 429."""


class Always:
    """The configured time, in the place of a percentile."""

    __slots__ = ("after",)

    def __init__(self, after: float) -> None:
        self.after = after

    def add(self, took: float) -> None:
        """There is nothing to learn."""


def call_later(seconds: float, callback: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, callback)


def hedge(
    upstream: str,
    after: float | Percentile,
    most: int,
    budget: RetryBudget,
    *,
    clock: Callable[[], float],
    bad: frozenset[int] = BAD,
    count: bool = False,
    later: Later = call_later,
) -> Layer:
    """Begin up to `most` more tries, each `after` seconds after the last, while no good reply is there.

    Only for what may be done twice, with its whole body in hand. A reply with a `bad` status (RetryPolicy.statuses)
    and an error do not win; when nothing better comes, what became of the first try stands. With `count` each call
    counts as a request in `budget`, which a retry outside does otherwise.
    """
    delay = after if isinstance(after, Percentile) else Always(after)

    def layer(send: Send) -> Send:
        rules = Rules(upstream, delay, most, budget, bad, send, clock, later)

        async def hedged(call: Call) -> Reply:
            request = call.request
            if (
                (request.method not in IDEMPOTENT and not call.repeatable)
                or not isinstance(call.body, bytes)
                or request.fields.upgrade
            ):
                return await send(call)
            race = Race(rules, call)
            try:
                reply = await send(call)
            except BaseException as error:
                race.timer.cancel()
                if not race.others:
                    raise
                return await race.decide(error)
            race.timer.cancel()
            if race.others:
                return await race.decide(reply)
            if reply.status not in bad:
                delay.add(clock() - race.started)
            return reply

        async def counted(call: Call) -> Reply:
            budget.request(clock())
            return await hedged(call)

        return counted if count else hedged

    return layer
