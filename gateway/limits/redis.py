"""Rate limits counted in Redis (or Valkey), for every process that asks the same server.

A batcher: what is asked within one turn of the event loop travels as one call of the script, made by a task of its
own. So a caller who leaves, or waits long enough, never cancels a command half-way, which would cost the
connection. A question that was sent is never sent again, for it may have been counted; only NOSCRIPT, which
counts nothing, is answered by loading the script.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from gateway.exchange import Quota
from gateway.limits.clients import CONNECTIONS, Client, Direct, trouble
from gateway.limits.gcra import rate
from gateway.limits.health import StoreHealth
from gateway.limits.store import StoreError, Take, answers

log = logging.getLogger("gateway.store")

SCRIPT = files(__package__).joinpath("take.lua").read_text("utf-8")
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # Redis names scripts by SHA-1

FLIGHTS = CONNECTIONS
"""Calls on their way at once. More of them would only be smaller; one would make each wait for the last."""

MOST = 200
"""Questions of one call: the server does nothing else in the meantime, which is about a millisecond."""

AWAY = "%s is away (%s): limits follow store.on_failure"
BACK = "%s is back: limits are shared again"

LEFT_ALONE = "the store is left alone for a moment"

PROBE = rate("check", 1_000_000, 1.0)
"""Of a key that is gone after a millisecond: a server that only reads, or is full, is of no use."""

CLOSE_WAIT = 1.0
"""Seconds that calls on their way get when the gateway ends."""


Command = list[bytes | int | str]

Question = tuple[Sequence[Take], float]
"""What is taken together, and what the calendar showed when it was asked."""

Send = Callable[[list[Command]], Awaitable[list[Any]]]
"""Brings commands to a server, in their order and on one connection: the reply or the error of each."""


def command(questions: Sequence[Question], prefix: bytes, now: int | str = "") -> Command:
    """One call of the script; `now` in ticks replaces the server's clock."""
    keys: Command = []
    words: Command = []
    for number, (takes, wall) in enumerate(questions):
        for key, meter, cost in takes:
            place, (kind, first, second) = meter.asks(key, wall)
            keys.append(prefix + place)
            words.append(b"%d %b %b %b %d" % (number, kind, first, second, cost))
    return ["EVALSHA", SHA, len(keys), *keys, now, *words]


def told(reply: bytes) -> list[Any]:
    """What the script says about each question: what its keys held, or an error."""
    return [ResponseError(line[1:].decode()) if line[:1] == b"!" else _held(line) for line in reply.split(b"\n")]


def _held(line: bytes) -> list[Any]:
    if b"," in line:  # of a window that slides
        return [[*map(int, word.split(b","))] if b"," in word else int(word) for word in line.split()]
    return [*map(int, line.split())]


async def taught(send: Send, commands: list[Command]) -> list[Any]:
    """The reply or the error of each command; a server that does not know the script is told."""
    results = await send(commands)
    unknown = [i for i, result in enumerate(results) if isinstance(result, NoScriptError)]
    if unknown:  # a new server, or one whose scripts were flushed
        await send([["SCRIPT", "LOAD", SCRIPT]])
        for i, result in zip(unknown, await send([commands[i] for i in unknown]), strict=True):
            results[i] = result
    return results


class _Batch:
    """The questions of one turn of the loop, and one timer for all of them."""

    __slots__ = ("late", "timer", "waiters")

    def __init__(self) -> None:
        self.waiters: list[tuple[Sequence[Take], float, asyncio.Future[list[Any] | StoreError]]] = []
        self.timer: asyncio.TimerHandle | None = None
        self.late = False

    def fail(self, reason: str) -> None:
        """Whoever still waits gets a StoreError."""
        for *_, answer in self.waiters:
            if not answer.done():
                # As a result: an exception that a leaving caller no longer collects would be reported as lost.
                answer.set_result(StoreError(reason, waited=True))


class RedisStore:
    """Takes from Redis within `timeout` seconds, or raises StoreError.

    `prefix` and `limit:` go before every key; `observe` hears the seconds of each round trip that was answered.
    """

    def __init__(
        self,
        client: Client,
        *,
        send: Send | None = None,
        name: str = "the store",
        prefix: bytes = b"gw:",
        timeout: float = 0.05,
        health: StoreHealth | None = None,
        observe: Callable[[float], None] = lambda seconds: None,
        wall: Callable[[], float] = time.time,
        now_ticks: Callable[[], int] | None = None,
    ) -> None:
        """`send` is for one node of a cluster, where keys of two questions are in two slots; `name` is for the log.

        `wall` says what the calendar shows; `now_ticks` replaces the server's clock, for tests only.
        """
        self.health = health if health is not None else StoreHealth()
        self._client = client
        self._direct: Direct | None = None
        self._most = 1
        if send is None:
            assert isinstance(client, Redis)
            send = self._direct = Direct(client)
            self._most = MOST
        self._send = send
        self._name = name
        self._prefix = prefix + b"limit:"
        self._timeout = timeout
        self._observe = observe
        self._wall = wall
        self._now_ticks = now_ticks
        self._gathering: _Batch | None = None
        self._flights: set[asyncio.Task[None]] = set()

    async def take(self, takes: Sequence[Take]) -> list[Quota]:
        """Take from all keys or from none. Raises StoreError."""
        wall = self._wall()
        held = await self.ask(takes, wall)
        if isinstance(held, StoreError):
            raise held
        return answers(takes, held, wall)

    def ask(self, takes: Sequence[Take], wall: float) -> asyncio.Future[list[Any] | StoreError]:
        """The same: what each key will turn out to have held before. Raises StoreError when it is not worth asking."""
        if not self.health.admits(time.monotonic()):
            raise StoreError(LEFT_ALONE, waited=False)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any] | StoreError] = loop.create_future()
        batch = self._gathering
        if batch is None:
            batch = self._gathering = _Batch()
            batch.timer = loop.call_later(self._timeout, self._give_up, batch)
            loop.call_soon(self._start)
        batch.waiters.append((takes, wall, answer))
        return answer

    async def check(self, key: bytes = b"check") -> bool:
        """Take from a key that nobody else uses. When that fails, the store is down, from the first time on.

        It may take as long as the socket's timeouts let it, for the first connection costs several round trips.
        """
        try:
            (answer,) = await self._answers([([(key, PROBE, 1)], self._wall())])
            if isinstance(answer, Exception):
                raise answer
        except (RedisError, OSError) as error:
            if self.health.failed(time.monotonic(), at_once=True):
                log.warning(AWAY, self._name, trouble(error))
            return False
        self._alive()
        return True

    async def close(self) -> None:
        """Let calls on their way land, then close the connections."""
        await self.land()
        if self._direct is not None:
            await self._direct.close()
        await self._client.aclose()

    async def land(self) -> None:
        """Wait for the calls that are on their way."""
        if self._flights:
            await asyncio.wait(self._flights, timeout=CLOSE_WAIT)

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
            results = await self._answers([(takes, wall) for takes, wall, _ in batch.waiters])
        except Exception as error:  # the outermost boundary of this task: whatever it was, the waiters are told
            self._lost(batch, trouble(error))
            return
        self._observe(time.monotonic() - started)
        self._deliver(batch, results)

    async def _answers(self, questions: Sequence[Question]) -> list[Any]:
        """For each question what its keys held, or an error."""
        calls = [questions[i : i + self._most] for i in range(0, len(questions), self._most)]
        now = "" if self._now_ticks is None else self._now_ticks()
        replies = await taught(self._send, [command(call, self._prefix, now) for call in calls])
        results: list[Any] = []
        for call, reply in zip(calls, replies, strict=True):
            results += [reply] * len(call) if isinstance(reply, Exception) else told(reply)
        return results

    def _deliver(self, batch: _Batch, results: list[Any]) -> None:
        for (*_, answer), result in zip(batch.waiters, results, strict=True):
            if answer.done():
                continue
            if isinstance(result, Exception):
                answer.set_result(StoreError(trouble(result), waited=True))
            else:
                answer.set_result(result)
        refused = [result for result in results if isinstance(result, Exception)]
        if len(refused) == len(results):  # read-only, loading, out of memory: it lives, but is of no use
            self._lost(batch, trouble(refused[0]))
        elif not batch.late:
            self._disarm(batch)
            self._alive()

    def _give_up(self, batch: _Batch) -> None:
        """The time of this batch is over; its call, if there is one, runs on."""
        if self._gathering is batch:
            self._gathering = None
        self._lost(batch, f"no answer within {self._timeout * 1000:.0f} ms")
        batch.late = True

    def _lost(self, batch: _Batch, reason: str) -> None:
        if batch.late:
            return
        self._disarm(batch)
        if self.health.failed(time.monotonic()):
            log.warning(AWAY, self._name, reason)
        batch.fail(reason)

    def _alive(self) -> None:
        if self.health.answered():
            log.warning(BACK, self._name)

    def _disarm(self, batch: _Batch) -> None:
        if batch.timer is not None:
            batch.timer.cancel()
