"""A shared store with a plan for its absence: count here (`local`), let pass (`open`) or refuse (`closed`)."""

from collections.abc import Sequence
from typing import Literal

from gateway.errors import Shed
from gateway.limits.health import StoreHealth
from gateway.limits.memory import MemoryStore
from gateway.limits.redis import RedisStore, StoreError
from gateway.limits.store import Answer, Take

OnFailure = Literal["local", "open", "closed"]

RETRY_AFTER = 1.0
"""Seconds a refused caller is asked to wait: the store is tried again about that often."""


class SharedStore:
    """A RateStore over Redis: never an error but Shed, and no answer later than the store's timeout."""

    def __init__(
        self, shared: RedisStore, *, on_failure: OnFailure = "local", local: MemoryStore | None = None
    ) -> None:
        self._shared = shared
        self._on_failure = on_failure
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
        """Whether the shared store answers; when it does not, that is known and logged from now on."""
        return await self._shared.check()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._shared.close()

    def _instead(self, takes: Sequence[Take], waited: bool) -> Answer:
        match self._on_failure:
            case "local":
                return self._local.take_all(takes), "local", waited
            case "open":
                return (), "open", waited
            case "closed":
                raise Shed("overloaded", 503, "Rate limits cannot be checked at the moment.", retry_after=RETRY_AFTER)
