"""The command `gateway`: finds the subcommand, runs it, and turns what goes wrong into one line and an exit status.

0 fine, 1 the operation failed, 2 wrong usage or configuration, 130 interrupted. Nothing but argparse is
imported before the subcommand is known: `gateway --version` answers at once.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from gateway import __version__
from gateway.cli.output import Failure

COMMANDS = {
    "run": "serve requests as the configuration says, until SIGTERM or Ctrl-C",
    "check": "tell everything that is wrong with the configuration, and where",
    "diff": "show what another configuration would change",
    "reload": "make the running gateway read its configuration again",
    "routes": "list the routes",
    "explain": "show what happens to a request, and why no other route takes it",
    "token": "make a signed token for trying out a route",
    "keys": "make, list, rotate and revoke API keys; make the hash of a password",
    "revoke": "refuse tokens and consumers from now on, in the running gateway",
    "circuits": "show the circuits of the running gateway; hold them open, or close them",
    "chaos": "rehearse failures of a route, in the running gateway and for a while",
    "usage": "show who has called what, how often",
    "tail": "show the requests of the running gateway as they end",
    "top": "watch the running gateway: rates, errors, latencies, circuits and recent problems",
    "schema": "print a JSON Schema of the configuration, for editors",
    "demo": "start demo upstreams and a gateway, and show what to try",
}


class Parser(argparse.ArgumentParser):
    """Complains in one line instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise Failure(f"{self.prog}: {message} (try `{self.prog} --help`)", status=2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status. Never raises, never prints a traceback for bad input."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows "?" instead of an error
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        options = _parser(words).parse_args(words)
        status: int = options.perform(options)
        sys.stdout.flush()
    except SystemExit as done:  # argparse, after --help and --version
        return int(done.code or 0)
    except Failure as failure:
        print(failure, file=sys.stderr)
        return failure.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    return status


def _parser(words: list[str]) -> Parser:
    parser = Parser(prog="gateway", description="A resilient API gateway described by one YAML file.")
    parser.add_argument("--version", action="version", version=f"gateway {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name in words:
            module = import_module(f"gateway.cli.{name}")
            module.arguments(command)
            command.set_defaults(perform=module.perform)
    return parser
