"""Keeps one instance's records the same in three places: in this process, in the shared store, in the copy for workers.

With a shared store the hash there is the truth; else the copy in the instance's folder is. A store that has forgotten
(flushed, evicted, replaced by an empty one) gets back what is known here: else revoked tokens would be good again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.auth.records import EMPTY, MOST, Contents, Record, read, write

if TYPE_CHECKING:
    from gateway.auth.shared_records import SharedRecords  # at run time only where there is a Redis: 0.1 s to import

log = logging.getLogger("gateway.auth")

POLL = 0.3
"""Seconds between two looks at the store: with a worker's looks at the copy, well under a second."""

SWEEP = 60.0
"""Seconds between two removals of what has expired."""

AWAY = "the store is away: nothing was changed"
UNSURE = "the store did not answer: look at the list, when it is back, for whether this was changed"
HELD = "the gateway hands over to its successor: nothing was changed; ask again in a few seconds"
FULL = f"the list is full: it holds {MOST} keys and revocations; withdraw some, and give revocations a lifetime"


class LedgerError(Exception):
    """What was asked for is not in force here; the text is for the operator."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status  # 404 unknown id, 409 not possible, 503 the store is away


class SharedRecordsError(Exception):
    """The store gave no answer, or none of use; the text is for the operator."""


class KeptRecords:
    """Starts with what the copy says, which another process of this instance may have left."""

    def __init__(
        self,
        copy: Path,
        backend: SharedRecords | None,
        *,
        alone: bool,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._copy = copy
        self._backend = backend
        self._clock = clock
        self._sleep = sleep
        self._contents = _left_behind(copy)
        self._known: int | None = None  # the store's version that is here; None: whatever it has, fetch it
        self._alone = alone  # what is here has never been in the store, so its version says nothing about it
        self.held = False
        self.looked = asyncio.Event()
        self._lock = asyncio.Lock()
        self._swept = clock()
        self._trouble = ""

    @property
    def contents(self) -> Contents:
        """All records, those that have expired for a while yet."""
        return self._contents

    async def follow(self) -> None:
        """For ever: see what other instances changed, and drop what has expired."""
        while True:
            try:
                async with self._lock:
                    await self._refresh()
                    await self._sweep()
            except SharedRecordsError as error:
                self._complain("the store is away, the last keys and revocations stay in force", str(error))
            except OSError as error:
                self._complain("the copy of keys and revocations cannot be written", str(error))
            except LedgerError as error:  # of the sweep, which comes again
                self._complain("what has expired cannot be removed", str(error))
            else:
                self._recover()
            self.looked.set()
            await self._sleep(POLL)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One change at a time, each on top of what the store says now. Raises LedgerError."""
        async with self._lock:
            if self.held and self._backend is None:
                raise LedgerError(409, HELD)
            try:
                await self._refresh()
            except SharedRecordsError:
                raise LedgerError(503, AWAY) from None
            except OSError as error:
                raise LedgerError(503, f"nothing was changed, for the copy cannot be written: {error}") from None
            yield

    async def change(self, made: Collection[Record] = (), removed: Collection[str] = (), needed: str = "") -> None:
        """Within a turn: in the store first, then here, so that after a success it is in force here.

        Not if the record with the id `needed` is gone, because another instance was faster. Raises LedgerError.
        """
        before = self._contents
        records = {record.id: record for record in before.records if record.id not in removed}
        records |= {record.id: record for record in made}
        if len(records) > max(MOST, len(before.records)):
            raise LedgerError(409, FULL)
        if self._backend is not None:
            await self._store(self._backend, made, removed, needed)
        try:
            # If others came between, the store's version is higher by now: so the next look fetches theirs.
            self._adopt(Contents.of(before.version + 1, records.values()))
        except OSError as error:
            done = "this is in the store, but not in force here yet" if self._backend else "nothing was changed"
            raise LedgerError(503, f"{done}, for the copy cannot be written: {error}") from None

    async def _store(
        self, backend: SharedRecords, made: Collection[Record], removed: Collection[str], needed: str
    ) -> None:
        try:
            version = await (backend.remove(*removed) if removed else backend.put(*made, needed=needed))
        except SharedRecordsError:
            self._known = None
            raise LedgerError(503, UNSURE) from None
        if version == 0:
            raise LedgerError(404, f"{needed} was withdrawn in this moment")

    async def _refresh(self) -> None:
        """Bring here what the store has. Raises SharedRecordsError; OSError when the copy cannot be written."""
        if self._backend is None:
            return
        known, self._known = self._known, None  # after any failure all is fetched: it may be another store by then
        found = await self._backend.fetch(known)
        if found is None:
            self._known = known
            return
        lost = self._lost(found)
        if lost.records:
            await self._backend.restore(lost, found.version)
            if self._alone:
                log.info("%d keys and revocations were written into the store, which is new here", len(lost.records))
            else:
                log.warning("the store had lost %d keys and revocations; they were written back", len(lost.records))
            found = await self._backend.fetch(None) or found
            if found.version <= lost.version:  # emptied again in this moment: to believe it would lose them here, too
                raise SharedRecordsError("the store forgets what is written there")
        self._adopt(found)
        self._alone = False

    def _lost(self, found: Contents) -> Contents:
        """What is here and not there, although the store's version does not say that it was changed since."""
        here = self._contents
        if found.version > here.version and not self._alone:
            return EMPTY
        there, now = {record.id for record in found.records}, self._clock()
        missing = (each for each in here.records if each.id not in there)
        return Contents.of(here.version, (each for each in missing if each.expires is None or each.expires > now))

    async def _sweep(self) -> None:
        now = self._clock()
        if now - self._swept < SWEEP:
            return
        self._swept = now
        ended = {each.id for each in self._contents.records if each.expires is not None and each.expires <= now}
        if ended:
            await self.change(removed=ended)

    def _adopt(self, contents: Contents) -> None:
        write(self._copy, contents)
        self._contents = contents
        self._known = contents.version

    def _complain(self, trouble: str, why: str) -> None:
        if trouble != self._trouble:  # three times a second it would be no news
            log.warning("%s: %s", trouble, why)
            self._trouble = trouble

    def _recover(self) -> None:
        if self._trouble:
            log.warning("keys and revocations are up to date again")
            self._trouble = ""


def _left_behind(copy: Path) -> Contents:
    try:
        return read(copy)
    except FileNotFoundError:
        return EMPTY
    except (OSError, ValueError) as error:
        log.error("the copy of keys and revocations cannot be read, what only it knew is lost: %s: %s", copy, error)
        return EMPTY
