"""`gateway run`: serves as the configuration says."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from gateway import __version__
from gateway.cli.configured import config_argument, load_config
from gateway.cli.output import Failure

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.process.server import Ready


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)


def perform(options: argparse.Namespace) -> int:
    return serve_config(load_config(options.config), announce)


def announce(listening: Sequence[str], admin: str | None) -> None:
    """One line for each listener, on standard error: standard output belongs to the access log."""
    operators = f", admin on {url(admin)}" if admin is not None else ""
    for address in listening:
        print(f"gateway {__version__} listening on {url(address)}{operators}", file=sys.stderr, flush=True)


def serve_config(config: Config, ready: Ready) -> int:
    """Serve until SIGTERM or SIGINT. Raises Failure for what keeps it from starting."""
    from gateway.process.server import StartError, serve

    logging.basicConfig(
        level=config.logging.level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    try:
        return _run(serve(config, ready=ready))
    except StartError as error:
        raise Failure(f"gateway: {error}") from None


def url(address: str) -> str:
    """An address as it is typed into a browser; a unix socket as it is configured."""
    return address if address.startswith("unix:") else f"http://{address}"


def _run(main: Coroutine[Any, Any, int]) -> int:
    try:
        import uvloop
    except ImportError:  # where it has no wheels, asyncio's own loop serves as well, at two thirds of the rate
        return asyncio.run(main)
    return uvloop.run(main)
