"""The records of all instances, in one hash of Redis (or Valkey): what is written there, and how it is read.

Field `version` grows with each change; `key:ID` and `revocation:ID` hold the JSON that the copies hold, too. A change
is one step for everybody else. Others may write there, so what is read is checked, and what is no record is left out.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from redis.exceptions import RedisError

from gateway.auth.kept_records import SharedRecordsError as SharedRecordsError
from gateway.auth.records import Contents, Record, dump, parse
from gateway.limits.clients import Client

log = logging.getLogger("gateway.auth")

VERSION = b"version"

KINDS = {"key_": "key", "rev_": "revocation"}
"""By what their ids begin with."""

PUT = """
if ARGV[1] ~= '' and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return redis.call('HINCRBY', KEYS[1], 'version', 1)
"""
"""A script and no transaction, because it may depend on what is there."""

TOGETHER = """
-- ARGV: for each command its name, how many arguments it has, and these
local answer
local i = 1
while ARGV[i] do
  local last = i + 1 + tonumber(ARGV[i + 1])
  answer = redis.call(ARGV[i], KEYS[1], unpack(ARGV, i + 2, last))
  i = last + 1
end
return answer
"""
"""A script here, too: of a transaction in a cluster, the library runs each command in a thread and loop of its own."""


class SharedRecords:
    """The hash `{prefix}records`. Every method raises SharedRecordsError, and may have been heard all the same."""

    def __init__(self, client: Client, prefix: bytes = b"gw:") -> None:
        self._client = client
        self._hash = prefix + b"records"
        self._skipped: frozenset[bytes] = frozenset()

    async def fetch(self, known: int | None) -> Contents | None:
        """All records, of version 0 when there is no hash; None if `known` is still their version."""
        with _told():
            if known is not None and _number(await self._do("HGET", self._hash, VERSION)) == known:
                return None
            fields = await self._do("HGETALL", self._hash)
        return Contents.of(_number(fields.pop(VERSION, None)), self._records(fields))

    async def put(self, *records: Record, needed: str = "") -> int:
        """Write them, over those with the same ids; returns the version that this makes.

        0, and nothing is written, if the record with the id `needed` is gone.
        """
        pairs = [part for record in records for part in (_field(record.id), dump(record))]
        condition = _field(needed) if needed else b""
        with _told():
            return int(await self._do("EVAL", PUT, 1, self._hash, condition, *pairs))

    async def remove(self, *ids: str) -> int:
        """Delete the records with these ids; returns the version that this makes."""
        with _told():
            return int(await self._together(["HDEL", *map(_field, ids)], ["HINCRBY", VERSION, 1]))

    async def restore(self, lost: Contents, found: int) -> None:
        """Write back what Redis has lost and is not there by now. Its version goes beyond both `lost` and `found`.

        So every instance reads the whole list again, whichever part of it it still had.
        """
        back = [["HSETNX", _field(record.id), dump(record)] for record in lost.records]
        ahead = max(lost.version - found, 0) + 1 if found else 1
        with _told():
            await self._together(*back, ["HSETNX", VERSION, lost.version], ["HINCRBY", VERSION, ahead])

    def _records(self, fields: dict[bytes, bytes]) -> list[Record]:
        found: list[Record] = []
        skipped: dict[bytes, str] = {}
        for name, value in fields.items():
            try:
                record = parse(value)
                if _field(record.id) != name:
                    raise ValueError("its id is another")
            except ValueError as error:
                skipped[name] = str(error)
            else:
                found.append(record)
        if skipped.keys() - self._skipped:
            name, why = next((name, why) for name, why in skipped.items() if name not in self._skipped)
            log.warning("left out of the shared keys and revocations: %d; %.80r: %s", len(skipped), name, why)
        self._skipped = frozenset(skipped)
        return found

    async def _do(self, *command: bytes | int | str) -> Any:
        return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]  # so are all its others

    async def _together(self, *commands: list[Any]) -> Any:
        """These commands on the hash, and nobody's between them; the answer to the last."""
        arguments = [part for name, *own in commands for part in (name, len(own), *own)]
        return await self._do("EVAL", TOGETHER, 1, self._hash, *arguments)


def _field(id: str) -> bytes:
    return f"{KINDS[id[:4]]}:{id}".encode()


def _number(value: bytes | None) -> int:
    if value is None:
        return 0
    if not value.isdigit() or len(value) > 18:  # Redis counts to 19 digits
        raise SharedRecordsError("the version in the store is not a number")
    return int(value)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise SharedRecordsError(f"{type(error).__name__}: {error}") from None
