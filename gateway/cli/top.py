"""`gateway top`: the running gateway on the screen, once a second; without a terminal one look, as plain text."""

from __future__ import annotations

import argparse
import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gateway.cli.admin_client import admin_argument, one_line
from gateway.cli.live import events, json_object
from gateway.cli.output import Failure, console, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

LIVE = "/api/v1/live"
REDRAW = 0.1
"""Seconds in which a key, or a new state, is on the screen."""

ROWS = 20
"""Lines of each table where there is no screen to fill."""

HEAD = 5
"""Lines of the screen that belong to no table."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="print one look and end, as without a terminal")
    parser.add_argument("--json", action="store_true", help="for scripts: print one look as JSON and end")
    admin_argument(parser)


def perform(options: argparse.Namespace) -> int:
    if options.json:
        print_json(_one(options))
    elif options.once or not (sys.stdout.isatty() and sys.stdin.isatty()):
        from gateway.cli.top_view import SORTS, everything

        console().print(everything(_one(options), SORTS[0], ROWS))
    else:
        _watch(options)
    return 0


def _one(options: argparse.Namespace) -> dict[str, Any]:
    """The second state there is: the first one is of the first moment."""
    with events(options, LIVE) as coming:
        states = (event for event in coming if event.name == "state")
        next(states)
        state = next(states)
    return json_object(state.data)


class Feed:
    """The newest state, which a thread of its own reads. Mutable."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.state: dict[str, Any] | None = None
        self.number = 0
        self.failure: BaseException | None = None
        # A daemon: it may be waiting for the gateway when somebody wants to leave.
        self._thread = threading.Thread(target=self._read, name="live", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            with events(self._options, LIVE) as coming:
                for event in coming:
                    if event.name == "state":
                        self.state = json_object(event.data)
                        self.number += 1
        except Exception as failure:  # whatever it is, the thread that draws has to end with it
            self.failure = failure


class Screen:
    """What is looked at. Mutable: keys change it."""

    def __init__(self) -> None:
        from gateway.cli.top_view import SORTS, VIEWS

        self.views, self.sorts = VIEWS, SORTS
        self.view = self.sort = 0
        self.left = False

    def press(self, key: str) -> None:
        """A key was pressed."""
        if key in ("q", "Q", "\x1b"):
            self.left = True
        elif key == "\t":
            self.view = (self.view + 1) % len(self.views)
        elif key == "s":
            self.sort = (self.sort + 1) % len(self.sorts)
        elif key.isascii() and key.isdigit() and 1 <= int(key) <= len(self.views):
            self.view = int(key) - 1

    def draw(self, state: dict[str, Any] | None, height: int) -> RenderableType:
        """All of it."""
        from rich.console import Group
        from rich.text import Text

        from gateway.cli.top_view import frame

        if state is None:
            return Text("waiting for the gateway …")
        body = frame(state, self.views[self.view], self.sorts[self.sort], height - HEAD)
        keys = Text(no_wrap=True, overflow="ellipsis")
        for number, name in enumerate(self.views):
            keys.append(f"{number + 1} {name}  ", style="bold" if number == self.view else "dim")
        keys.append(f"s sorted by {self.sorts[self.sort]}  q quit", style="dim")
        return Group(keys, body)


def _watch(options: argparse.Namespace) -> None:
    """Until q is pressed, or the gateway ends. Raises Failure."""
    from rich.live import Live

    feed, screen, terminal = Feed(options), Screen(), console()
    with _keys(), Live(console=terminal, screen=True, auto_refresh=False) as live:
        shown: tuple[object, ...] = ()
        while not screen.left:
            if feed.failure is not None:
                break
            now = (feed.number, screen.view, screen.sort, terminal.size)
            if now != shown:
                shown = now
                live.update(screen.draw(feed.state, terminal.size.height), refresh=True)
            for key in _pressed():
                screen.press(key)
    if feed.failure is not None and not screen.left:
        known = isinstance(feed.failure, Failure)
        raise feed.failure if known else Failure(one_line(f"gateway top: {feed.failure}"))


@contextmanager
def _keys() -> Iterator[None]:
    """Keys arrive as they are pressed, and are not shown; whatever happens the terminal is as it was."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pressed() -> str:
    """The keys of the last tenth of a second. A key that sends several characters, like an arrow, is none of ours."""
    ready, _, _ = select.select([sys.stdin], [], [], REDRAW)
    if not ready:
        return ""
    said = os.read(sys.stdin.fileno(), 64).decode("ascii", "replace")
    if not said:  # the terminal is gone
        return "q"
    return "" if said.startswith("\x1b") and len(said) > 1 else said
