"""Keeps the embedded store running for as long as the gateway does, once a configuration has asked for it."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from gateway.config.model import Config
from gateway.process.chores import Chores
from gateway.process.restarts import Restarts
from gateway.process.store import EmbeddedStore, StoreServerError

log = logging.getLogger("gateway.store")

LOOK = 0.1
"""Seconds between two looks at whether it lives."""

READY_WITHIN = 1.0
"""Seconds that everything stands still at most for a store that starts again; it takes 0.04."""


class StoreKeeper:
    """The store of one gateway; none, until one is needed. Its socket is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store: EmbeddedStore | None = None
        self._chores = Chores()

    @property
    def url(self) -> str:
        """Where it listens; "" while there is none."""
        return self._store.url if self._store is not None else ""

    def open(self, config: Config) -> None:
        """Start it if `config` needs it and it does not run. Raises StoreServerError."""
        if self._store is None and config.store_url == "embedded" and config.limits:
            store = EmbeddedStore(self._folder)
            store.start()
            store.wait_ready()
            self._store = store
            self._chores.start(self._keep(store), "keep-store")

    def close(self, patience: float = 2.0) -> None:
        """End it, at the latest after `patience` seconds."""
        self._chores.cancel()
        if self._store is not None:
            self._store.stop(patience)

    async def _keep(self, store: EmbeddedStore) -> None:
        """Restart it when it ends; its counters are lost, the limits begin anew."""
        restarts = Restarts()
        born = time.monotonic()
        while True:
            await asyncio.sleep(LOOK)
            if not store.ended():
                continue
            log.error("the embedded store has ended and is started again: rate limits begin anew")
            await asyncio.sleep(restarts.wait(time.monotonic() - born))
            born = time.monotonic()
            try:
                store.start()
                store.wait_ready(READY_WITHIN)
            except StoreServerError as error:
                log.error("%s", error)
