"""`gateway diff`: what another configuration would change, one line each, defaults included and secrets hidden."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli.configured import config_argument, json_argument
from gateway.cli.output import Failure, console, print_json

if TYPE_CHECKING:
    from gateway.config.changes import Change
    from gateway.config.loading import Loaded

SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument("new", metavar="NEW", type=Path, help="the other configuration")
    json_argument(parser)


def perform(options: argparse.Namespace) -> int:
    from gateway.config.changes import changes, summary
    from gateway.config.effective import comparable, marked

    paths = [options.config, options.new]
    read = _read_all(paths)
    old, new = (
        comparable(each.config, marked(each.content), path.parent) for each, path in zip(read, paths, strict=True)
    )
    found = changes(old, new)
    if options.json:
        files = [{"file": str(path), "hash": each.digest} for path, each in zip(paths, read, strict=True)]
        print_json(
            {
                "old": files[0],
                "new": files[1],
                "changes": [{"kind": each.kind, "path": each.path, "old": each.old, "new": each.new} for each in found],
                "summary": summary(found),
                "restart": [each.path for each in found if each.needs_restart],
            }
        )
    elif not found:
        print("no changes")
    else:
        _print(found, summary(found))
    return 0


def _read_all(paths: list[Path]) -> list[Loaded]:
    """Every file, checked. Raises Failure with the complaints about all of them."""
    from gateway.config import ConfigError
    from gateway.config.loading import read

    loaded, complaints = [], []
    for path in paths:
        try:
            loaded.append(read(path, os.environ))
        except ConfigError as error:
            complaints.append(str(error))
    if complaints:
        raise Failure("\n".join(complaints), status=2)
    return loaded


def _print(found: list[Change], counts: dict[str, dict[str, int]]) -> None:
    out = console()
    for each in found:
        sign, colour = SIGNS[each.kind]
        # Whole lines, whatever the terminal's width: they are read by grep, too.
        out.print(f"{sign} {_line(each)}", style=colour, soft_wrap=True)
    out.print(_counted(counts), style="bold", soft_wrap=True)
    stay = [each.path for each in found if each.needs_restart]
    rest = "" if len(stay) == len(found) else "; a reload takes over the rest"
    print(f"{', '.join(stay)}: only a restart changes this{rest}" if stay else "a reload takes over all of it")


def _line(change: Change) -> str:
    if change.whole:
        return f"{change.part} {change.name}{_described(change.part, change.old or change.new)}"
    match change.kind:
        case "added":
            return f"{change.path}: {text(change.new)}"
        case "removed":
            return f"{change.path}: {text(change.old)}"
    old, new = text(change.old), text(change.new)
    return f"{change.path}: {old} -> {new}" + (" (another secret)" if old == new else "")


def _described(part: str, entry: dict[str, Any]) -> str:
    """What came or went, in a few words."""
    words: list[object] = []
    match part:
        case "route":
            match = entry["match"]
            to = f"-> {entry['upstream']}" if "upstream" in entry else None
            words = [*match.get("methods", ()), f"{match.get('host', '')}{match['path']}", to]
        case "upstream":
            words = [target["url"] for target in entry.get("targets", ())]
        case "provider":
            words = [entry["type"], entry.get("issuer")]
        case "rate limit":
            words = ["+".join(entry["by"]), entry["limit"]]
    said = " ".join(text(word) for word in words if word is not None)
    return f": {said}" if said else ""


def text(value: object) -> str:
    """A value on one line: text as it is where that cannot mislead, else as in JSON."""
    match value:
        case str() if value.isprintable() and value == value.strip() and not _is_json(value):
            return value
        case list():
            return f"[{', '.join(map(text, value))}]"
        case dict():
            return f"{{{', '.join(f'{text(key)}: {text(part)}' for key, part in value.items())}}}"
    return json.dumps(value)  # with everything escaped that a terminal could take for a command


def _is_json(value: str) -> bool:
    """Whether it could be taken for something that is not text, or not be seen."""
    try:
        json.loads(value or "null")
    except (ValueError, RecursionError):
        return False
    return True


def _counted(counts: dict[str, dict[str, int]]) -> str:
    """`2 routes added, 1 changed; 1 upstream removed`."""
    groups = []
    for parts, kinds in counts.items():
        said = [f"{count} {kind}" for kind, count in kinds.items()]
        first, kind = said[0].split(" ")
        noun = parts.replace("_", " ").removesuffix("s" if first == "1" else "")
        said[0] = f"{first} {noun} {kind}"
        groups.append(", ".join(said))
    return "; ".join(groups)
