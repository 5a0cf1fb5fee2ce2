"""`gateway run`: serves as the configuration says."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.cli.configured import config_argument, read_config
from gateway.cli.output import Failure
from gateway.uncollected import uncollected

if TYPE_CHECKING:
    from gateway.config.loading import Loaded
    from gateway.process.supervisor import Ready


log = logging.getLogger("gateway")


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument(
        "--watch", action="store_true", help="reload by itself whenever a file of the configuration changes"
    )


def perform(options: argparse.Namespace) -> int:
    loaded = read_config(options.config)
    ready = announce if loaded.config.logging.format == "text" else announce_as_message
    return serve(options.config, loaded, ready, watch=options.watch)


def announce(listening: Sequence[str], admin: str | None) -> None:
    """One line for each listener, on standard error: standard output belongs to the access log."""
    operators = f", admin on {admin}" if admin is not None else ""
    for address in listening:
        print(f"gateway {__version__} listening on {address}{operators}", file=sys.stderr, flush=True)


def announce_as_message(listening: Sequence[str], admin: str | None) -> None:
    """The same for whoever wants nothing but JSON on standard error."""
    for address in listening:
        log.info("listening on %s%s", address, f", admin on {admin}" if admin is not None else "")


def serve(path: Path, loaded: Loaded, ready: Ready, *, watch: bool = False) -> int:
    """Serve until SIGTERM or SIGINT. Raises Failure for what keeps it from starting."""
    with uncollected():
        from gateway.logs import own_log
        from gateway.process.supervisor import Command, StartError, supervise

    own_log.configure(loaded.config.logging.level, loaded.config.logging.format)
    try:
        return supervise(Command(path, os.environ, watch), loaded, ready)
    except StartError as error:
        raise Failure(f"gateway: {error}") from None
    finally:
        own_log.tick(last=True)
