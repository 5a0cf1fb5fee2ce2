"""The `-c FILE` of the commands, and the configuration behind it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.output import Failure
from gateway.uncollected import uncollected

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.config.loading import Loaded
    from gateway.config.model import JwtProvider

DEFAULT = Path("config/routes.yaml")


def config_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `-c FILE`."""
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, default=DEFAULT, help=f"the configuration (default: {DEFAULT})"
    )


def json_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--json`."""
    parser.add_argument("--json", action="store_true", help="for scripts: print JSON")


def load_config(path: Path) -> Config:
    """The configuration, checked. Raises Failure with every complaint."""
    return read_config(path).config


def read_config(path: Path) -> Loaded:
    """The configuration, checked, and what it was made of. Raises Failure with every complaint."""
    with uncollected():
        from gateway.config import ConfigError
        from gateway.config.loading import read

    try:
        return read(path, os.environ)
    except ConfigError as error:
        raise Failure(str(error), status=2) from None


def provider_of(config: Config, name: str | None) -> tuple[str, JwtProvider]:
    """The provider of tokens called `name`, or the only one there is. Raises Failure."""
    from gateway.config.model import JwtProvider

    providers = {name: each for name, each in config.auth.providers.items() if isinstance(each, JwtProvider)}
    names = ", ".join(providers) or "none"
    if name is None:
        if len(providers) != 1:
            raise Failure(f"gateway token: which provider? --provider takes one of: {names}", status=2)
        return next(iter(providers.items()))
    if name not in providers:
        raise Failure(f"gateway token: no provider {name!r} in the configuration; there are: {names}", status=2)
    return name, providers[name]
