"""Usage in Redis (or Valkey): a hash per hour and one per day, to which all workers of all instances add.

A field is `route TAB label TAB consumer`, and `TAB version` where there are versions; its value `calls errors refused
microseconds`. Fields without tabs are for the script: `#known`, how many fields count towards the bound, and
`#of:WORKER`, the last batch of a worker: one that is sent again, because its answer was lost, is not added again.
Others may write there, so what is read is checked, and what is no count is left out.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
from redis.exceptions import RedisError, ResponseError

from gateway.limits.clients import Client, connect, trouble
from gateway.telemetry.usage import DAYS, HOURS, HOURS_KEPT, OTHER, Batch, Key, Unit, UsageStoreError, text

log = logging.getLogger("gateway.usage")

TIMEOUT = 0.5
"""Seconds for an answer: unlike for a limit, nobody's request waits for it."""

SCANNED = 500
"""Fields that are read at a time: reading a whole hash would hold up the rate limits in the same store."""

LINE = re.compile(
    rb"^([^\t\n]*)\t([^\t\n]*)\t([^\t\n]*)(?:\t([^\t\n]*))?\t(\d{1,18}) (\d{1,18}) (\d{1,18}) (\d{1,18})$", re.MULTILINE
)
"""Route, label, consumer, perhaps version, and what is counted."""

ADD = f"""
-- KEYS[1]  the hash of an hour or day
-- ARGV     the worker's field, the batch's number, the bound, when the hash ends (Unix time),
--          and JSON: [[field, calls, errors, refused, microseconds], ...]
-- returns  1, or 0 for a batch that it has already
local hash, worker, number, bound = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if (tonumber(redis.call('HGET', hash, worker)) or 0) >= number then return 0 end
local known = tonumber(redis.call('HGET', hash, '#known')) or 0
for _, counted in ipairs(cjson.decode(ARGV[5])) do
  local field = counted[1]
  local route, version = string.match(field, '^([^\\t]*)\\t[^\\t]*\\t[^\\t]*(.*)$')
  local other = route .. '\\t\\t{OTHER}' .. version
  local value = redis.call('HGET', hash, field)
  if not value and field ~= other then
    if known < bound then
      known = known + 1
    else
      field = other
      value = redis.call('HGET', hash, field)
    end
  end
  local calls, errors, refused, took = string.match(value or '', '^(%d+) (%d+) (%d+) (%d+)$')
  redis.call('HSET', hash, field, string.format('%.0f %.0f %.0f %.0f',
    (calls or 0) + counted[2], (errors or 0) + counted[3], (refused or 0) + counted[4], (took or 0) + counted[5]))
end
redis.call('HSET', hash, worker, ARGV[2], '#known', known)
redis.call('EXPIREAT', hash, ARGV[4])
return 1
"""

SCAN = """
-- KEYS[1]  the hash; ARGV: a cursor as for HSCAN, and how many fields
-- returns  the next cursor, and the fields as one text, which is taken apart ten times as fast as many
local cursor, found = unpack(redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]))
local lines = {}
for i = 1, #found, 2 do
  lines[#lines + 1] = found[i] .. '\\t' .. found[i + 1]
end
return {cursor, table.concat(lines, '\\n')}
"""

Counted = tuple[Key, tuple[int, int, int, int]]
"""Calls, errors, refused, and the microseconds that they took in all."""


class UsageStore:
    """The hashes `{prefix}usage:h:2026112110` and `{prefix}usage:d:20261121`. Both methods raise UsageStoreError."""

    def __init__(self, client: Client, *, prefix: bytes = b"gw:", callers: int = 10_000, keep: float) -> None:
        """`callers` and routes are told apart in one hour or day; days are kept for `keep` seconds."""
        self._client = client
        self._prefix = prefix + b"usage:"
        self._callers = callers
        self._keep = keep
        self._skipped = b""

    async def add(self, batch: Batch) -> None:
        """Add a batch to its hour and its day, if they do not have it yet."""
        packed = orjson.dumps(
            [
                (_field(key), calls, errors, refused, round(seconds * 1e6))
                for key, (calls, errors, refused, seconds) in batch.items
            ]
        )
        # One after the other: in a cluster they are at different nodes, and only commands alone are sent after a node
        # that has moved. It is a round trip more in a second.
        for unit, period in ((HOURS, batch.hour), (DAYS, batch.hour // 24)):
            await self._add(batch, unit, period, packed)

    async def read(self, unit: Unit, first: int, end: int) -> AsyncIterator[list[Counted]]:
        """What was counted from the period `first` to before `end`, the newest first, some at a time."""
        for period in reversed(range(first, end)):
            seen: set[Key] = set()  # a scan may bring a field twice
            cursor = b"0"
            while True:
                with _told():
                    name = self._name(unit, period)
                    cursor, lines = await self._run(SCAN, name, cursor, SCANNED)
                counted = [each for found in LINE.finditer(lines) if (each := _parsed(found)) and each[0] not in seen]
                yield counted
                if cursor == b"0":
                    break
                seen.update(key for key, _ in counted)

    def kept(self, unit: Unit) -> float:
        """Seconds, from the end of a period."""
        return HOURS_KEPT if unit is HOURS else self._keep

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def _run(self, script: str, name: bytes, *arguments: bytes | int | str) -> Any:
        return await self._client.execute_command("EVAL", script, 1, name, *arguments)  # type: ignore[no-untyped-call]  # the cluster's

    async def _add(self, batch: Batch, unit: Unit, period: int, packed: bytes) -> None:
        name = self._name(unit, period)
        ends = round((period + 1) * unit.seconds + self.kept(unit))
        arguments: list[str | int | bytes] = [f"#of:{batch.worker}", batch.number, self._callers, ends, packed]
        with _told():
            try:
                await self._run(ADD, name, *arguments)
            except ResponseError as error:
                if "WRONGTYPE" not in str(error):
                    raise
                self._skip(name)  # to send it again would never help

    def _skip(self, name: bytes) -> None:
        if name != self._skipped:
            log.error("usage is not counted in %s of the store: something else has this name", name.decode())
        self._skipped = name

    def _name(self, unit: Unit, period: int) -> bytes:
        return self._prefix + f"{unit.letter}:{time.strftime(unit.form, time.gmtime(period * unit.seconds))}".encode()


def open_store(url: str, prefix: str, callers: int, keep: float) -> UsageStore:
    """A store with a client of its own."""
    return UsageStore(connect(url, TIMEOUT), prefix=prefix.encode(), callers=callers, keep=keep)


def _field(key: Key) -> str:
    label, consumer, route, version = key
    return f"{route}\t{label}\t{consumer}" + (f"\t{version}" if version else "")


def _parsed(found: re.Match[bytes]) -> Counted | None:
    """None for what is no count."""
    try:
        route, label, consumer, version = (text((name or b"").decode()) for name in found.group(1, 2, 3, 4))
    except UnicodeDecodeError:
        return None
    calls, errors, refused, took = map(int, found.group(5, 6, 7, 8))
    return (label, consumer, route, version), (calls, errors, refused, took)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise UsageStoreError(trouble(error)) from None
