"""How commands speak: results on standard output, one line per error on standard error."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class Failure(Exception):
    """Ends the command with this message on standard error. 1: the operation failed; 2: usage, configuration."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def console() -> Console:
    """Standard output for tables: colour on a terminal only, and there the terminal's width.

    A file or a pipe gets whole lines: nobody wants cells broken at 80 columns there.
    """
    from rich.console import Console

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    plain = bool(os.environ.get("NO_COLOR"))  # rich would leave bold in
    # What is printed comes from the configuration: brackets and colons in it are text, not styles or emoji.
    return Console(
        width=250 if piped else None,
        color_system=None if plain else "auto",
        markup=False,
        emoji=False,
        highlight=False,
    )


def print_json(value: object) -> None:
    """One JSON document, indented, non-ASCII as it is."""
    import orjson

    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
