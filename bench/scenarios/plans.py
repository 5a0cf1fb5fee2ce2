"""What a target does when: the vocabulary of misbehaviour. Pure."""

from dataclasses import dataclass
from enum import Enum

BODY = bytes(range(65, 91)) * 80
"""2080 bytes: one segment, and large enough to be broken off in the middle."""
DRIPS = 20
"""Bytes of a body that drips."""


class Fault(Enum):
    """What a target does instead of answering."""

    WELL = "answers"
    SLOW = "answers late"
    UNAVAILABLE = "answers 503"
    REFUSE = "does not listen"
    RESET = "resets the connection instead of answering"
    CUT = "resets it in the middle of the body"
    DRIP = "sends the body byte by byte"
    WITHHOLD = "sends a head byte by byte, without end"
    TIRED = "needs twice as long for the work"


@dataclass(frozen=True, slots=True)
class Spell:
    """A fault from one second to another, after the zero hour; `share` of the requests meet it."""

    begin: float
    end: float
    fault: Fault
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Crew:
    """What a target can do: requests at a time, mean seconds for one, how many wait. More are answered 503."""

    workers: int
    seconds: float
    queue: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A target's life."""

    spells: tuple[Spell, ...] = ()
    crew: Crew | None = None
