"""Rate limits counted in a Redis Cluster: each master is a store of its own, and each key belongs to one of them.

A script reaches the keys of one hash slot only, and limits have no slot in common: a shared one would put all callers
of a route on one node. So a request with several limits asks several nodes at once. Where one refuses, the others are
given back what they took; the answer is as if nothing had been taken. Until it is back, another caller may be refused
by it: a limit may be early by what is on its way, it is never exceeded. What a node took that did not answer in time
stays taken.

A node that is away costs the limits of its own keys, nobody else's. Slots that move are followed at once (MOVED, ASK:
the question was not counted there), and the layout is asked for anew.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from redis.asyncio.cluster import ClusterNode
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.exchange import Quota
from gateway.limits.clients import ClusterClient, trouble
from gateway.limits.health import StoreHealth
from gateway.limits.redis import AWAY, BACK, LEFT_ALONE, Command, RedisStore, taught
from gateway.limits.store import StoreError, Take, answers

log = logging.getLogger("gateway.store")

LEARN_PAUSE = 0.25
"""Seconds between two questions for the layout: each makes all connections new."""

REDIRECTIONS = 3
"""A question follows at most: more of them only happen when nodes contradict each other."""

PROBES = 1000
"""Keys that are tried until each master has one."""

Held = list[Any] | StoreError
"""What keys of one slot held before, or why nobody knows."""


class ClusterStore:
    """Takes from a cluster within `timeout` seconds a round trip, or raises StoreError. As RedisStore otherwise."""

    def __init__(
        self,
        client: ClusterClient,
        *,
        prefix: bytes = b"gw:",
        timeout: float = 0.05,
        health: StoreHealth | None = None,
        observe: Callable[[float], None] = lambda seconds: None,
        wall: Callable[[], float] = time.time,
        now_ticks: Callable[[], int] | None = None,
    ) -> None:
        self.health = health if health is not None else StoreHealth()  # up when all nodes are
        self._layout = self.health.another()  # whether it is known who has which slots
        self._client = client
        self._prefix = prefix + b"limit:"
        self._timeout = timeout
        self._wall = wall
        self._options: dict[str, Any] = {
            "prefix": prefix,
            "timeout": timeout,
            "observe": observe,
            "wall": wall,
            "now_ticks": now_ticks,
        }
        self._nodes: dict[str, RedisStore] = {}
        self._learning: asyncio.Task[None] | None = None
        self._next_learning = 0.0
        self._chores: set[asyncio.Task[Any]] = set()

    async def take(self, takes: Sequence[Take]) -> list[Quota]:
        """Take from all keys or from none. Raises StoreError."""
        if not self._known:
            await self._meet()
        wall = self._wall()
        if len(takes) == 1:
            held = await self._ask(takes, wall)
            self._look()
            if isinstance(held, StoreError):
                raise held
            return answers(takes, held, wall)
        return await self._take_apart(takes, wall)

    async def check(self) -> bool:
        """Ask every master for a sign of life. Without it the node is down, from the first failure on."""
        if not self.health.up or not self._known:
            await self._learn(at_once=True)
        if not self._known:
            return False
        await asyncio.gather(*(self._node(name).check(key) for name, key in self._probes().items()))
        self._look()
        return self.health.up

    async def close(self) -> None:
        """Let pipelines on their way land, then close the connections."""
        if self._chores:
            await asyncio.wait(self._chores, timeout=self._timeout)
        await asyncio.gather(*(node.land() for node in self._nodes.values()))
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait([self._learning])
        self._nodes.clear()  # each of them knows this store: nothing else would part them but the collector
        await self._client.aclose()

    # -- one limit, several limits ------------------------------------------------------------------

    def _ask(self, takes: Sequence[Take], wall: float) -> asyncio.Future[Held]:
        """What keys in one slot held before."""
        key, meter, _ = takes[0]
        return self._node_of(self._slot(meter.asks(key, wall)[0])).ask(takes, wall)

    async def _take_apart(self, takes: Sequence[Take], wall: float) -> list[Quota]:
        """Take from keys wherever they are."""
        slots: dict[int, list[int]] = {}
        for i, (key, meter, _) in enumerate(takes):
            slots.setdefault(self._slot(meter.asks(key, wall)[0]), []).append(i)
        parts = [[takes[i] for i in indexes] for indexes in slots.values()]
        asked = [self._ask_or_fail(part, wall) for part in parts]
        try:
            await asyncio.wait(asked)
        except asyncio.CancelledError:  # who leaves may have taken in vain
            self._begin(self._settle(parts, asked, wall))
            raise
        known: list[Any] = [None] * len(takes)
        for indexes, held in zip(slots.values(), await self._settle(parts, asked, wall), strict=True):
            if isinstance(held, StoreError):
                raise held
            for i, state in zip(indexes, held, strict=True):
                known[i] = state
        return answers(takes, known, wall)

    def _ask_or_fail(self, takes: Sequence[Take], wall: float) -> asyncio.Future[Held]:
        try:
            return self._ask(takes, wall)
        except StoreError as error:
            failed: asyncio.Future[Held] = asyncio.get_running_loop().create_future()
            failed.set_result(error)
            return failed

    async def _settle(
        self, parts: Sequence[Sequence[Take]], asked: Sequence[asyncio.Future[Held]], wall: float
    ) -> list[Held]:
        """The answers, after what was taken is given back, unless all parts were allowed."""
        answered = [await held for held in asked]
        allowed = [part for part, held in zip(parts, answered, strict=True) if _allowed(part, held, wall)]
        if len(allowed) < len(parts):
            back = [[(key, meter, -cost) for key, meter, cost in part if cost > 0] for part in allowed]
            # A node that is away by now keeps them: its health says so already.
            if given := [self._ask_or_fail(part, wall) for part in back if part]:
                await asyncio.wait(given)
        self._look()
        return answered

    # -- who has what -------------------------------------------------------------------------------

    @property
    def _known(self) -> bool:
        return bool(self._client.nodes_manager.slots_cache)

    def _slot(self, place: bytes) -> int:
        return self._client.keyslot(self._prefix + place)

    def _node_of(self, slot: int) -> RedisStore:
        nodes = self._client.nodes_manager.slots_cache.get(slot)
        if not nodes:
            self._learn()
            raise StoreError("no node serves this slot", waited=False)
        return self._node(nodes[0].name)

    def _node(self, name: str) -> RedisStore:
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = RedisStore(
                self._client,
                send=partial(self._send, name),
                name=f"node {name} of the store",
                health=self._layout.another(),
                **self._options,
            )
        return node

    def _probes(self) -> dict[str, bytes]:
        """For each master a key that it has."""
        missing = {node.name for node in self._client.get_primaries()}
        found: dict[str, bytes] = {}
        for number in range(PROBES):
            key = b"check-%d" % number
            nodes = self._client.nodes_manager.slots_cache.get(self._slot(key))
            if nodes and nodes[0].name in missing:
                missing.discard(nodes[0].name)
                found[nodes[0].name] = key
            if not missing:
                break
        return found

    async def _meet(self) -> None:
        """Learn the layout for the first time, within the timeout. Raises StoreError."""
        if not self._layout.admits(time.monotonic()):
            raise StoreError(LEFT_ALONE, waited=False)
        await asyncio.wait([self._learn()], timeout=self._timeout)
        if not self._known:
            raise StoreError("the nodes of the cluster are not known", waited=True)

    def _learn(self, failed: str | None = None, *, at_once: bool = False) -> asyncio.Task[None]:
        """Ask for the layout, unless that is going on; now, or when it may be asked for again."""
        if self._learning is None:
            wait = 0.0 if at_once else max(0.0, self._next_learning - time.monotonic())
            self._learning = asyncio.get_running_loop().create_task(self._ask_for_layout(failed, wait))
        return self._learning

    async def _ask_for_layout(self, failed: str | None, wait: float) -> None:
        try:
            await asyncio.sleep(wait)
            await self._client.learn(failed)
        except (RedisError, OSError) as error:
            # Of a layout that is known the nodes themselves say what is wrong.
            if not self._known and self._layout.failed(time.monotonic(), at_once=True):
                log.warning(AWAY, "the store", trouble(error))
        else:
            if self._layout.answered():
                log.warning(BACK, "the store")
            self._forget_who_left()
        finally:
            self._next_learning = time.monotonic() + LEARN_PAUSE
            self._learning = None
            self._look()

    def _forget_who_left(self) -> None:
        for name in self._nodes.keys() - {node.name for node in self._client.get_primaries()}:
            node = self._nodes.pop(name)
            if not node.health.up:
                log.warning("others have the slots of node %s of the store: limits are shared again", name)
            self._begin(node.land())

    def _look(self) -> None:
        """It is up when the layout is known and all nodes are."""
        up = self._known
        for node in self._nodes.values():  # no all(): a generator would cost each request half a microsecond
            if not node.health.up:
                up = False
        self.health.up = up

    def _begin(self, chore: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        return task

    # -- to one node, and where it points to ----------------------------------------------------------

    async def _send(self, name: str, commands: list[Command]) -> list[Any]:
        """The reply or the error of each command, from this node or from where it points to."""
        node = self._client.get_node(node_name=name)
        if node is None:
            raise RedisConnectionError(f"{name} has left the cluster")
        try:
            results = await self._exchange(node, commands)
        except (RedisError, OSError):
            self._learn(name)
            raise
        if any(isinstance(result, RedisConnectionError | ClusterDownError) for result in results):
            self._learn(name)
        return results

    async def _exchange(
        self, node: ClusterNode, commands: list[Command], asking: bool = False, left: int = REDIRECTIONS
    ) -> list[Any]:
        results = await taught(partial(self._pipeline, node, asking), commands)
        elsewhere: dict[tuple[ClusterNode, bool], list[int]] = {}
        for i, result in enumerate(results):
            if isinstance(result, AskError) and left:  # MovedError is one
                moved = isinstance(result, MovedError)
                target = await self._client.pointed_to(result, node)
                elsewhere.setdefault((target, not moved), []).append(i)
                if moved:
                    self._learn()
        for (target, ask), indexes in elsewhere.items():
            again = [commands[i] for i in indexes]
            try:
                replies = await self._exchange(target, again, ask, left - 1)
            except (RedisError, OSError) as error:
                replies = [error] * len(indexes)
            for i, reply in zip(indexes, replies, strict=True):
                results[i] = reply
        return results

    async def _pipeline(self, node: ClusterNode, asking: bool, commands: list[Command]) -> list[Any]:
        async with self._client.pipeline() as pipeline:
            for command in commands:
                if asking:  # holds for the next command on the same connection
                    pipeline.execute_command("ASKING", target_nodes=node)
                pipeline.execute_command(*command, target_nodes=node)
            results: list[Any] = await pipeline.execute(raise_on_error=False, allow_redirections=False)
        return results[1::2] if asking else results


def _allowed(takes: Sequence[Take], held: Held, wall: float) -> bool:
    """Whether the script took."""
    if isinstance(held, StoreError):
        return False
    return all(meter.answer(known, wall, cost).allowed for (_, meter, cost), known in zip(takes, held, strict=True))
