"""Tasks beside the main one of a process: kept by reference, and their failures are told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

log = logging.getLogger("gateway.process")


class Chores:
    """Those of one process."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Do `work` in a task of its own."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def repeat(self, work: Callable[[], Awaitable[None]], pause: float, name: str, first: float = 0.0) -> None:
        """Do `work` for ever, `pause` seconds apart, from `first` seconds on. A failure is told, and is not the end."""

        async def again() -> None:
            await asyncio.sleep(first)
            while True:
                try:
                    await work()
                except Exception:  # out of descriptors or memory for a moment: the next time may be a better one
                    log.exception("%s failed", name)
                await asyncio.sleep(pause)

        self.start(again(), name)

    def cancel(self) -> None:
        """End all of them."""
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)
