"""Rate limits counted in Redis (or Valkey), for every process that asks the same server.

A batcher: what is asked within one turn of the event loop travels in one pipeline, run by a task of its own.
So a caller who leaves, or waits long enough, never cancels a command half-way, which would cost the
connection. A question that was sent is never sent again, for it may have been counted; only NOSCRIPT, which
counts nothing, is answered by loading the script.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.maint_notifications import MaintNotificationsConfig

from gateway.exchange import Quota
from gateway.limits.health import StoreHealth
from gateway.limits.store import Take, answers

log = logging.getLogger("gateway.store")

SCRIPT = files(__package__).joinpath("gcra.lua").read_text("utf-8")
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # Redis names scripts by SHA-1

FLIGHTS = 4
"""Pipelines on their way at once. More of them would only be smaller; one would make each wait for the last."""

AWAY = "the store is away (%s): limits follow store.on_failure"

CLOSE_WAIT = 1.0
"""Seconds that pipelines on their way get when the gateway ends."""


class StoreError(Exception):
    """Redis gave no answer in time, or is left alone for now. `waited` tells whether it was asked."""

    def __init__(self, reason: str, *, waited: bool) -> None:
        super().__init__(reason)
        self.waited = waited


def connect(url: str, timeout: float) -> Redis:
    """A client that fails fast: no retries (one could count twice), short timeouts, few connections.

    Besides redis:// and rediss:// the URL may be unix:///path?db=0, which is how the embedded store is reached.
    The socket may take a little longer than the callers wait: they are gone by then, but a connection that is
    dropped too early would make a slow server slower.
    """
    socket_timeout = max(0.1, 2 * timeout)
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=FLIGHTS,
        timeout=socket_timeout,
        socket_timeout=socket_timeout,
        socket_connect_timeout=socket_timeout,
        retry=Retry(NoBackoff(), 0),
        decode_responses=False,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),  # they would lengthen the timeouts
    )
    return Redis.from_pool(pool)


class _Batch:
    """The questions of one turn of the loop, and one timer for all of them."""

    __slots__ = ("late", "timer", "waiters")

    def __init__(self) -> None:
        self.waiters: list[tuple[Sequence[Take], asyncio.Future[list[int] | StoreError]]] = []
        self.timer: asyncio.TimerHandle | None = None
        self.late = False

    def fail(self, reason: str) -> None:
        """Whoever still waits gets a StoreError."""
        for _, answer in self.waiters:
            if not answer.done():
                # As a result: an exception that a leaving caller no longer collects would be reported as lost.
                answer.set_result(StoreError(reason, waited=True))


class RedisStore:
    """Takes from Redis within `timeout` seconds, or raises StoreError.

    `prefix` and `limit:` go before every key; `observe` hears the seconds of each round trip that was answered.
    """

    def __init__(
        self,
        client: Redis,
        *,
        prefix: bytes = b"gw:",
        timeout: float = 0.05,
        health: StoreHealth | None = None,
        observe: Callable[[float], None] = lambda seconds: None,
        now_ticks: Callable[[], int] | None = None,
    ) -> None:
        """`now_ticks` replaces the server's clock, for tests of the arithmetic only."""
        self.health = health if health is not None else StoreHealth()
        self._client = client
        self._prefix = prefix + b"limit:"
        self._timeout = timeout
        self._observe = observe
        self._now_ticks = now_ticks
        self._gathering: _Batch | None = None
        self._flights: set[asyncio.Task[None]] = set()

    async def take(self, takes: Sequence[Take]) -> list[Quota]:
        """Take from all keys or from none. Raises StoreError."""
        if not self.health.admits(time.monotonic()):
            raise StoreError("the store is left alone for a moment", waited=False)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[int] | StoreError] = loop.create_future()
        batch = self._gathering
        if batch is None:
            batch = self._gathering = _Batch()
            batch.timer = loop.call_later(self._timeout, self._give_up, batch)
            loop.call_soon(self._start)
        batch.waiters.append((takes, answer))
        owed = await answer
        if isinstance(owed, StoreError):
            raise owed
        return answers(takes, owed)

    async def check(self) -> bool:
        """Ask for a sign of life, before anybody needs one. Without it the store is down, from the first failure on.

        It may take as long as the socket's timeouts let it, for the first connection costs several round trips.
        """
        try:
            await self._client.ping()
        except (RedisError, OSError) as error:
            if self.health.failed(time.monotonic(), at_once=True):
                log.warning(AWAY, f"{type(error).__name__}: {error}")
            return False
        self._alive()
        return True

    async def close(self) -> None:
        """Let pipelines on their way land, then close the connections."""
        if self._flights:
            await asyncio.wait(self._flights, timeout=CLOSE_WAIT)
        await self._client.aclose()

    def _start(self) -> None:
        """Send what has gathered, unless enough is on its way already; then it gathers on."""
        batch = self._gathering
        if batch is not None and len(self._flights) < FLIGHTS:
            self._gathering = None
            flight = asyncio.get_running_loop().create_task(self._fly(batch))
            self._flights.add(flight)
            flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        self._start()

    async def _fly(self, batch: _Batch) -> None:
        started = time.monotonic()
        try:
            results = await self._run([self._command(takes) for takes, _ in batch.waiters])
        except Exception as error:  # the outermost boundary of this task: whatever it was, the waiters are told
            self._lost(batch, f"{type(error).__name__}: {error}")
            return
        self._observe(time.monotonic() - started)
        self._deliver(batch, results)

    async def _run(self, commands: list[list[bytes | int | str]]) -> list[Any]:
        """The reply or the error of each command."""
        results = await self._pipeline(commands)
        unknown = [i for i, result in enumerate(results) if isinstance(result, NoScriptError)]
        if unknown:  # a new server, or one whose scripts were flushed
            await self._client.script_load(SCRIPT)
            for i, result in zip(unknown, await self._pipeline([commands[i] for i in unknown]), strict=True):
                results[i] = result
        return results

    async def _pipeline(self, commands: list[list[bytes | int | str]]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            results: list[Any] = await pipeline.execute(raise_on_error=False)
        return results

    def _command(self, takes: Sequence[Take]) -> list[bytes | int | str]:
        now = "" if self._now_ticks is None else self._now_ticks()
        command: list[bytes | int | str] = ["EVALSHA", SHA, len(takes)]
        command += [self._prefix + key for key, _, _ in takes]
        command.append(now)
        for _, rate, cost in takes:
            command += (rate.interval, rate.depth, cost)
        return command

    def _deliver(self, batch: _Batch, results: list[Any]) -> None:
        for (_, answer), result in zip(batch.waiters, results, strict=True):
            if answer.done():
                continue
            if isinstance(result, Exception):
                answer.set_result(StoreError(str(result), waited=True))
            else:
                answer.set_result(result)
        refused = [result for result in results if isinstance(result, Exception)]
        if len(refused) == len(results):  # read-only, loading, out of memory: it lives, but is of no use
            self._lost(batch, str(refused[0]))
        elif not batch.late:
            self._disarm(batch)
            self._alive()

    def _give_up(self, batch: _Batch) -> None:
        """The time of this batch is over; its pipeline, if there is one, runs on."""
        if self._gathering is batch:
            self._gathering = None
        self._lost(batch, f"no answer within {self._timeout * 1000:.0f} ms")
        batch.late = True

    def _lost(self, batch: _Batch, reason: str) -> None:
        if batch.late:
            return
        self._disarm(batch)
        if self.health.failed(time.monotonic()):
            log.warning(AWAY, reason)
        batch.fail(reason)

    def _alive(self) -> None:
        if self.health.answered():
            log.warning("the store is back: limits are shared again")

    def _disarm(self, batch: _Batch) -> None:
        if batch.timer is not None:
            batch.timer.cancel()
