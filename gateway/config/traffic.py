"""What becomes of a route's requests besides the plain way to one upstream: keys of `routes[]`."""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.config.fields import (
    AsWhole,
    Duration,
    DurationOrZero,
    Fault,
    HeaderName,
    PositiveShare,
    Section,
    SettableHeader,
    Text,
    Weight,
    refuse,
)

Split = Annotated[dict[Text, Weight], Field(min_length=1)]
"""Weights by upstream; 0 for none."""


def split_faults(upstream: str | None, split: dict[str, int] | None, split_by: str | None) -> Iterator[Fault]:
    """What is wrong with the ways that a route or a version names."""
    if upstream is not None and split is not None:
        yield ("split",), "cannot stand beside upstream"
    if split is not None and not any(split.values()):
        yield ("split",), "has no weight above 0: nobody would answer"
    if split_by is not None and split is None:
        yield ("split_by",), "has no effect without split"


def sharing(upstream: str | None, split: dict[str, int] | None) -> tuple[str, ...]:
    """Who may answer for a route or a version."""
    if upstream is not None:
        return (upstream,)
    return tuple(name for name, weight in (split or {}).items() if weight)


class Mirror(Section):
    """Sends copies of requests to another upstream, too; its replies go nowhere."""

    upstream: Text
    share: PositiveShare = 1.0


class FaultInjection(Section):
    """A rehearsal: some requests are delayed, or answered with an error, before they reach the upstream."""

    share: PositiveShare = 1.0
    status: Annotated[int, Field(ge=400, le=599), AsWhole] | None = None
    """Answered with this. Absent: only delayed."""
    delay: DurationOrZero = 0.0
    header: HeaderName | None = None
    """Only requests that carry this header."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.status is None and not self.delay:
            refuse([((), "does nothing: give it a status or a delay")])
        return self


class Idempotency(Section):
    """Requests with a key are done once: the first reply is kept, and repetitions get it."""

    header: SettableHeader = "Idempotency-Key"
    keep: Duration = 86400.0
    """How long a reply is kept."""
