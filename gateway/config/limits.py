"""`rate_limits`, and what else keeps anybody from taking more than there is: concurrency, load shedding, usage."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from gateway.config import syntax, units
from gateway.config.complaints import cut, hint, show
from gateway.config.fields import (
    Duration,
    Fault,
    Flag,
    Name,
    Or,
    OrOne,
    RateOf,
    Section,
    Whole,
    one_or_more,
    refuse,
    whole,
)

EACH = "*"
"""In `cost`: every method that is not named."""

FASTEST = 10_000_000
"""Requests per second: one for each tick of the meters' clock."""

Period = Literal["hour", "day", "week", "month"]
CALENDAR: dict[float, Period] = {units.PERIODS[period]: period for period in get_args(Period)}
"""Windows that have their place in a calendar, by how long a rate says they are."""

STICKY = re.compile(r"consumer|ip|(?:header|cookie|query|claim):\S.*")
"""What tells callers apart."""
BY = re.compile(rf"route|global|{STICKY.pattern}")
WRITTEN_BY_ANYBODY = ("forwarded", "x-forwarded-for", "x-real-ip")
"""Counting by what these say would let everybody choose whom a request is counted for."""


def _by(value: object) -> str:
    written = syntax.text(value)
    if not BY.fullmatch(written):
        raise ValueError(
            f"{show(value)} is none of consumer, ip, route, global, header:NAME, cookie:NAME, query:NAME, claim:PATH"
        )
    return _named(written)


def sticky(value: object) -> str:
    """What keeps requests together: one of the ways to count them, but those that tell nobody apart."""
    written = syntax.text(value)
    if not STICKY.fullmatch(written):
        raise ValueError(
            f"{show(value)} is none of consumer, ip, header:NAME, cookie:NAME, query:NAME, claim:PATH"
            + hint(value, ("consumer", "ip"))
        )
    return _named(written)


def _named(written: str) -> str:
    """`written`, if what it names can be."""
    kind, _, name = written.partition(":")
    if kind in ("header", "cookie"):
        syntax.header_name(cut(written, name))
        if kind == "header" and name.lower() in WRITTEN_BY_ANYBODY:
            raise ValueError(f"{show(written)} can be written by anybody: ip is the address that trusted proxies tell")
    elif kind == "claim":
        syntax.claim(cut(written, name))
    return str(written)


def _by_faults(by: tuple[str, ...]) -> Iterator[Fault]:
    """What is wrong with a combination."""
    named = [each.lower() if each.startswith("header:") else each for each in by]
    if len(set(named)) != len(named):
        yield ("by",), "names something twice"
    if "global" in by and len(by) > 1:
        yield ("by",), "global counts everybody together: it cannot be combined"


def _cost(value: object) -> object:
    """A lone number is for every method."""
    return value if isinstance(value, dict) else {EACH: value}


def _zone(value: object) -> str:
    name = syntax.plain_text(value)
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{show(value)} is no time zone such as UTC or Europe/Berlin") from None
    return name


def _method_or_each(value: object) -> str:
    return EACH if value == EACH else syntax.method(value)


By = Annotated[str, PlainValidator(_by), WithJsonSchema({"type": "string", "pattern": f"^(?:{BY.pattern})$"})]
ByAll = Annotated[tuple[By, ...], Field(min_length=1), BeforeValidator(one_or_more), OrOne()]
Zone = Annotated[str, PlainValidator(_zone), WithJsonSchema({"type": "string"})]
Cost = Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(whole)]
CostOf = Annotated[str, PlainValidator(_method_or_each), WithJsonSchema({"type": "string"})]


class Tier(Section):
    """What callers of one tier may do instead."""

    limit: RateOf
    burst: Whole | None = None
    """How many of them may come at once; without it, all."""


def _rate_alone(value: object) -> object:
    return {"limit": value} if isinstance(value, str) else value


class RateLimit(Section):
    """How many requests are allowed in a time."""

    by: ByAll
    """Whose requests are counted together; of several, each combination for itself."""
    limit: RateOf
    """100/second, /minute, /hour, /day, /week, or 100/30s; with `algorithm: calendar` also /month."""
    burst: Whole | None = None
    """How many of them may come at once; without it, all."""
    algorithm: Literal["gcra", "sliding_window", "calendar"] = "gcra"
    """How is counted: evenly (gcra), in a window that moves along, or per calendar hour, day, week or month."""
    time_zone: Zone | None = None
    """Where the calendar is read. Absent: UTC."""
    tiers: dict[Name, Annotated[Tier, BeforeValidator(_rate_alone), Or(type="string")]] = Field(default_factory=dict)
    """Other rates for callers of these tiers."""
    cost: Annotated[dict[CostOf, Cost], Field(min_length=1), BeforeValidator(_cost), Or(type="integer")] = Field(
        default_factory=lambda: {EACH: 1}
    )
    """What one request counts for: a number, or numbers by method (* for the others). 0 asks and takes nothing."""
    mode: Literal["enforce", "observe"] = "enforce"
    """Refuse what is too much, or only count and log it."""
    on_failure: Literal["local", "open", "closed"] | None = None
    """While the store is away; absent: what `store.on_failure` says."""
    lease: Whole | None = None
    """Permits that a worker takes at a time and spends by itself; absent: each request asks the store."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        refuse([*self._faults()])
        return self

    @property
    def zone(self) -> str:
        """Where the calendar is read."""
        return self.time_zone or "UTC"

    def _faults(self) -> Iterator[Fault]:
        yield from _by_faults(self.by)
        if self.algorithm != "calendar" and self.time_zone is not None:
            yield ("time_zone",), "has no effect without algorithm: calendar"
        if self.lease is not None and self.algorithm != "gcra":
            yield ("lease",), "works with gcra only"
        if EACH in self.cost and not any(self.cost.values()):
            yield ("cost",), "is 0 for every request: nothing would ever be counted"
        yield from self._faults_of((), self)
        for name, tier in self.tiers.items():
            yield from self._faults_of(("tiers", name), tier)

    def _faults_of(self, path: tuple[str, ...], rate: "RateLimit | Tier") -> Iterator[Fault]:
        """What is wrong with one rate: of everybody, or of a tier."""
        window, at_once = rate.limit.window, rate.burst or rate.limit.limit
        dearest = max(1, *self.cost.values()) if EACH not in self.cost else max(self.cost.values())
        named = "burst" if rate.burst else "limit"
        if self.algorithm != "gcra" and rate.burst is not None:
            yield (*path, "burst"), "has no effect: only gcra has a burst"
        if self.algorithm == "calendar" and window not in CALENDAR:
            yield (*path, "limit"), "has to be per hour, day, week or month: others have no place in a calendar"
        if self.algorithm != "calendar" and window == units.PERIODS["month"]:
            yield (*path, "limit"), "per month needs algorithm: calendar"
        if rate.limit.limit / window > FASTEST:
            yield (*path, "limit"), "is more than ten million per second"
        if self.algorithm == "gcra" and at_once * window / rate.limit.limit > units.LONGEST:
            yield (*path, named), "takes more than ten years to come back once it is used up"
        if dearest > at_once:
            yield (*path, named), f"is less than the cost of one request, {dearest}"
        if self.algorithm == "gcra" and self.lease is not None and self.lease * 10 > at_once:
            yield (*path, named), "must be ten times `lease` or more: workers would refuse far too early"


class Concurrency(Section):
    """How many requests may be under way at the same time, shared out evenly among the workers."""

    limit: Whole = 100
    """With `adaptive` the most."""
    queue: Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(whole)] = 0
    """How many more may wait for their turn."""
    queue_timeout: Duration = 0.5
    """How long."""


class UpstreamConcurrency(Concurrency):
    """How many tries of an upstream may be under way at the same time, shared out evenly among the workers."""

    adaptive: Flag = False
    """Find the limit by how long replies take, between `minimum` and `limit`."""
    minimum: Whole | None = None
    """For `adaptive`: the limit never falls below. Absent: 5, or `limit` if that is less."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.minimum is not None and not self.adaptive:
            refuse([(("minimum",), "has no effect without adaptive: true")])
        if self.minimum is not None and self.minimum > self.limit:
            refuse([(("minimum",), "is above `limit`")])
        return self

    @property
    def least(self) -> int:
        """Below which an adaptive limit never falls."""
        return min(5, self.limit) if self.minimum is None else self.minimum


class RouteConcurrency(Concurrency):
    """How many requests of a route may be under way at the same time, shared out evenly among the workers."""

    by: ByAll = ("route",)
    """Whose requests are counted together; of several, each combination for itself."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        refuse([*_by_faults(self.by)])
        return self


class Shedding(Section):
    """When a worker has more to do than it can, it turns requests away, unimportant ones first (`priority`)."""

    loop_lag: Duration = 0.1
    """An event loop that is late by so much has too much to do."""
    queue_age: Duration = 0.5
    """A request that has waited so long in the gateway before anybody looked at it is turned away."""
    last: tuple[Name, ...] = ()
    """Tiers whose callers count as one priority higher."""


class Usage(Section):
    """Who calls what, how often: counted in the store, per hour and day."""

    keep: Duration = 35 * 86400.0
    """How long the days are kept; hours are kept for two days."""
    callers: Annotated[int, Field(ge=1, le=100_000), BeforeValidator(whole)] = 10_000
    """Callers and routes that are told apart in one hour or day; others are counted as `other`."""


def usage_flag(value: object) -> object:
    """`true` is a section without any keys, `false` none."""
    if value in (True, "true"):
        return {}
    return None if value in (False, "false") else value


UsageOrNone = Annotated[Usage | None, BeforeValidator(usage_flag), Or(type="boolean")]
Priority = Literal["low", "normal", "high", "critical"]
