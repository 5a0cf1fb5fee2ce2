"""`versions` of a route: several upstreams by the version that a request asks for, and when each of them ends."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator

from gateway.config.complaints import show
from gateway.config.fields import (
    Fault,
    Flag,
    HeaderName,
    OrOne,
    Section,
    Text,
    given_for,
    one_of_required,
    one_or_more,
    refuse,
)
from gateway.config.health import Sticky
from gateway.config.syntax import text
from gateway.config.traffic import Split, sharing, split_faults
from gateway.routing.media_type import MediaType
from gateway.routing.pattern import fold
from gateway.routing.version_names import NAME, numbered

Place = Literal["path", "header", "query", "media_type"]
DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d:\d\d:\d\d(?:[Zz]|[+-]\d\d:\d\d))?", re.ASCII)
URL = re.compile(r"https?://[A-Za-z0-9\[][!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]*")
"""What fits between the angle brackets of a Link header."""
PARAMETER = re.compile(r"[A-Za-z0-9._~-]+")


def _moment(value: object) -> str:
    """A day, which begins in UTC, or a time; in one form, in which the earlier is the lesser."""
    written = text(value)
    if not DATE.fullmatch(written):
        raise ValueError(f"{show(value)} is neither a day such as 2026-11-21 nor a time such as 2026-11-21T09:00:00Z")
    try:
        found = datetime.fromisoformat(written.upper())
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{show(value)} is not in the calendar") from None
    if found.year < 1970:
        raise ValueError(f"{show(value)} is before 1970")
    return f"{found:%Y-%m-%dT%H:%M:%SZ}"


def _version(value: object) -> str:
    written = text(value)
    if not NAME.fullmatch(written):
        raise ValueError(f"{show(value)} is not a version: up to 32 letters, digits and . _ -, and + for a baseline")
    if written.endswith("+") and numbered(written[:-1]) is None:
        raise ValueError(f"{show(value)} has no number: which versions are later ones?")
    return str(value)


def _url(value: object) -> str:
    if URL.fullmatch(text(value)):
        return str(value)
    raise ValueError(f"{show(value)} is not a URL such as https://docs.example.com/migrate")


def _parameter(value: object) -> str:
    if PARAMETER.fullmatch(text(value)):
        return str(value)
    raise ValueError(f"{show(value)} is not the name of a query parameter: letters, digits and . _ ~ -")


def _media_type(value: object) -> str:
    try:
        MediaType(text(value))
    except ValueError as error:
        raise ValueError(f"{show(value)} {error}") from None
    return str(value)


def _told(pattern: str) -> WithJsonSchema:
    """Tells editors what a text looks like."""
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$"})


Moment = Annotated[str, PlainValidator(_moment), _told(r"[0-9]{4}-[0-9]{2}-[0-9]{2}.*")]
"""`2026-11-21T09:00:00Z`, whatever it was written like: always in UTC, so that texts compare like times."""
VersionName = Annotated[str, PlainValidator(_version), _told(NAME.pattern)]
Url = Annotated[str, PlainValidator(_url), _told(URL.pattern)]
QueryName = Annotated[str, PlainValidator(_parameter), _told(PARAMETER.pattern)]
MediaTypeTemplate = Annotated[str, PlainValidator(_media_type), _told(r"[^{}]*\{version\}[^{}]*")]


class Brownout(Section):
    """A time in which a version that will end does not answer."""

    from_: Moment = Field(alias="from")
    to: Moment

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.to <= self.from_:
            refuse([(("to",), "is not after from")])
        return self


class Version(Section):
    """Who answers for a version, and how long."""

    model_config = ConfigDict(json_schema_extra=one_of_required("upstream", "split"))

    upstream: Text | None
    """The name of the upstream that answers."""
    split: Split | None = None
    """Instead of `upstream`: the names of several, each with its weight."""
    split_by: Sticky | None = None
    """Whose requests go the same way, as of routes."""
    deprecated: Moment | None = None
    """Since when, or from when on, nobody should begin to use it."""
    sunset: Moment | None = None
    """When it ends."""
    successor: Text | None = None
    """The version to go to."""
    link: Url | None = None
    """Where it is explained."""
    after_sunset: Literal["gone", "serve"] = "gone"
    """gone: 410."""
    brownouts: tuple[Brownout, ...] = ()
    """When it answers 503, so that its last callers notice."""

    @model_validator(mode="before")
    @classmethod
    def _upstream_or_split(cls, data: Any) -> Any:
        return given_for(data, "upstream", ("split",), None)

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Who may answer."""
        return sharing(self.upstream, self.split)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        refuse([*split_faults(self.upstream, self.split, self.split_by), *self._faults()])
        return self

    def _faults(self) -> Iterator[Fault]:
        if self.sunset is not None and self.deprecated is not None and self.sunset < self.deprecated:
            yield ("sunset",), "is before deprecated"
        if self.link is not None and self.deprecated is None and self.sunset is None:
            yield ("link",), "has no effect: the version is neither deprecated nor has it a sunset"
        if self.after_sunset == "serve" and self.sunset is None:
            yield ("after_sunset",), "has no effect without sunset"
        if self.brownouts and (self.sunset is None or self.after_sunset == "serve"):
            yield ("brownouts",), "announce an end that does not come: they need a sunset after which it is gone"
        elif self.sunset is not None:
            for index, each in enumerate(self.brownouts):
                if each.to > self.sunset:
                    yield ("brownouts", index, "to"), "is after sunset"


class Versions(Section):
    """Where a request names its version, and which there are."""

    from_: Annotated[tuple[Place, ...], Field(min_length=1), BeforeValidator(one_or_more), OrOne()] = Field(
        default=("path",), alias="from"
    )
    """Where to look, in this order."""
    header: HeaderName | None = None
    query: QueryName | None = None
    media_type: MediaTypeTemplate | None = None
    """application/vnd.example.{version}+json, or application/json; version={version}"""
    default: Text | None = None
    """For requests that name none. Absent: they are refused."""
    aliases: dict[VersionName, Text] = Field(default_factory=dict)
    """Other names of versions: {latest: v2}."""
    strip: Flag = True
    """The upstream gets the path without the version."""
    available: Annotated[dict[VersionName, Version], Field(min_length=1)]
    """By name; `v1.1+` serves later versions, too, until the next one takes over."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all versions, without the + of baselines."""
        return tuple(name.removesuffix("+") for name in self.available)

    @property
    def retiring(self) -> dict[str, Version]:
        """Those whose callers have something to do, by name; whether the day has come or not."""
        every = zip(self.names, self.available.values(), strict=True)
        return {name: each for name, each in every if each.deprecated is not None or each.sunset is not None}

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Who may answer."""
        return tuple(dict.fromkeys(name for each in self.available.values() for name in each.upstreams))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse([*self._places(), *self._distinct(), *self._references()])
        return self

    def _places(self) -> Iterator[Fault]:
        for index, place in enumerate(self.from_):
            if place in self.from_[:index]:
                yield ("from", index), "is here twice"
        for place, given in (("header", self.header), ("query", self.query), ("media_type", self.media_type)):
            if given is None and place in self.from_:
                yield ("from", self.from_.index(place)), f"needs versions.{place} beside it"
            elif given is not None and place not in self.from_:
                yield (place,), f"has no effect: from does not have {place}"

    def _distinct(self) -> Iterator[Fault]:
        """No two names are the same version, nor so alike that a lenient server takes one for the other."""
        seen: dict[object, str] = {}
        for part, names in (("available", self.available), ("aliases", self.aliases)):
            for name in names:
                plain = name.removesuffix("+")
                other = seen.setdefault(fold(plain), name)
                if part == "available" and other == name and (found := numbered(plain)) is not None:
                    other = seen.setdefault(found, name)
                if other != name or (part == "aliases" and name.endswith("+")):
                    why = (
                        f"is too much like {show(other)}" if other != name else "is a baseline: an alias is one version"
                    )
                    yield (part, name, "[key]"), why
                elif part == "aliases" and plain in self.names:
                    yield (part, name, "[key]"), "is a version itself"

    def _references(self) -> Iterator[Fault]:
        if self.default is not None:
            yield from self._known(self.default, ("default",))
        for alias, name in self.aliases.items():
            yield from self._known(name, ("aliases", alias))
        successors = {name.removesuffix("+"): each.successor for name, each in self.available.items()}
        for name, each in self.available.items():
            plain = name.removesuffix("+")
            if each.successor is None:
                continue
            place = ("available", name, "successor")
            if each.successor == plain:
                yield place, "is the version itself"
            elif each.successor not in successors:
                yield from self._known(each.successor, place)
            elif _leads_back(plain, successors):
                yield place, "leads back to the version itself"

    def _known(self, name: str, place: tuple[str, ...]) -> Iterator[Fault]:
        if name not in self.names:
            yield place, f"there is no version {show(name)}: there are {', '.join(self.names)}"


def _leads_back(name: str, successors: dict[str, str | None]) -> bool:
    """Whether whoever follows the successors comes round to where he began."""
    at: str | None = name
    for _ in successors:
        at = successors.get(at) if at is not None else None
        if at == name:
            return True
    return False
