"""What clients are told of a version that goes away, in the exact form of the standards, and when it is gone. Pure.

Deprecation is a date of structured fields (RFC 9745), Sunset an HTTP date (RFC 8594), and Link has the relations
`deprecation`, `sunset` and `successor-version` (RFC 5829). All of it is written once, at load.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, NamedTuple

from gateway.errors import Refused

GONE = "Version {} ended on {}."
BROWN_OUT = "Version {} will end on {}: until then it pauses now and then, so that nobody is surprised."


class Window(NamedTuple):
    """A brown-out: Unix times."""

    begin: float
    end: float


class Life(NamedTuple):
    """The dates of a version."""

    deprecated: datetime | None = None
    """With their time zones, like the other one."""
    sunset: datetime | None = None
    successor: str = ""
    link: str = ""
    """Where it is explained."""
    serves_on: bool = False
    """After the sunset, too."""
    brownouts: tuple[Window, ...] = ()


def lines(life: Life) -> bytes:
    """The field lines that are the same for every request; of Link, those that lead to `link`."""
    written = []
    relations = []
    if life.deprecated is not None:
        written.append(f"deprecation: @{int(life.deprecated.timestamp())}\r\n")
        relations.append("deprecation")
    if life.sunset is not None:
        written.append(f"sunset: {format_datetime(life.sunset.astimezone(UTC), usegmt=True)}\r\n")
        relations.append("sunset")
    if life.link and relations:
        # One for each relation: many clients look for rel="sunset" and nothing longer.
        written.append("link: " + ", ".join(f'<{life.link}>; rel="{each}"' for each in relations) + "\r\n")
    return "".join(written).encode("ascii")


class End:
    """Refuses what comes too late, or during a brown-out."""

    __slots__ = ("_brownouts", "_day", "_ends", "_members", "_name")

    def __init__(self, name: str, life: Life) -> None:
        assert life.sunset is not None
        self._name = name
        self._ends = life.sunset.timestamp()
        self._day = f"{life.sunset.astimezone(UTC):%Y-%m-%d}"
        self._brownouts: Sequence[Window] = life.brownouts
        members = {"version": name, "successor": life.successor, "link": life.link}
        self._members: dict[str, Any] = {key: value for key, value in members.items() if value}

    def passed(self, now: float) -> bool:
        """The version is no more; `now` is Unix time."""
        return now >= self._ends

    def refusal(self, now: float) -> Refused | None:
        """410 once it is gone. A brown-out is 503: it passes, and a 410 could be cached beyond its end."""
        if now >= self._ends:
            return Refused("version_gone", 410, GONE.format(self._name, self._day), **self._members)
        for begin, end in self._brownouts:
            if begin <= now < end:
                detail = BROWN_OUT.format(self._name, self._day)
                return Refused("version_gone", 503, detail, retry_after=end - now, **self._members)
        return None
