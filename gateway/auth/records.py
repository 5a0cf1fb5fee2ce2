"""API keys and revocations that operators make while the gateway runs: how they are written, and how workers see them.

The operator process keeps them (`ledger.py`) and writes a copy into the instance's folder. A worker looks at that file
a few times a second, so no request waits for it, and the last list that was read stays in force whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import orjson

from gateway.auth.revocations import Revocations
from gateway.errors import Shed
from gateway.exchange import Caller
from gateway.files import replace_file

log = logging.getLogger("gateway.auth")

MOST = 20_000
"""Records in all. Each worker holds them in memory, and reads all of them when one has changed."""

LONGEST_NAME = 256
"""Characters of a jti, a consumer, a provider; OpenID Connect allows 255 for a subject."""

LONGEST_NOTE = 200
LAST_SECOND = 253_402_300_799
"""The end of the year 9999; what is meant to last for ever says None."""

IDS = {"key": re.compile(r"key_[0-9a-f]{12}"), "revocation": re.compile(r"rev_[0-9a-f]{12}")}
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

BREATH = 256, 0.0001
"""After so many lines the thread that reads sleeps so many seconds: else it takes 5 ms at a time from the loop."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key that is kept here, not in the configuration. Times are wall-clock seconds."""

    id: str
    consumer: str
    digest: str
    """`sha256:` and hexadecimal digits."""
    created: float
    expires: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Revocation:
    """Credentials that are not valid any more; "" and None mean any. jti, consumer or issued_before is given."""

    id: str
    jti: str
    consumer: str
    provider: str
    issued_before: float | None
    created: float
    expires: float | None
    """When the last token that it is about has ended by itself."""


Record = StoredKey | Revocation


class Contents(NamedTuple):
    """All records. The version grows with each change; 0 is before the first."""

    version: int
    keys: tuple[StoredKey, ...]
    revocations: tuple[Revocation, ...]

    @classmethod
    def of(cls, version: int, records: Iterable[Record]) -> Contents:
        """These records, in any order."""
        keys: list[StoredKey] = []
        revocations: list[Revocation] = []
        for record in records:
            if isinstance(record, StoredKey):
                keys.append(record)
            else:
                revocations.append(record)
        return cls(version, tuple(keys), tuple(revocations))

    @property
    def records(self) -> tuple[Record, ...]:
        """Keys and revocations."""
        return self.keys + self.revocations


EMPTY = Contents(0, (), ())


def dump(record: Record) -> bytes:
    """One line of JSON, without its end."""
    return orjson.dumps(record)


def parse(line: bytes) -> Record:
    """What `dump` made, and nothing else. Raises ValueError, which says what is wrong but not what it holds."""
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ValueError("not JSON") from None
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    try:
        record = StoredKey(**fields) if "digest" in fields else Revocation(**fields)
    except TypeError:
        raise ValueError("fields are missing, or not known here") from None
    check(record)
    return record


def check(record: Record) -> None:
    """Raises ValueError, for the operator, unless every field is what it must be. All go into logs and lists."""
    if isinstance(record, StoredKey):
        _form(record.id, IDS["key"], "the id of a key")
        _form(record.digest, DIGEST, "digest")
        _text(record.note, LONGEST_NOTE, "note")
        if not record.consumer:
            raise ValueError("a key belongs to a consumer")
    else:
        _form(record.id, IDS["revocation"], "the id of a revocation")
        _text(record.jti, LONGEST_NAME, "jti")
        _text(record.provider, LONGEST_NAME, "provider")
        if record.issued_before is not None:
            _second(record.issued_before, "issued_before")
        elif not (record.jti or record.consumer):
            raise ValueError("a revocation gives at least one of jti, consumer and issued_before")
    _text(record.consumer, LONGEST_NAME, "consumer")
    _second(record.created, "created")
    if record.expires is not None:
        _second(record.expires, "expires")


def _form(value: object, form: re.Pattern[str], name: str) -> None:
    if not isinstance(value, str) or form.fullmatch(value) is None:
        raise ValueError(f"{name} does not have the form {form.pattern}")


def _text(value: object, longest: int, name: str) -> None:
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise ValueError(f"{name} must be at most {longest} printable characters")


def _second(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LAST_SECOND:
        raise ValueError(f"{name} must be a time between the years 1970 and 9999")


def write(path: Path, contents: Contents) -> None:
    """Replace the copy in one step: who reads it sees the one or the other. Raises OSError."""
    lines = [orjson.dumps({"version": contents.version}), *map(dump, contents.records)]
    replace_file(path, b"\n".join(lines) + b"\n")


def read(path: Path) -> Contents:
    """What `write` wrote. Raises OSError, and ValueError for anything else."""
    records: list[Record] = []
    often, pause = BREATH
    with path.open("rb") as file:
        version = _version(file.readline())
        for number, line in enumerate(file, 2):
            try:
                records.append(parse(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            if number % often == 0:
                time.sleep(pause)
    return Contents.of(version, records)


def _version(line: bytes) -> int:
    with contextlib.suppress(orjson.JSONDecodeError):
        first = orjson.loads(line)
        if isinstance(first, dict) and first.keys() == {"version"}:
            version = first["version"]
            if isinstance(version, int) and not isinstance(version, bool) and version >= 0:
                return version
    raise ValueError("line 1: no version")


@dataclass(frozen=True, slots=True)
class _Lists:
    """What a worker asks. Built in a thread and swapped in one step: no request ever sees half of it."""

    consumers: Mapping[bytes, StoredKey]
    """By the SHA-256 of the key."""
    revocations: Revocations | None
    """None when nothing is revoked, which is what most requests find."""


UNREAD = _Lists({}, Revocations(()))


class Records:
    """What a worker consults; `look` keeps it up to date with the copy at `path`."""

    def __init__(self, path: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.expected = False
        """A list is shared, so before it was read nothing can be said: then `Shed` (503) is raised."""
        self._path = path
        self._clock = clock
        self._lists = UNREAD
        self._seen: tuple[int, int, int] | None = None
        self._trouble = ""

    @property
    def loaded(self) -> bool:
        """A copy was read, or none is expected."""
        return not self.expected or self._lists is not UNREAD

    async def look(self) -> None:
        """Read the copy if it has changed. One that cannot be read changes nothing."""
        if self._path is None:
            return
        try:
            info = self._path.stat()
            seen = (info.st_mtime_ns, info.st_ino, info.st_size)
            if seen == self._seen:
                return
            self._lists = await asyncio.to_thread(_load, self._path)
        except FileNotFoundError:  # not written yet; nobody ever removes it
            return
        except OSError as error:  # perhaps only for the moment: so the next look tries again
            self._complain(error.strerror or str(error))
            return
        except ValueError as error:
            self._complain(str(error))
        else:
            self._trouble = ""
        self._seen = seen

    def consumer_of(self, digest: bytes) -> str | None:
        """The consumer of the key with this SHA-256, None when there is none or it has ended."""
        lists = self._lists
        key = lists.consumers.get(digest)
        if key is None:
            if lists is UNREAD and self.expected:
                raise _unavailable()
            return None
        return key.consumer if key.expires is None or key.expires > self._clock() else None

    def revoked(self, caller: Caller) -> bool:
        """Whether the credential that made this caller is not valid any more."""
        lists = self._lists
        revocations = lists.revocations
        if revocations is None:
            return False
        if lists is UNREAD and self.expected:
            raise _unavailable()
        return revocations.cover(caller, self._clock)

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.error("keys and revocations cannot be read, the last ones stay in force: %s: %s", self._path, trouble)
            self._trouble = trouble


def _load(path: Path) -> _Lists:
    _, keys, revocations = read(path)
    consumers = {bytes.fromhex(key.digest.removeprefix("sha256:")): key for key in keys}
    return _Lists(consumers, Revocations(revocations) if revocations else None)


def _unavailable() -> Shed:
    return Shed("identity_unavailable", 503, retry_after=1)
