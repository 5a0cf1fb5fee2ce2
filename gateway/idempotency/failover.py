"""Shared idempotency keys with a plan for the store's absence: keep them in this process, or refuse (`closed`).

`open` is the same as `local`: a worker that remembers what it can costs nobody anything. While the store is away a key
is exact within one worker only; a key that was first used then stays with the worker that has seen it.
"""

import contextlib
from typing import Protocol

from gateway.errors import Shed
from gateway.idempotency.memory import MemoryRecords
from gateway.idempotency.records import Answer, Begun, Claim
from gateway.limits.failover import RETRY_AFTER, OnFailure
from gateway.limits.health import StoreHealth
from gateway.limits.store import StoreError


class Remote(Protocol):
    """Records in the network: as Records, but every method may raise StoreError."""

    health: StoreHealth

    async def begin(self, claim: Claim, lease: float) -> Begun:
        """As Records.begin."""

    async def finish(self, claim: Claim, answer: Answer | None, keep: float) -> None:
        """As Records.finish."""

    async def abandon(self, claim: Claim) -> None:
        """As Records.abandon."""

    async def close(self) -> None:
        """As Records.close."""


class SharedRecords:
    """Implements Records: never an error but Shed, and no answer later than the store's timeout."""

    def __init__(self, shared: Remote, *, on_failure: OnFailure = "local", local: MemoryRecords | None = None) -> None:
        self._shared = shared
        self._closed = on_failure == "closed"
        self._local = local if local is not None else MemoryRecords()

    @property
    def health(self) -> StoreHealth:
        """Tells whether the store is `up`."""
        return self._shared.health

    async def begin(self, claim: Claim, lease: float) -> Begun:
        """As Records.begin."""
        if claim.key in self._local:
            return await self._local.begin(claim, lease)
        try:
            return await self._shared.begin(claim, lease)
        except StoreError:
            if self._closed:
                detail = "Idempotency keys cannot be checked at the moment."
                raise Shed("overloaded", 503, detail, retry_after=RETRY_AFTER) from None
            return await self._local.begin(claim, lease)

    async def finish(self, claim: Claim, answer: Answer | None, keep: float) -> None:
        """As Records.finish; where the store has gone since `begin`, a repetition at this worker gets the reply."""
        if not self._local.owns(claim):
            try:
                await self._shared.finish(claim, answer, keep)
                return
            except StoreError:
                pass  # it has been logged; that the upstream has done its work must not be lost
        await self._local.finish(claim, answer, keep)

    async def abandon(self, claim: Claim) -> None:
        """As Records.abandon."""
        if self._local.owns(claim):
            await self._local.abandon(claim)
            return
        with contextlib.suppress(StoreError):  # then the lease frees it
            await self._shared.abandon(claim)

    async def close(self) -> None:
        """As Records.close."""
        await self._shared.close()
