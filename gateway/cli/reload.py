"""`gateway reload`: asks the running gateway to read its configuration again."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from gateway.cli.admin_client import TOKEN, admin_argument, call, one_line
from gateway.cli.configured import json_argument
from gateway.cli.output import Failure, print_json

SHOWN = 12
"""Digits of the hash: as many as tell any two configurations apart."""


def arguments(parser: argparse.ArgumentParser) -> None:
    admin_argument(parser)
    json_argument(parser)


def perform(options: argparse.Namespace) -> int:
    status, said = call(options.admin, "POST", "/api/v1/reload")
    errors = said.get("errors")
    if status == 200 and (line := _success(said)):
        outcome = 0
    elif status == 422 and isinstance(errors, list) and errors:
        outcome, line = 2, "the configuration was refused; the gateway goes on with the one it has"
    elif status in (200, 404):
        raise Failure(f"what listens at {options.admin} cannot reload: is it the gateway's admin listener?")
    else:
        hint = f": set {TOKEN}" if status == 401 else ""
        outcome, line = (
            1,
            f"not reloaded: {said.get('detail') or said.get('title') or f'the answer was {status}'}{hint}",
        )
    if options.json:
        print_json(said)
    elif outcome:
        for error in errors if outcome == 2 and isinstance(errors, list) else ():
            print(one_line(error), file=sys.stderr)
        print(one_line(line), file=sys.stderr)
    else:
        print(line)
    return outcome


def _success(said: dict[str, Any]) -> str:
    """`reloaded in 123 ms: …`, or "" for an answer that does not say so."""
    match said:
        case {"reloaded": True, "hash": str(hash), "took_ms": int() | float() as took, "workers": int(workers)}:
            digits = one_line(hash).removeprefix("sha256:")[:SHOWN]
            return f"reloaded in {took:.0f} ms: {workers} worker{'' if workers == 1 else 's'}, sha256:{digits}"
    return ""
