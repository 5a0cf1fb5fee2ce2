"""`gateway check`: every complaint about the configuration at once, or a summary of it."""

import argparse
import os

from gateway.cli.configured import config_argument, json_argument
from gateway.cli.output import Failure, print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument(
        "--print",
        action="store_true",
        dest="show",
        help="print the whole configuration with all defaults (seconds and bytes, secrets hidden)",
    )
    json_argument(parser)


def perform(options: argparse.Namespace) -> int:
    from gateway.config import ConfigError, load

    try:
        config = load(options.config, os.environ)
    except ConfigError as error:
        if not options.json:
            raise Failure(str(error), status=2) from None
        complaints = [
            {"file": each.file, "line": each.line, "column": each.column, "key": each.key, "message": each.message}
            for each in error.complaints
        ]
        print_json({"ok": False, "errors": complaints})
        return 2
    whole = config.model_dump(mode="json", by_alias=True) if options.show else None
    counts = {
        "routes": len(config.routes),
        "upstreams": len(config.upstreams),
        "providers": len(config.auth.providers),
        "rate_limits": len(config.rate_limits),
    }
    if options.json:
        print_json({"ok": True, "errors": [], **counts, **({"config": whole} if whole is not None else {})})
    elif whole is not None:
        import yaml

        print(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=120), end="")
    else:
        said = ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counts.items())
        print(f"{options.config}: fine ({said})")
    return 0
