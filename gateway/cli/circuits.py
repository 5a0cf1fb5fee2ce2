"""`gateway circuits`: how the running gateway's circuits are, what happened to them, and holding them open by hand."""

from __future__ import annotations

import argparse
from urllib.parse import quote

from gateway.cli.admin_client import admin_argument, one_line
from gateway.cli.configured import json_argument
from gateway.cli.credentials import ask, records, show, stranger
from gateway.cli.output import Failure, print_json

CIRCUITS = "/api/v1/circuits"
EVENTS_SHOWN = 10

COLUMNS = {"UPSTREAM": "upstream", "TARGET": "target", "STATE": "state", "HELD": "held"}
EVENT_COLUMNS = {"AT": "at", "UPSTREAM": "upstream", "TARGET": "target", "TO": "to", "WORKERS": "times"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("list", "open", "close"),
        nargs="?",
        default="list",
        help="list them (default); open one and hold it open; close one and let it judge for itself again",
    )
    parser.add_argument("upstream", metavar="UPSTREAM", nargs="?", help="whose circuits to open or close")
    parser.add_argument("--target", metavar="URL", help="only the one of this target (default: all of the upstream)")
    admin_argument(parser)
    json_argument(parser)


def perform(options: argparse.Namespace) -> int:
    if options.action == "list":
        if options.upstream is not None or options.target is not None:
            raise _wrong("UPSTREAM and --target are for open and close")
        _list(options)
    else:
        _change(options)
    return 0


def _list(options: argparse.Namespace) -> None:
    said = ask(options, "GET", CIRCUITS)
    circuits, events = records(options, said, "circuits"), records(options, said, "events")
    if options.json:
        print_json(said)
        return
    if not circuits:
        print("no circuits: every breaker is off, or there are no upstreams")
        return
    show(COLUMNS, [{**each, "held": "open" if each.get("held") else None} for each in circuits])
    if events:
        print("\nlatest changes")
        show(EVENT_COLUMNS, events[:EVENTS_SHOWN])


def _change(options: argparse.Namespace) -> None:
    if not options.upstream:
        raise _wrong(f"{options.action} needs the name of an UPSTREAM")
    path = f"{CIRCUITS}/{quote(options.upstream, safe='', errors='surrogateescape')}/{options.action}"
    said = ask(options, "POST", path, {} if options.target is None else {"target": options.target})
    match said:
        case {"upstream": str(upstream), "target": str() | None as target, "held": bool(held)}:
            which = f"circuit of {upstream} {target}" if target else f"circuits of {upstream}"
            be = "is" if target else "are"
            close = f"gateway circuits close {upstream}" + (f" --target {target}" if target else "")
            done = f"held open, until `{close}`" if held else "closed, and judge for themselves again"
            if target and not held:
                done = "closed, and judges for itself again"
        case _:
            stranger(options)
    print_json(said) if options.json else print(one_line(f"{which} {be} {done}"))


def _wrong(message: str) -> Failure:
    return Failure(f"gateway circuits: {message}", status=2)
