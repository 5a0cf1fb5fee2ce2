"""How often the gateway repeats itself: the same message from the same place ten times in ten seconds. Pure.

What a client can provoke with each request must not fill the disk. What is left out is counted and told in one line.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import NamedTuple

MOST, WINDOW = 10, 10.0
"""Messages, and the seconds in which there are no more of them."""

MOST_PLACES = 1000
"""Far more than there are: it bounds those whose whole text is made up where they are called."""

NEVER_LEFT_OUT = frozenset({"gateway.audit"})


class Kind(NamedTuple):
    """What the messages of a window have in common."""

    logger: str
    level: int
    template: str


@dataclass(slots=True)
class Window:
    """The messages of a place since the first of them."""

    ends: float
    kind: Kind
    passed: int = 0
    left_out: int = 0


class Limit:
    """Decides about each message of a process."""

    def __init__(self) -> None:
        self._suppressed = 0
        self._windows: dict[tuple[str, int, str], Window] = {}

    def lets(self, record: logging.LogRecord, now: float) -> bool:
        """Whether it may be written. Debug messages always may: whoever asks for those wants all of them."""
        if record.levelno <= logging.DEBUG or record.name in NEVER_LEFT_OUT:
            return True
        # Of a message that is nothing but a value, the value decides: complaints about a file are not all the same.
        template = record.getMessage() if record.msg == "%s" else str(record.msg)
        # Libraries (asyncio, for one) say nothing but made-up texts: there the place decides alone.
        key = (record.pathname, record.lineno, template if record.name.partition(".")[0] == "gateway" else "")
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= MOST_PLACES:
                self._windows.clear()
            window = self._windows[key] = Window(now + WINDOW, Kind(record.name, record.levelno, template))
        if window.passed < MOST:
            window.passed += 1
            return True
        window.left_out += 1
        self._suppressed += 1
        return False

    def count(self) -> int:
        """How many were left out since this was asked last."""
        count, self._suppressed = self._suppressed, 0
        return count

    def over(self, now: float) -> list[tuple[Kind, int]]:
        """What was left out of the windows that have ended since this was asked last, and how many times."""
        ended = [key for key, window in self._windows.items() if window.ends <= now]
        windows = [self._windows.pop(key) for key in ended]
        return [(window.kind, window.left_out) for window in windows if window.left_out]
