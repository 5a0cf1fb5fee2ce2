"""Keeps the operators' decisions about credentials where the configuration says: in this instance or in a Redis."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.auth.ledger import Ledger
from gateway.config.model import Config

if TYPE_CHECKING:
    from gateway.limits.clients import Client

TIMEOUT = 1.0
"""Seconds for an answer of the store: unlike for a limit, nobody's request waits for it."""


class RecordKeeper:
    """Holds the ledger that is in force; in the operator process."""

    def __init__(self, copy: Path) -> None:
        self.ledger = Ledger(copy, None)
        self._copy = copy
        self._client: Client | None = None
        self._where: tuple[str, str] | None = None
        self._following: asyncio.Task[None] | None = None

    @property
    def loaded(self) -> bool:
        """The workers have something to go by."""
        return self._copy.exists()

    async def keep(self, config: Config) -> None:
        """Where `config` says, from now on; returns when the store was asked, or does not answer."""
        where = (config.store_url, config.store.prefix) if config.shares_records else None
        following = self._following is not None
        if following and (where == self._where or not config.keeps_records):
            return  # while nobody asks for the records they stay where they are: others may go on with them
        alone = following and self._where is None
        await self.close()
        self._where = where
        shared = None
        if where is not None:
            # Here, not at the top: who keeps them in this instance needs no client of a Redis, 0.1 s to import.
            from gateway.auth.shared_records import SharedRecords
            from gateway.limits.clients import connect

            client = self._client = connect(where[0], TIMEOUT)
            shared = SharedRecords(client, where[1].encode())
        self.ledger = Ledger(self._copy, shared, alone=alone)
        self._following = asyncio.get_running_loop().create_task(self.ledger.follow(), name="follow-records")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ledger.looked.wait(), TIMEOUT)

    async def close(self) -> None:
        """Follow no more."""
        following, self._following = self._following, None
        client, self._client = self._client, None
        if following is None:
            return
        if client is None:
            following.cancel()
            await asyncio.wait([following])
            return
        from gateway.limits.clients import end

        await end(following)
        await client.aclose()
