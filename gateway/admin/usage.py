"""The admin API for usage: who called what, how often, in a stretch of whole hours or days (UTC).

It adds up what the store has: never more than MOST_GROUPS at a time, and for one question after another.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

from aiohttp import web

from gateway.admin.answers import Reader, Refusal, answer, invalid, parameters, problem
from gateway.admin.times import instant, written
from gateway.config.complaints import show
from gateway.telemetry.usage import DAYS, HOURS, OTHER, Key, Unit, UsageStoreError, text

if TYPE_CHECKING:
    from gateway.admin.app import Instance
    from gateway.config.model import Config
    from gateway.config.versions import Version
    from gateway.telemetry.usage_store import Counted, UsageStore

DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
BY = ("consumer", "route")
EVERY = ("consumer", "route", "version")
UNITS = {unit.name: unit for unit in (HOURS, DAYS)}

USUAL_STRETCH = 86400.0
"""Seconds up to `to`, where nobody says `from`."""

USUAL_ROWS = 100
MOST_ROWS = 1000

MOST_GROUPS = 100_000
"""Rows that are told apart while they are added up, in 50 MB; the callers of many days can be more."""

Group = tuple[str, ...]
"""Of a key, what is asked for: label and consumer, the route, the version, or all four."""

Sums = list[int]
"""Calls, errors, refused, microseconds."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be added up."""

    unit: Unit
    first: int
    """Number of the first hour or day, since 1970."""
    end: int
    """Number of the one after the last."""
    by: tuple[str, ...]
    limit: int
    route: str | None
    """Only this one."""
    consumer: str | None
    version: str | None
    retiring: Mapping[tuple[str, str], Version]
    """By route and version: those that go away."""
    deprecated: bool
    """Only calls to these."""

    def group(self, key: Key) -> Group:
        label, consumer, route, version = key
        return (
            *((label, consumer) if "consumer" in self.by else ()),
            *((route,) if "route" in self.by else ()),
            *((version,) if "version" in self.by else ()),
        )

    def wants(self, key: Key) -> bool:
        return (
            self.consumer in (None, key[1])
            and self.route in (None, key[2])
            and self.version in (None, key[3])
            and (not self.deprecated or key[2:] in self.retiring)
        )

    def row(self, group: Group) -> dict[str, Any]:
        """What a group is called. Empty is an anonymous caller, no route, or one without versions."""
        names = (*(("label",) if "consumer" in self.by else ()), *(each for each in EVERY if each in self.by))
        named: dict[str, Any] = dict(zip(names, group, strict=True))
        version = self.retiring.get((named.get("route", ""), named.get("version", "")))
        if version is not None:
            dates = {"deprecated": version.deprecated, "sunset": version.sunset, "successor": version.successor}
            named |= {key: value for key, value in dates.items() if value is not None}
        return named


class Usage:
    """The endpoint of one instance; `clock` is the wall clock."""

    def __init__(self, instance: Instance, clock: Callable[[], float] = time.time) -> None:
        self._instance = instance
        self._clock = clock
        self._turn = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        """All there are."""
        return [web.get("/api/v1/usage", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        try:
            return answer(200, await self._answer(parameters(request, READERS)))
        except Refusal as refusal:
            return problem(refusal.status, refusal.code, refusal.title, detail=str(refusal))
        except UsageStoreError as error:
            return problem(503, "store_unavailable", "The store is away", detail=f"it did not tell: {error}")

    async def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        store = self._instance.usage
        if store is None:
            detail = "usage is not counted: the configuration has no `usage`"
            raise Refusal(409, "conflict", "Not possible", detail)
        now = self._clock()
        question = _question(asked, store, now, _retiring(self._instance.settings))
        async with self._turn:
            sums = await _added_up(store, question)
        unit = question.unit
        busiest = nsmallest(question.limit, sums.items(), key=lambda entry: (-entry[1][0], entry[0]))
        return {
            "from": written(question.first * unit.seconds),
            "to": written(min(question.end * unit.seconds, now)),
            "unit": unit.name,
            "kept_since": written(_oldest(store, unit, now) * unit.seconds),
            "durable": self._instance.settings.store_url != "embedded",
            "by": list(question.by),
            "total": _figures([sum(column) for column in zip(*sums.values(), strict=True)] or [0, 0, 0, 0]),
            "groups": len(sums),
            "rows": [{**question.row(group), **_figures(each)} for group, each in busiest],
        }


async def _added_up(store: UsageStore, question: Question) -> dict[Group, Sums]:
    sums: dict[Group, Sums] = {}
    async for counted in store.read(question.unit, question.first, question.end):
        _add(sums, counted, question)
    return sums


def _add(sums: dict[Group, Sums], counted: list[Counted], question: Question) -> None:
    for key, numbers in counted:
        if not question.wants(key):
            continue
        group = question.group(key)
        if group not in sums and len(sums) >= MOST_GROUPS:
            group = question.group(("", OTHER, key[2], key[3]))
        each = sums.setdefault(group, [0, 0, 0, 0])
        for column, number in enumerate(numbers):
            each[column] += number


def _retiring(config: Config) -> dict[tuple[str, str], Version]:
    return {
        (route.name, name): version
        for route in config.routes
        if route.versions is not None
        for name, version in route.versions.retiring.items()
    }


def _figures(sums: Sums) -> dict[str, float]:
    calls, errors, refused, took = sums
    shared = max(calls, 1)
    return {
        "calls": calls,
        "errors": errors,
        "refused": refused,
        "error_share": round(errors / shared, 6),
        "refused_share": round(refused / shared, 6),
        "average_ms": round(took / shared / 1000, 3),
    }


# -- what is asked -------------------------------------------------------------------------------------


def _question(
    asked: dict[str, Any], store: UsageStore, now: float, retiring: Mapping[tuple[str, str], Version]
) -> Question:
    """What is asked, with all that was not said. Raises Refusal for a time of which nothing is kept."""
    end = min(asked.get("to", now), now)
    begin = asked.get("from", end - USUAL_STRETCH)
    if begin >= end:
        raise invalid("from: is not before " + ("`to`" if asked.get("to", now) < now else "now"))
    unit = asked.get("unit") or (HOURS if begin >= _oldest(store, HOURS, now) * HOURS.seconds else DAYS)
    oldest = _oldest(store, unit, now)
    after = -int(-end // unit.seconds)  # a period that has begun counts as a whole
    if after <= oldest:
        raise invalid(f"to: {unit.name} are kept since {written(oldest * unit.seconds)} only")
    first = max(int(begin // unit.seconds), oldest)
    deprecated = asked.get("deprecated", False)
    by, limit = asked.get("by", EVERY if deprecated else BY), asked.get("limit", USUAL_ROWS)
    names = asked.get("route"), asked.get("consumer"), asked.get("version")
    return Question(unit, first, after, by, limit, *names, retiring, deprecated)


def _oldest(store: UsageStore, unit: Unit, now: float) -> int:
    """Number of the first period that is still kept."""
    return int((now - store.kept(unit)) // unit.seconds)


def _from(value: object) -> float:
    """A time, or a day: its beginning."""
    if not isinstance(value, str) or not DAY.fullmatch(value):
        try:
            return instant(value)
        except ValueError:
            raise ValueError(f"{show(value)} is neither a day such as 2026-11-21 nor a time such as {TIME}") from None
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ValueError(f"{show(value)} is not in the calendar") from None


def _to(value: object) -> float:
    """A time, or a day: its end."""
    whole_day = isinstance(value, str) and DAY.fullmatch(value)
    return _from(value) + (DAYS.seconds if whole_day else 0)


def _by(value: object) -> tuple[str, ...]:
    parts = str(value).split(",")
    if len(set(parts)) != len(parts) or not set(parts) <= set(EVERY):
        raise ValueError(f"{show(value)} is not some of consumer,route,version")
    return tuple(parts)


def _unit(value: object) -> Unit:
    if value not in UNITS:
        raise ValueError(f"{show(value)} is neither hours nor days")
    return UNITS[str(value)]


def _flag(value: object) -> bool:
    if value not in ("true", "false"):
        raise ValueError(f"{show(value)} is neither true nor false")
    return value == "true"


def _limit(value: object) -> int:
    found = re.fullmatch(r"[0-9]{1,4}", str(value))
    if found is None or not 1 <= int(found[0]) <= MOST_ROWS:
        raise ValueError(f"{show(value)} is not a number from 1 to {MOST_ROWS}")
    return int(found[0])


def _name(value: object) -> str:
    """As the store has it; empty for an anonymous caller, or no route."""
    return text(str(value))


TIME = "2026-11-21T09:00:00Z"
READERS: dict[str, Reader] = {
    "from": _from,
    "to": _to,
    "by": _by,
    "unit": _unit,
    "limit": _limit,
    "route": _name,
    "consumer": _name,
    "version": _name,
    "deprecated": _flag,
}
