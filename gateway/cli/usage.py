"""`gateway usage`: who has called what, how often, as the running gateway has counted it."""

from __future__ import annotations

import argparse
import time
from typing import Any
from urllib.parse import urlencode

from gateway.cli.admin_client import admin_argument, one_line
from gateway.cli.configured import json_argument
from gateway.cli.credentials import ask, records, stranger
from gateway.cli.output import Failure, console, print_json

BY = {"consumer": "consumer", "route": "route", "both": "consumer,route", "version": "consumer,route,version"}
USUAL_ROWS = 20
MOST_ROWS = 1000

NAMES = {"consumer": "CONSUMER", "route": "ROUTE", "version": "VERSION"}
FIGURES = ("CALLS", "ERRORS", "", "REFUSED", "", "AVERAGE")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="begin", metavar="TIME", help="a day, or a time: 2026-11-21[T09:00:00Z]")
    parser.add_argument("--to", dest="end", metavar="TIME", help="likewise, that day included (default: now)")
    parser.add_argument("--last", metavar="TIME", help="instead of both: 1h, 7d, … up to now (default: 24h)")
    parser.add_argument("--by", choices=BY, help="what a line is for; version: for both and this (default: both)")
    parser.add_argument("--deprecated", action="store_true", help="only who calls versions that go away, and which")
    parser.add_argument("--route", metavar="R", help="only this route")
    parser.add_argument("--consumer", metavar="C", help="only this caller; '' for those without a name")
    parser.add_argument(
        "--top", metavar="N", type=_rows, default=USUAL_ROWS, help=f"the busiest N lines (default: {USUAL_ROWS})"
    )
    admin_argument(parser)
    json_argument(parser)


def perform(options: argparse.Namespace) -> int:
    asked = _asked(options)
    said = ask(options, "GET", f"/api/v1/usage?{urlencode(asked)}")
    rows = records(options, said, "rows")
    if options.json:
        print_json(said)
    elif rows:
        _table(options, said, rows)
    else:
        _nothing(options, said)
    return 0


def _asked(options: argparse.Namespace) -> dict[str, str]:
    """The parameters. Raises Failure."""
    begin = options.begin
    if options.last is not None:
        if begin is not None or options.end is not None:
            raise Failure("gateway usage: --last goes up to now: it cannot be combined with --from or --to", status=2)
        begin = _ago(options.last)
    given = {
        "from": begin,
        "to": options.end,
        "by": BY[options.by or ("version" if options.deprecated else "both")],
        "deprecated": "true" if options.deprecated else None,
        "route": options.route,
        "consumer": options.consumer,
        "limit": str(options.top),
    }
    asked = {name: value for name, value in given.items() if value is not None}
    for name, value in asked.items():
        if not value.isprintable():  # what is not UTF-8 either
            raise Failure(f"gateway usage: {name} has characters that cannot be printed", status=2)
    return asked


def _ago(last: str) -> str:
    """The Unix time that was so long ago. Raises Failure."""
    from gateway.config.units import positive_duration

    try:
        return str(int(time.time() - positive_duration(last)))
    except ValueError as error:
        raise Failure(one_line(f"gateway usage: --last: {error}"), status=2) from None


def _table(options: argparse.Namespace, said: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    names = [name for name in NAMES if name in rows[0]]
    dated = any("sunset" in row or "deprecated" in row for row in rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(NAMES[name], overflow="fold")
    for title in FIGURES:
        table.add_column(title, justify="right", no_wrap=True)
    if dated:
        table.add_column("UNTIL", no_wrap=True)
    for row in rows:
        until = [_until(row)] if dated else []
        table.add_row(*(_called(row, name) for name in names), *_figures(options, row), *until)
    total, groups = said.get("total"), said.get("groups")
    if not isinstance(total, dict) or not isinstance(groups, int):
        stranger(options)
    if groups > 1:
        what = f"all {groups:,}" if groups == len(rows) else f"all {groups:,}, of which {len(rows):,} are shown"
        table.add_section()
        table.add_row(what, *[""] * (len(names) - 1), *_figures(options, total))
    console().print(table)
    print(f"{_stretch(said)}, in whole {one_line(said.get('unit'))}")


def _nothing(options: argparse.Namespace, said: dict[str, Any]) -> None:
    """Says that there is nothing, and why that may be."""
    what = "calls of deprecated versions" if options.deprecated else "calls"
    filters = {"consumer": options.consumer, "route": options.route}
    wanted = " and ".join(f"{name} {value!r}" for name, value in filters.items() if value is not None)
    print(one_line(f"no {what}{' of ' if wanted else ''}{wanted} {_stretch(said)}"))
    if wanted:
        print("names are compared as a whole, as `gateway usage` without them shows them")
    else:
        print("counted is from the moment on that the configuration has `usage`, and shown after a second")
    if said.get("durable") is False:
        print("the embedded store forgets everything when the gateway is started again")


def _stretch(said: dict[str, Any]) -> str:
    return one_line(f"from {said.get('from')} to {said.get('to')}")


def _called(row: dict[str, Any], name: str) -> str:
    """Who or what a line is for. In brackets stands what is no name of a consumer."""
    value, label = str(row.get(name) or ""), str(row.get("label") or "")
    if name == "version":
        return one_line(value)
    if name == "route":
        return one_line(value) or "(no route)"
    if not label:
        return f"({one_line(value) or 'anonymous'})"
    return one_line(value if label == value else f"{value or '(no subject)'} ({label})")


def _until(row: dict[str, Any]) -> str:
    """How long a version that goes away still answers, and what comes after it."""
    if "sunset" not in row:
        return "deprecated" if "deprecated" in row else ""
    successor = f", then {one_line(row['successor'])}" if row.get("successor") else ""
    return one_line(row["sunset"])[:10] + successor


def _figures(options: argparse.Namespace, row: dict[str, Any]) -> list[str]:
    match row:
        case {
            "calls": int(calls),
            "errors": int(errors),
            "refused": int(refused),
            "error_share": int() | float() as error_share,
            "refused_share": int() | float() as refused_share,
            "average_ms": int() | float() as average,
        }:
            shares = _share(error_share), _share(refused_share)
        case _:
            stranger(options)
    return [f"{calls:,}", f"{errors:,}", shares[0], f"{refused:,}", shares[1], f"{average:,.1f} ms"]


def _share(share: float) -> str:
    """In percent; what is not nothing does not look like it."""
    if 0 < share < 0.0001:
        return "<0.01%"
    return f"{share:.2%}"


def _rows(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 5 and 1 <= int(value) <= MOST_ROWS):
        raise argparse.ArgumentTypeError(f"{one_line(value[:20])!r} is not a number from 1 to {MOST_ROWS}")
    return int(value)
