"""The gateway's own messages, on standard error: their level, their form, and how often each is repeated.

One handler at the root of Python's logging, so that it writes what libraries have to say, too. Each process has a
limit of its own; whoever has an event loop calls `tick` now and then, so that what was left out is told.

A standard error that takes no more (a pipe that nobody reads, a terminal on hold) costs messages, never time: the
supervisor could not even stop, and a worker serve nobody, while they wait for it.
"""

from __future__ import annotations

import logging
import select
import sys
import time
from collections.abc import Callable
from typing import Literal, TextIO

from gateway.logs.own_format import JsonFormat, TextFormat
from gateway.logs.own_limit import Limit

Form = Literal["text", "json"]

FOREVER = float("inf")

PIECE = 1024
"""Characters, of four bytes at most: a pipe that is ready for a write takes PIPE_BUF (4 KiB) at once."""

PATIENCE = 0.02
"""Seconds that a message waits for a reader who is only slow. After one that was lost none waits."""


class OwnLog(logging.Handler):
    """Writes messages that the limit lets pass, each in one piece."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """To standard error, as it is when a message comes, unless another `stream` is given."""
        super().__init__()
        self._stream = stream
        self._clock = clock
        self._process = "supervisor"
        self._form: Form = "text"
        self._lost = 0  # messages, since one could be written
        self._uncounted = 0  # of those lost, since `tick` was called last
        self._torn = False  # what was written last is the beginning of a message
        self.limit = Limit()
        self.write_as("text")

    def write_as(self, form: Form) -> None:
        """In this form from now on."""
        self._form = form
        self.setFormatter(JsonFormat(self._process) if form == "json" else TextFormat())

    def begin(self, process: str) -> None:
        """In a child that has just been born: this is its name, and it has left out and lost nothing yet."""
        self._process = process
        self._lost = self._uncounted = 0
        self.limit = Limit()
        self.write_as(self._form)

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, or count it; before it, what others were left out."""
        now = self._clock()
        self._tell(now)
        if self.limit.lets(record, now):
            self._write(record)

    def tick(self, *, last: bool = False) -> int:
        """Tell what was left out of the windows that are over, at the end of a process of all.

        Returns how many messages were left out or lost since it was called last.
        """
        self.acquire()
        try:
            self._tell(FOREVER if last else self._clock())
            lost, self._uncounted = self._uncounted, 0
            return self.limit.count() + lost
        finally:
            self.release()

    def _tell(self, now: float) -> None:
        for kind, number in self.limit.over(now):
            said = "%d more like this were left out: %s"
            self._write(logging.LogRecord(kind.logger, kind.level, "", 0, said, (number, kind.template), None))

    def _write(self, record: logging.LogRecord) -> None:
        try:
            whole = self._write_out(self._stream or sys.stderr, self._with_loss(record))
        except (OSError, ValueError):  # standard error is closed: there is nobody left to tell
            return
        self._lost = 0 if whole else self._lost + 1
        self._uncounted += not whole

    def _with_loss(self, record: logging.LogRecord) -> str:
        """The message, behind what there is to say of those before it."""
        text = self.format(record) + "\n"
        if self._lost:
            said = "%d messages are lost: standard error took no more"
            told = logging.LogRecord("gateway", logging.WARNING, "", 0, said, (self._lost,), None)
            text = f"{self.format(told)}\n{text}"
        return "\n" + text if self._torn else text

    def _write_out(self, stream: TextIO, text: str) -> bool:
        """Whether all of `text` could be written."""
        for start in range(0, len(text), PIECE):
            if not takes_more(stream, 0.0 if self._lost else PATIENCE):
                return False
            piece = text[start : start + PIECE]
            stream.write(piece)
            stream.flush()
            self._torn = not piece.endswith("\n")
        return True


def takes_more(stream: TextIO, within: float) -> bool:
    """Whether a piece could be written to `stream` without waiting for longer than so many seconds."""
    try:
        poll = select.poll()
        poll.register(stream, select.POLLOUT)
    except (OSError, ValueError):  # it is no file
        return True
    return bool(poll.poll(within * 1000))


HANDLER = OwnLog()
"""That of this process."""


def configure(level: str, form: Form) -> None:
    """From now on write messages of `level` and above, in this form. May be called again, after a reload."""
    root = logging.getLogger()
    if HANDLER not in root.handlers:
        root.addHandler(HANDLER)
    HANDLER.write_as(form)
    set_level(level)


def set_level(name: str) -> None:
    """The least important messages that this process writes: debug, info, warning or error."""
    logging.getLogger().setLevel(name.upper())


def level() -> str:
    """The least important messages that this process writes."""
    return logging.getLevelName(logging.getLogger().level).lower()


def begin(process: str) -> None:
    """Say under which name (worker, operator) this process, which was forked from another, writes."""
    HANDLER.begin(process)


def tick(*, last: bool = False) -> int:
    """To be called now and then: tells what was left out; returns how many messages since the last time."""
    return HANDLER.tick(last=last)
