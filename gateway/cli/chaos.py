"""`gateway chaos`: rehearses failures of a route in the running gateway, for a while that ends by itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from gateway.cli.admin_client import admin_argument, one_line
from gateway.cli.configured import json_argument
from gateway.cli.credentials import ask, path_of, records, show, stranger
from gateway.cli.output import Failure, print_json

FAULTS = "/api/v1/faults"
COLUMNS = {
    "ID": "id",
    "ROUTE": "route",
    "SHARE": "share",
    "STATUS": "status",
    "DELAY": "delay",
    "UNTIL": "until",
    "LEFT": "left",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="list the rehearsals that are under way")
    start = actions.add_parser("start", help="let a share of a route's requests fail, or come late")
    start.add_argument("route", metavar="ROUTE", help="the route's name")
    start.add_argument(
        "--status", metavar="N", help="answer with this error, 400 to 599, instead of asking the upstream"
    )
    start.add_argument("--delay", metavar="TIME", help="wait so long first: 200ms, 2s, …")
    start.add_argument("--share", metavar="SHARE", required=True, help="of how many requests: 10%%, 100%%, …")
    start.add_argument("--for", dest="lifetime", metavar="TIME", required=True, help="how long, an hour at most: 5m, …")
    stop = actions.add_parser("stop", help="end a rehearsal at once")
    which = stop.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?", help="of the rehearsal, as the list shows it")
    which.add_argument("--all", action="store_true", help="end all of them")
    for action in (listed, start, stop):
        admin_argument(action)
        json_argument(action)


def perform(options: argparse.Namespace) -> int:
    match options.action:
        case "list":
            said = ask(options, "GET", FAULTS)
            found = records(options, said, "faults")
            _tell(options, said, found, "no rehearsal is under way")
        case "start":
            said = _start(options)
            _tell(options, said, [said], "")
        case "stop":
            path = FAULTS if options.all else path_of(options, "faults", options.id, "flt")
            said = ask(options, "DELETE", path)
            stopped = records(options, said, "stopped")
            ids = ", ".join(_id(options, each) for each in stopped)
            line = f"{ids} {'are' if len(stopped) > 1 else 'is'} over" if stopped else "no rehearsal was under way"
            print_json(said) if options.json else print(one_line(line))
    return 0


def _start(options: argparse.Namespace) -> dict[str, Any]:
    if options.status is None and options.delay is None:
        raise Failure("gateway chaos: start needs --status, --delay or both: else nothing would happen", status=2)
    asked = {
        "route": options.route,
        "status": options.status,
        "delay": options.delay,
        "share": options.share,
        "for": options.lifetime,
    }
    said = ask(options, "POST", FAULTS, {name: value for name, value in asked.items() if value is not None})
    _id(options, said)
    return said


def _tell(options: argparse.Namespace, said: dict[str, Any], found: Iterable[dict[str, Any]], nothing: str) -> None:
    rows = [{**each, "left": f"{each.get('left')}s"} for each in found]
    if options.json:
        print_json(said)
    elif rows:
        show(COLUMNS, rows)
    else:
        print(nothing)


def _id(options: argparse.Namespace, fault: dict[str, Any]) -> str:
    found = fault.get("id")
    if not isinstance(found, str):
        stranger(options)
    return found
