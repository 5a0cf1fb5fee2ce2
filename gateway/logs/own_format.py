r"""How the gateway's own messages are written: as text or JSON, one line each, and nobody can forge one.

Whatever is not printable (line ends, escape sequences, C1, directions of writing) is written as an escape. In text, a
traceback follows its message in lines that begin with four spaces, which no message does.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from traceback import TracebackException

import orjson

from gateway.logs.escaping import escaped

LONGEST = 2000
"""Characters of a message: long enough for what the gateway says itself."""

LONGEST_LINE, MOST_LINES = 500, 60
"""Of a traceback. Of a longer one the end counts."""

INDENT = "    "


def cut(text: str, longest: int = LONGEST) -> str:
    """Escaped, and not longer than this."""
    shown = escaped(text[:longest])
    return shown if len(text) <= longest else f"{shown}… ({len(text)} characters)"


def traceback_of(record: logging.LogRecord) -> list[str]:
    """The lines of what was raised; none if nothing was."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return []
    text = "".join(TracebackException.from_exception(error).format())
    lines = [cut(line, LONGEST_LINE) for line in text.split("\n") if line]
    return lines if len(lines) <= MOST_LINES else [f"… {len(lines) - MOST_LINES} lines", *lines[-MOST_LINES:]]


class TextFormat(logging.Formatter):
    """`2026-11-21 05:08:37,848 WARNING gateway.auth: message`, for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with those of a traceback."""
        at = f"{self.formatTime(record)} {record.levelname} {record.name}"
        lines = [f"{at}: {cut(record.getMessage())}", *(INDENT + line for line in traceback_of(record))]
        return "\n".join(lines)


class JsonFormat(logging.Formatter):
    """One object per message, every field in each."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC)
        said = {
            "time": at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": cut(record.getMessage()),
            "process": self._process,
            "pid": os.getpid(),
            "exception": "\n".join(traceback_of(record)) or None,
        }
        return orjson.dumps(said).decode()
