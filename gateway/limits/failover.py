"""A shared store with a plan for its absence: count here (`local`), let pass (`open`) or refuse (`closed`).

Each limit may have a plan of its own. Of limits that are asked together the strictest plan counts: one that must not
be guessed is not passed because another one may be.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, Protocol

from gateway.errors import Shed
from gateway.exchange import Quota
from gateway.limits.health import StoreHealth
from gateway.limits.memory import MemoryStore
from gateway.limits.store import Answer, StoreError, Take

OnFailure = Literal["local", "open", "closed"]

BY_STRICTNESS: tuple[OnFailure, ...] = ("open", "local", "closed")

NO_EXCEPTIONS: Mapping[str, OnFailure] = MappingProxyType({})

RETRY_AFTER = 1.0
"""Seconds a refused caller is asked to wait: the store is tried again about that often."""


class Remote(Protocol):
    """A store in the network: one server, or a cluster of them."""

    health: StoreHealth

    async def take(self, takes: Sequence[Take]) -> list[Quota]:
        """Take from all keys or from none. Raises StoreError."""

    async def check(self) -> bool:
        """Whether it answers; when it does not, that is known and logged from now on."""

    async def close(self) -> None:
        """Let go of the connections."""


class SharedStore:
    """A RateStore over the network: never an error but Shed, and no answer later than the store's timeout."""

    def __init__(
        self,
        shared: Remote,
        *,
        on_failure: OnFailure = "local",
        exceptions: Mapping[str, OnFailure] = NO_EXCEPTIONS,
        local: MemoryStore | None = None,
    ) -> None:
        """`exceptions` are the policies that have a plan of their own."""
        self._shared = shared
        self._on_failure = on_failure
        self._exceptions = exceptions
        self._local = local if local is not None else MemoryStore()

    @property
    def health(self) -> StoreHealth:
        """Tells whether it is `up`, for metrics and readiness."""
        return self._shared.health

    async def take(self, takes: Sequence[Take]) -> Answer:
        """As RateStore.take."""
        try:
            return await self._shared.take(takes), "", True
        except StoreError as error:
            return self._instead(takes, error.waited)

    async def check(self) -> bool:
        """As Remote.check."""
        return await self._shared.check()

    async def close(self) -> None:
        """As Remote.close."""
        await self._shared.close()

    def _instead(self, takes: Sequence[Take], waited: bool) -> Answer:
        plans = [self._exceptions.get(meter.policy, self._on_failure) for _, meter, _ in takes]
        match max(plans, key=BY_STRICTNESS.index):
            case "local":
                return self._local.take_all(takes), "local", waited
            case "open":
                return (), "open", waited
            case "closed":
                raise Shed("overloaded", 503, "Rate limits cannot be checked at the moment.", retry_after=RETRY_AFTER)
