"""`gateway check`: every complaint about the configuration at once, a summary of it, or the whole with all defaults."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.cli.configured import config_argument, json_argument
from gateway.cli.output import Failure, print_json

if TYPE_CHECKING:
    from gateway.config import Config


class Examined(NamedTuple):
    """A configuration, and what can be said of its file."""

    config: Config
    digest: str
    """SHA-256 of the file's bytes."""
    written: object
    """What the file says, for `gateway.config.effective`: where each value came from."""


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

    try:
        config, digest, whole = _read(options.config, options.show)
    except ConfigError as error:
        if not options.json:
            raise Failure(str(error), status=2) from None
        complaints = [
            {"file": each.file, "line": each.line, "column": each.column, "key": each.key, "message": each.message}
            for each in error.complaints
        ]
        print_json({"ok": False, "errors": complaints})
        return 2
    counts = {
        "routes": len(config.routes),
        "upstreams": len(config.upstreams),
        "providers": len(config.auth.providers),
        "rate_limits": len(config.rate_limits),
    }
    if options.json:
        print_json({"ok": True, "errors": [], "hash": digest, **counts, **({"config": whole} if whole else {})})
    elif whole:
        print(f"# {options.config} sha256:{digest}\n{as_yaml(whole)}", end="")
    else:
        said = ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counts.items())
        print(f"{options.config}: fine ({said})")
    return 0


def _read(path: Path, whole: bool) -> tuple[Config, str, dict[str, Any]]:
    """The configuration, its hash, and all of it for showing where that is asked for."""
    if whole:
        from gateway.config.effective import effective

        config, digest, written = examine(path)
        return config, digest, effective(config, written, path.parent)
    from gateway.config.loading import read

    loaded = read(path, os.environ)
    return loaded.config, loaded.digest, {}


def examine(path: Path) -> Examined:
    """The configuration in `path`, checked. Raises ConfigError; Failure where the file cannot be read twice."""
    from gateway.config.effective import marked
    from gateway.config.loading import read

    loaded = read(path, os.environ)
    content = b"" if path.is_fifo() else path.read_bytes()
    if hashlib.sha256(content).hexdigest() != loaded.digest:
        raise Failure(f"{path} is a pipe, or changed while it was read: give it as a file that stays", status=2)
    return Examined(loaded.config, loaded.digest, marked(content))


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
