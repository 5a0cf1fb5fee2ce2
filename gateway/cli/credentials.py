"""How commands for operators ask the running gateway, and show what it says."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import quote

from gateway.cli.admin_client import TOKEN, call, one_line
from gateway.cli.output import Failure, console

ID = re.compile(r"(key|rev|flt)_[0-9a-f]{12}")


def ask(
    options: argparse.Namespace, method: str, path: str, body: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """What the gateway answers when it does what it is asked. Raises Failure with its reason when it does not."""
    for name, value in (body or {}).items():
        if isinstance(value, str) and not value.isprintable():  # what is not UTF-8 either
            raise Failure(f"gateway {options.command}: {name} has characters that cannot be printed", status=2)
    status, said = call(options.admin, method, path, body)
    if status in (200, 201):
        return said
    if status == 404 and said.get("code") != "not_found":
        stranger(options)
    hint = f": set {TOKEN}" if status == 401 else ""
    reason = said.get("detail") or said.get("title") or f"the answer was {status}"
    raise Failure(one_line(f"gateway {options.command}: {reason}{hint}"), status=2 if status == 422 else 1)


def stranger(options: argparse.Namespace) -> NoReturn:
    """What answered is no gateway, or one that knows nothing of this."""
    raise Failure(
        f"what listens at {one_line(options.admin)} knows nothing of {options.command}: is it the gateway's admin"
        " listener?"
    )


def path_of(options: argparse.Namespace, collection: str, id: str, kind: str) -> str:
    """Where a record is: `kind` is what its id begins with. Raises Failure for what is no id."""
    found = ID.fullmatch(id)
    if found is None or found[1] != kind:
        wrong = one_line(id[:60])
        raise Failure(f"gateway {options.command}: {wrong!r} is no id: {kind}_ and 12 digits, as in the list", status=2)
    return f"/api/v1/{collection}/{quote(id, safe='')}"


def records(options: argparse.Namespace, said: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The list called `name` in the answer. Raises Failure when it is not there."""
    found = said.get(name)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        stranger(options)
    return found


def show(columns: dict[str, str], found: Iterable[dict[str, Any]]) -> None:
    """A table: titles, each with the member of a record that stands below it."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in columns:
        table.add_column(title, overflow="fold")
    for record in found:
        table.add_row(*(one_line(record.get(member) or "-") for member in columns.values()))
    console().print(table)


def warn_unless_durable(said: dict[str, Any], cure: str) -> None:
    """One line on standard error about what ends with the gateway."""
    if said.get("durable") is not True:
        print(one_line(f"kept in memory, gone when this gateway ends; to keep it, {cure}"), file=sys.stderr)
