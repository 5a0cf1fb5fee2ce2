"""What operators do to API keys and revocations while the gateway runs: make, rotate, withdraw, revoke, lift.

In the operator process only. Each change is logged, a secret never; a key is told once and kept as a digest.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from gateway.auth.kept_records import KeptRecords
from gateway.auth.kept_records import LedgerError as LedgerError  # what callers of this module catch
from gateway.auth.new_key import new_key
from gateway.auth.records import Revocation, StoredKey, check

if TYPE_CHECKING:
    from gateway.auth.shared_records import SharedRecords

log = logging.getLogger("gateway.auth")

SomeRecord = TypeVar("SomeRecord", StoredKey, Revocation)


class NewKey(NamedTuple):
    """A key that was made just now."""

    key: str
    """To be shown once: it is kept nowhere."""
    record: StoredKey


class Ledger:
    """The keys and revocations of this instance, or with a shared store of all; without `follow` it goes stale.

    Every change raises ValueError for arguments that are none, LedgerError for what cannot be done. Times are in
    seconds.
    """

    def __init__(
        self,
        copy: Path,
        backend: SharedRecords | None,
        *,
        alone: bool = False,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`copy` is the file that workers read; without a `backend` it is also all that is known.

        `alone` says that the copy was made without any: the backend gets what it does not have.
        """
        self._kept = KeptRecords(copy, backend, alone=alone, clock=clock, sleep=sleep)
        self._clock = clock
        self.durable = backend is not None
        """The records outlive this instance."""
        self.looked = self._kept.looked
        """Set when `follow` has asked the backend for the first time, whatever it has answered."""

    def keys(self) -> list[StoredKey]:
        """Those that have not expired, the oldest first."""
        return self._living(self._kept.contents.keys)

    def revocations(self) -> list[Revocation]:
        """Those that have not expired, the oldest first."""
        return self._living(self._kept.contents.revocations)

    async def create_key(self, consumer: str, *, lifetime: float | None = None, note: str = "") -> NewKey:
        """A key for `consumer`; that there is such a one is for the caller to know."""
        new = self._new_key(consumer, lifetime, note)
        async with self._kept.turn():
            await self._kept.change(made=[new.record])
        log.info("key %s of %s made", new.record.id, consumer)
        return new

    async def rotate_key(self, id: str, *, overlap: float = 86400.0) -> NewKey:
        """Another key in the place of this one, for as long as this one was made for; this one ends after `overlap`."""
        if not overlap >= 0:
            raise ValueError("overlap must be 0 seconds or more")
        async with self._kept.turn():
            old = self._named(id, self._kept.contents.keys)
            new = self._new_key(old.consumer, None if old.expires is None else old.expires - old.created, old.note)
            ends = new.record.created + overlap
            ending = replace(old, expires=ends if old.expires is None else min(ends, old.expires))
            check(ending)
            await self._kept.change(made=[new.record, ending], needed=id)
        log.info("key %s of %s made in the place of %s, which ends in %.0f s", new.record.id, old.consumer, id, overlap)
        return new

    async def revoke_key(self, id: str) -> StoredKey:
        """Withdraw a key, from now on."""
        async with self._kept.turn():
            key = self._named(id, self._kept.contents.keys)
            await self._kept.change(removed=[id])
        log.info("key %s of %s withdrawn", id, key.consumer)
        return key

    async def revoke(
        self,
        *,
        jti: str = "",
        consumer: str = "",
        provider: str = "",
        issued_before: float | None = None,
        lifetime: float | None = None,
    ) -> Revocation:
        """Revoke the credentials of which all of this is true, until it is lifted or for `lifetime`."""
        now = self._clock()
        made = Revocation(
            "rev_" + secrets.token_hex(6), jti, consumer, provider, issued_before, now, _end(now, lifetime)
        )
        check(made)
        async with self._kept.turn():
            await self._kept.change(made=[made])
        log.info("revoked: %s", _described(made))
        return made

    async def lift(self, id: str) -> Revocation:
        """Take a revocation back."""
        async with self._kept.turn():
            lifted = self._named(id, self._kept.contents.revocations)
            await self._kept.change(removed=[id])
        log.info("no longer revoked: %s", _described(lifted))
        return lifted

    def hold(self, held: bool) -> None:
        """Refuse changes of what only this instance knows, because another one takes it over."""
        self._kept.held = held

    async def follow(self) -> None:
        """For ever: see what other instances changed, and drop what has expired."""
        await self._kept.follow()

    def _living(self, records: Iterable[SomeRecord]) -> list[SomeRecord]:
        now = self._clock()
        living = (record for record in records if record.expires is None or record.expires > now)
        return sorted(living, key=lambda record: (record.created, record.id))

    def _named(self, id: str, records: Iterable[SomeRecord]) -> SomeRecord:
        for record in records:
            if record.id == id and (record.expires is None or record.expires > self._clock()):
                return record
        raise LedgerError(404, "there is none with this id, or it has expired")

    def _new_key(self, consumer: str, lifetime: float | None, note: str) -> NewKey:
        key, digest = new_key()
        now = self._clock()
        record = StoredKey("key_" + secrets.token_hex(6), consumer, digest, now, _end(now, lifetime), note)
        check(record)
        return NewKey(key, record)


def _end(now: float, lifetime: float | None) -> float | None:
    if lifetime is None:
        return None
    if not lifetime > 0:
        raise ValueError("lifetime must be more than 0 seconds")
    return now + lifetime


def _described(made: Revocation) -> str:
    given = {"jti": made.jti, "consumer": made.consumer, "provider": made.provider, "issued_before": made.issued_before}
    return ", ".join(f"{name} {value}" for name, value in given.items() if value not in ("", None)) + f" ({made.id})"
