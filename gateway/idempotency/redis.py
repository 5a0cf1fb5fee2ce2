"""Idempotency keys in Redis (or Valkey), for every process that asks the same server: `{prefix}idem:DIGEST`.

Each step is a script over one key, so it is atomic and a cluster is as good as one server. A caller waits no longer
than the timeout, but what was asked runs on: to cancel a command would cost its connection. A key that is taken after
its caller has gone, or has given up, is freed again.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from gateway.idempotency.batching import Batcher
from gateway.idempotency.records import FLIGHT, Answer, Begun, Claim, State, answered, in_flight, read
from gateway.limits.clients import Client, trouble
from gateway.limits.health import StoreHealth
from gateway.limits.redis import LEFT_ALONE
from gateway.limits.store import StoreError

log = logging.getLogger("gateway.idempotency")

AWAY = "the store is away (%s): idempotency keys follow store.on_failure"
BACK = "the store is back: idempotency keys are shared again"

CLOSE_WAIT = 1.0
"""Seconds that commands on their way get when the gateway ends."""

BEGIN = """
-- KEYS[1]  the key; ARGV: its record, and for how many milliseconds
-- returns  the record that it has already, or nothing: it is taken now
local held = redis.call('GET', KEYS[1])
if held then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""

FINISH = """
-- KEYS[1]  the key; ARGV: how our record begins, the new one, and for how many milliseconds
-- returns  1, or 0 when the key belongs to somebody else. Where it has expired meanwhile, it is ours.
local held = redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1)
if held ~= '' and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

ABANDON = """
-- KEYS[1]  the key; ARGV: how our record begins
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class RedisRecords:
    """As Records, but every method raises StoreError when there is no answer within `timeout` seconds."""

    def __init__(
        self,
        client: Client,
        *,
        prefix: bytes = b"gw:",
        timeout: float = 0.05,
        health: StoreHealth | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.health = health if health is not None else StoreHealth()
        self._batcher = Batcher(client)
        self._prefix = prefix + b"idem:"
        self._timeout = timeout
        self._clock = clock
        self._counted = -math.inf  # when a failure was last counted

    async def begin(self, claim: Claim, lease: float) -> Begun:
        """As Records.begin."""
        asked = self._ask(BEGIN, claim, in_flight(claim), milliseconds(lease))
        try:
            held = await self._answer(asked)
        except BaseException:  # too late, or the caller left
            asked.add_done_callback(partial(self._free, claim))
            raise
        return State.NEW if held is None else read(bytes(held), claim.fingerprint)

    async def finish(self, claim: Claim, answer: Answer | None, keep: float) -> None:
        """As Records.finish."""
        record = answered(claim, answer)
        await self._answer(self._ask(FINISH, claim, FLIGHT + claim.token, record, milliseconds(keep)))

    async def abandon(self, claim: Claim) -> None:
        """As Records.abandon."""
        await self._answer(self._ask(ABANDON, claim, FLIGHT + claim.token))

    async def close(self) -> None:
        """Let commands on their way land, then close the connections."""
        await self._batcher.close(CLOSE_WAIT)

    def _ask(self, script: str, claim: Claim, *arguments: bytes | int) -> "asyncio.Future[Any]":
        if not self.health.admits(self._clock()):
            raise StoreError(LEFT_ALONE, waited=False)
        return self._batcher.ask("EVAL", script, 1, self._prefix + claim.key, *arguments)

    async def _answer(self, asked: "asyncio.Future[Any]") -> Any:
        """What came in time. Raises StoreError."""
        await asyncio.wait({asked}, timeout=self._timeout)
        if not asked.done():
            reason = f"no answer within {self._timeout * 1000:.0f} ms"
        elif isinstance(answer := asked.result(), Exception):
            reason = trouble(answer)
        else:
            if self.health.answered():
                log.warning(BACK)
            return answer
        self._failed(reason)
        raise StoreError(reason, waited=True)

    def _failed(self, reason: str) -> None:
        """Count a failure; what many callers suffer from at the same time is one."""
        now = self._clock()
        if now - self._counted >= self._timeout / 2:
            self._counted = now
            if self.health.failed(now):
                log.warning(AWAY, reason)

    def _free(self, claim: Claim, asked: "asyncio.Future[Any]") -> None:
        """Nobody waited for this key to be taken: if it was, free it."""
        if asked.result() is None:
            self._batcher.ask("EVAL", ABANDON, 1, self._prefix + claim.key, FLIGHT + claim.token)


def milliseconds(seconds: float) -> int:
    """As Redis wants them: whole, and at least one."""
    return max(1, round(seconds * 1000))
