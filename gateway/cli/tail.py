"""`gateway tail`: the requests of the running gateway as they end, a line each; the gateway itself picks them."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any
from urllib.parse import urlencode

from gateway.cli.admin_client import admin_argument, one_line
from gateway.cli.credentials import ask, records
from gateway.cli.live import Event, events, json_object
from gateway.cli.output import Failure
from gateway.telemetry.wanted import wanted

TAIL = "/api/v1/tail"
ERRORS = "/api/v1/errors"
MOST_LAST = 200

RED, YELLOW, GREEN, DIM = "31", "33", "32", "2"
"""ANSI colours (ECMA-48, SGR)."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--route", metavar="R", help="only this route; '' for requests that no route took")
    parser.add_argument("--status", metavar="S", help="only these: 404, 5xx, 400-499")
    parser.add_argument("--consumer", metavar="C", help="only this caller; '' for those without a name")
    parser.add_argument("--method", metavar="M", help="only this method")
    parser.add_argument("--min-ms", metavar="N", help="only what took so long, in milliseconds")
    parser.add_argument("--path", metavar="PREFIX", help="only paths that begin so")
    parser.add_argument("--code", metavar="REASON", help="only what the gateway itself ended for this reason")
    parser.add_argument(
        "-n", "--last", metavar="N", type=_last, default=0, help="begin with the last N problems it remembers"
    )
    parser.add_argument("--json", action="store_true", help="for scripts: print each line as the gateway sends it")
    admin_argument(parser)


def perform(options: argparse.Namespace) -> int:
    filters = _filters(options)
    with events(options, f"{TAIL}?{urlencode(filters)}") as coming:
        for event in coming:
            if event.name == "ready":
                _ready(event)
                if options.last:
                    _remembered(options, filters)
            elif event.name == "dropped":
                _note(f"{json_object(event.data).get('count')} lines were dropped: this reader is too slow")
            elif options.json:
                print(event.data.decode("utf-8", "replace"), flush=True)
            else:
                print(_line(json_object(event.data)), flush=True)
    return 0


def _filters(options: argparse.Namespace) -> dict[str, str]:
    """The parameters of the query. Raises Failure."""
    names = ("route", "status", "consumer", "method", "min_ms", "path", "code")
    filters = {name: value for name in names if (value := getattr(options, name)) is not None}
    try:
        for name, value in filters.items():
            if not value.isprintable():  # what is not UTF-8 either
                raise ValueError(f"{name}: has characters that cannot be printed")
        wanted(filters.items())
    except ValueError as error:
        raise Failure(one_line(f"gateway tail: --{str(error).replace('_', '-', 1)}"), status=2) from None
    return filters


def _ready(event: Event) -> None:
    silent = json_object(event.data).get("silent")
    if silent:
        _note(f"{len(silent)} workers do not answer: their requests may be missing")
    elif sys.stderr.isatty():
        _note("every request from here on; Ctrl-C ends it")


def _remembered(options: argparse.Namespace, filters: dict[str, str]) -> None:
    said = ask(options, "GET", f"{ERRORS}?{urlencode({**filters, 'limit': str(options.last)})}")
    for record in reversed(records(options, said, "errors")):
        if options.json:
            from orjson import dumps

            print(dumps(record).decode(), flush=True)
        else:
            print(_line(record), flush=True)


def _note(text: str) -> None:
    """About the lines, not among them."""
    print(one_line(text), file=sys.stderr, flush=True)


def _line(record: dict[str, Any]) -> str:
    """Without a character that a terminal would obey, whatever clients have sent."""
    status, reason = record.get("status"), _said(record, "reason", "")
    route, target, tries = _said(record, "route"), _said(record, "target", ""), record.get("tries")
    times = f" x{one_line(tries)}" if isinstance(tries, int) and tries > 1 else ""
    words = [
        _coloured(_said(record, "at")[11:23], DIM),
        _coloured(one_line(status), _colour(status)),
        f"{_said(record, 'method'):<6} {_said(record, 'path')}",
        _coloured(f"{route}", DIM),
        f"{_ms(record.get('duration_ms'))} (own {_ms(record.get('own_ms'))})",
        f"→ {target}{times}" if target else "",
        f"by {consumer}" if (consumer := _said(record, "consumer", "")) else "",
        _coloured(reason, RED if isinstance(status, int) and status >= 500 else YELLOW) if reason else "",
    ]
    return "  ".join(word for word in words if word)


def _said(record: dict[str, Any], member: str, otherwise: str = "-") -> str:
    value = record.get(member)
    return one_line(value) if value not in (None, "") else otherwise


def _ms(value: object) -> str:
    return f"{value:.1f} ms" if isinstance(value, int | float) else "?"


def _colour(status: object) -> str:
    if not isinstance(status, int) or status >= 500:
        return RED
    return YELLOW if status >= 400 else GREEN


def _coloured(text: str, colour: str) -> str:
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def _last(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 5 and 0 <= int(value) <= MOST_LAST):
        raise argparse.ArgumentTypeError(f"{one_line(value[:20])!r} is not a number from 0 to {MOST_LAST}")
    return int(value)
