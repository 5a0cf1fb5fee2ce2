"""`gateway check`: every complaint about the configuration at once, a summary of it, or the whole with all defaults."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli.configured import config_argument, json_argument
from gateway.cli.output import Failure, print_json

if TYPE_CHECKING:
    from gateway.config.loading import Loaded


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument(
        "--print",
        action="store_true",
        dest="show",
        help="print the whole configuration with all defaults as YAML, secrets hidden",
    )
    json_argument(parser)


def perform(options: argparse.Namespace) -> int:
    from gateway.config import ConfigError
    from gateway.config.loading import read
    from gateway.config.warnings import warnings

    try:
        loaded = read(options.config, os.environ)
    except ConfigError as error:
        if not options.json:
            raise Failure(str(error), status=2) from None
        complaints = [
            {"file": each.file, "line": each.line, "column": each.column, "key": each.key, "message": each.message}
            for each in error.complaints
        ]
        print_json({"ok": False, "errors": complaints})
        return 2
    config, digest = loaded.config, loaded.digest
    whole = shown(loaded, options.config) if options.show else {}
    doubts = warnings(config)
    counts = {
        "routes": len(config.routes),
        "upstreams": len(config.upstreams),
        "providers": len(config.auth.providers),
        "rate_limits": len(config.rate_limits),
    }
    if options.json:
        shows = {"config": whole} if whole else {}
        print_json({"ok": True, "errors": [], "warnings": doubts, "hash": digest, **counts, **shows})
    elif whole:
        print(f"# {options.config} sha256:{digest}\n{as_yaml(whole)}", end="")
    else:
        said = ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counts.items())
        print(f"{options.config}: fine ({said})")
        for doubt in doubts:
            print(f"{options.config}: warning: {doubt}", file=sys.stderr)
    return 0


def shown(loaded: Loaded, path: Path) -> dict[str, Any]:
    """All of the configuration, as it may be shown."""
    from gateway.config.effective import effective, marked

    return effective(loaded.config, marked(loaded.content), path.parent)


def as_yaml(data: dict[str, Any]) -> str:
    """YAML that says the same when it is read as a configuration."""
    import yaml

    from gateway.config.values import FLOAT, INTEGER

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    dumper: Any = type("Dumper", (base,), {"ignore_aliases": lambda *_: True})
    # PyYAML writes by YAML 1.1, where 1e5 and 0o17 are text; the configuration is read by 1.2: numbers.
    for tag, pattern in (("int", INTEGER), ("float", FLOAT)):
        anchored = re.compile(f"(?:{pattern.pattern})$")
        dumper.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", anchored, list("+-.0123456789"))
    dumper.add_representer(list, _represent_list)
    return str(yaml.dump(_escaped(data), Dumper=dumper, sort_keys=False, allow_unicode=True, width=120))


def _represent_list(dumper: Any, entries: list[Any]) -> Any:
    """On one line where it holds nothing but scalars."""
    nested = any(isinstance(entry, (list, dict)) for entry in entries)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", entries, flow_style=not nested)


def _escaped(value: Any) -> Any:
    """`${` is text here, not a reference. Keys are never read as references."""
    match value:
        case str():
            return value.replace("${", "$${")
        case dict():
            return {key: _escaped(part) for key, part in value.items()}
        case list():
            return [_escaped(part) for part in value]
    return value
