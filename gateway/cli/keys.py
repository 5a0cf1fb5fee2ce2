"""`gateway keys`: makes what consumers prove themselves with, and the hashes that the configuration keeps of it."""

from __future__ import annotations

import argparse
import sys

from gateway.cli.output import Failure, print_json

PREFIX = "gwk_"
"""In front of every key, so that scanners find one that was committed by mistake."""

LONGEST_PASSWORD = 1024


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = actions.add_parser("new", help="print a new API key, which is kept nowhere, and its hash")
    hashed = actions.add_parser("hash-password", help="read a password from standard input and print its hash")
    for action in (new, hashed):
        action.add_argument("--json", action="store_true", help="print JSON")


def perform(options: argparse.Namespace) -> int:
    result = _new() if options.action == "new" else _hashed(_password())
    if options.json:
        print_json(result)
    else:
        # With several, names in front; a hash alone goes as it is into a file or a variable.
        print("\n".join(f"{name:<5} {value}" for name, value in result.items()) if len(result) > 1 else result["hash"])
    return 0


def _new() -> dict[str, str]:
    import secrets
    from hashlib import sha256

    key = PREFIX + secrets.token_urlsafe(32)  # 256 bits: nobody finds it by trying, so a fast hash will do
    return {"key": key, "hash": f"sha256:{sha256(key.encode()).hexdigest()}"}


def _hashed(password: bytes) -> dict[str, str]:
    import os

    from gateway.auth.passwords import make

    return {"hash": str(make(password, os.urandom(16)))}


def _password() -> bytes:
    """One line of standard input; on a terminal asked for, and not shown. Raises Failure."""
    if sys.stdin.isatty():
        import getpass

        text = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != text:
            raise Failure("gateway keys: the two are not the same", status=2)
    else:
        try:
            text = sys.stdin.buffer.read(LONGEST_PASSWORD + 2).decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise Failure("gateway keys: the password is not UTF-8", status=2) from None
    if not text or not text.isprintable() or len(text.encode()) > LONGEST_PASSWORD:
        raise Failure(
            f"gateway keys: a password is one line of 1 to {LONGEST_PASSWORD} bytes, without control characters",
            status=2,
        )
    return text.encode()
