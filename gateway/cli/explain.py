"""`gateway explain`: which route takes a request, what happens to it there, and why no other route takes it.

Nothing is sent anywhere: the same router, providers and permissions as in the gateway are asked.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
from itertools import groupby
from typing import TYPE_CHECKING

from gateway.cli.configured import config_argument, json_argument, load_config
from gateway.cli.outcome import outcome
from gateway.cli.output import Failure, console, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from gateway.cli.explanation import Explanation
    from gateway.describe.stages import Stage

SHOWN = 25
"""Other routes listed for people; `--json` has them all."""


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument("method", metavar="METHOD")
    parser.add_argument("url", metavar="URL", help="http://host/path?query, or the path alone")
    parser.add_argument("-H", "--header", metavar="'N: V'", action="append", default=[], help="may be repeated")
    parser.add_argument("--token", metavar="T", help="a bearer token, which is verified as in the gateway")
    parser.add_argument("--client", metavar="ADDRESS", help="the client's IP address: a proxy's, where that is trusted")
    json_argument(parser)


def perform(options: argparse.Namespace) -> int:
    from gateway.cli.explanation import explain

    config = load_config(options.config)
    headers = [_header(text) for text in options.header]
    if options.token is not None:
        headers.append((b"authorization", b"Bearer " + options.token.encode()))
    explanation = asyncio.run(explain(config, options.method, options.url, headers, _address(options.client)))
    if options.json:
        print_json(explanation)
    else:
        _print(explanation)
    return 0


def _header(text: str) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise Failure(f"gateway explain: -H {text!r} is not 'Name: value'", status=2)
    return name.strip().lower().encode(), value.strip().encode()


def _address(text: str | None) -> str | None:
    try:
        return None if text is None else str(ipaddress.ip_address(text))
    except ValueError:
        raise Failure(f"gateway explain: --client {text!r} is not an IP address", status=2) from None


def _print(explanation: Explanation) -> None:
    out = console()
    asked = f"{explanation['method']} {explanation['url']}"
    if explanation["route"] is None:
        out.print(f"No route takes {asked}", style="bold")
    else:
        out.print(f"Route {explanation['route']} takes {asked}", style="bold")
        if explanation["params"]:
            out.print("  with " + ", ".join(f"{name}={value}" for name, value in explanation["params"].items()))
        out.print(_steps(explanation["stages"]))
        for line in outcome(explanation):
            out.print(f"  {line}", soft_wrap=True)
    if (refusal := explanation["refusal"]) is not None:
        out.print(f"  answer: {refusal['status']} {refusal['code']} {refusal['detail']}", style="bold")
    if explanation["reply_headers"]:
        out.print("  the reply says besides:")
        for line in explanation["reply_headers"]:
            out.print(f"    {line}", soft_wrap=True)
    _print_others(explanation)


def _print_others(explanation: Explanation) -> None:
    from rich.table import Table

    # Near misses first: with many routes most differ in the path, which says little.
    others = sorted(explanation["others"], key=lambda other: other["reason"].startswith("path"))
    if not others:
        return
    out = console()
    out.print("Other routes", style="bold")
    table = Table(box=None, show_header=False, pad_edge=False)
    for other in others[:SHOWN]:
        table.add_row(f"  {other['route']}", other["reason"])
    out.print(table)
    if len(others) > SHOWN:
        out.print(f"  and {len(others) - SHOWN} more")


def _steps(stages: list[Stage]) -> Table:
    """Numbered; the ways behind a split each go on from its number, for a request takes one of them."""
    from rich.table import Table

    steps = Table(box=None, show_header=False, pad_edge=False)
    for title in ("", "stage", "settings"):
        steps.add_column(title, overflow="fold")
    common = sum("upstream" not in stage for stage in stages)
    for upstream, way in groupby(stages, key=lambda stage: stage.get("upstream")):
        if upstream is not None:
            steps.add_row("", "to", upstream, style="bold")
        for number, stage in enumerate(way, 1 if upstream is None else common + 1):
            steps.add_row(f"{number:>3}", stage["stage"], stage["settings"])
    return steps
