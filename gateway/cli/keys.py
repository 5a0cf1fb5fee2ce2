"""`gateway keys`: makes what consumers prove themselves with, for the configuration or in the running gateway."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from gateway.cli.admin_client import DEFAULT, admin_argument, one_line
from gateway.cli.configured import json_argument
from gateway.cli.credentials import ask, path_of, records, show, stranger, warn_unless_durable
from gateway.cli.output import Failure, print_json

LONGEST_PASSWORD = 1024

COLUMNS = {
    "ID": "id",
    "CONSUMER": "consumer",
    "HASH": "hash",
    "SOURCE": "source",
    "CREATED": "created",
    "EXPIRES": "expires",
    "NOTE": "note",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = actions.add_parser(
        "new", help="print a new API key and its hash; with --consumer the gateway knows it at once"
    )
    new.add_argument("--consumer", metavar="NAME", help="make it in the running gateway, for this consumer")
    new.add_argument(
        "--expires", metavar="TIME", help="how long it is valid: 1h, 90d, … (default: until it is revoked)"
    )
    new.add_argument("--note", metavar="TEXT", help="shown in the list")
    listed = actions.add_parser(
        "list", help="list the keys that the running gateway knows, without the keys themselves"
    )
    rotate = actions.add_parser("rotate", help="make a key in the place of another, which ends some time later")
    rotate.add_argument("--overlap", metavar="TIME", help="how long the old one is still valid (default: 1d)")
    revoke = actions.add_parser("revoke", help="withdraw a key, at once")
    for action in (rotate, revoke):
        action.add_argument("id", metavar="ID", help="of the key, as the list shows it")
    hashed = actions.add_parser("hash-password", help="read a password from standard input and print its hash")
    for action in (new, listed, rotate, revoke):
        admin_argument(action)
    for action in (new, listed, rotate, revoke, hashed):
        json_argument(action)


def perform(options: argparse.Namespace) -> int:
    match options.action:
        case "new" if options.consumer is not None:
            _make(options)
        case "new":
            _refuse_what_needs_a_consumer(options)
            _print(options, _new())
        case "list":
            _list(options)
        case "rotate":
            _rotate(options)
        case "revoke":
            _revoke(options)
        case "hash-password":
            _print(options, _hashed(_password()))
    return 0


# -- in the running gateway ----------------------------------------------------------------------------


def _make(options: argparse.Namespace) -> None:
    asked = {"consumer": options.consumer, "expires": options.expires, "note": options.note}
    body = {name: value for name, value in asked.items() if value is not None}
    _tell(options, ask(options, "POST", "/api/v1/keys", body))


def _list(options: argparse.Namespace) -> None:
    said = ask(options, "GET", "/api/v1/keys")
    found = records(options, said, "keys")
    if options.json:
        print_json(said)
    elif found:
        show(COLUMNS, found)
    else:
        print("no keys")


def _rotate(options: argparse.Namespace) -> None:
    path = path_of(options, "keys", options.id, "key") + "/rotate"
    said = ask(options, "POST", path, {} if options.overlap is None else {"overlap": options.overlap})
    _tell(options, said)
    if not options.json and isinstance(old := said.get("replaces"), dict):
        print(one_line(f"{options.id} ends {old.get('expires')}"))


def _revoke(options: argparse.Namespace) -> None:
    said = ask(options, "DELETE", path_of(options, "keys", options.id, "key"))
    match said:
        case {"revoked": {"id": str(id), "consumer": str(consumer)}}:
            print_json(said) if options.json else print(one_line(f"{id} of {consumer} is no longer valid"))
        case _:
            stranger(options)


def _tell(options: argparse.Namespace, said: dict[str, Any]) -> None:
    """The new key, this once."""
    match said:
        case {"id": str(id), "key": str(key), "hash": str(digest), "consumer": str(consumer), "expires": expires}:
            shown = {"id": id, "key": key, "hash": digest, "ends": expires or "when it is revoked"}
        case _:
            stranger(options)
    if options.json:
        print_json(said)
    else:
        _print(options, {name: one_line(value) for name, value in shown.items()})
        warn_unless_durable(said, f"put its hash into auth.consumers.{consumer}.keys or name a Redis in store.url")


# -- for the configuration -----------------------------------------------------------------------------


def _print(options: argparse.Namespace, result: dict[str, str]) -> None:
    if options.json:
        print_json(result)
    else:
        # With several, names in front; a hash alone goes as it is into a file or a variable.
        print("\n".join(f"{name:<5} {value}" for name, value in result.items()) if len(result) > 1 else result["hash"])


def _refuse_what_needs_a_consumer(options: argparse.Namespace) -> None:
    given = {"expires": options.expires, "note": options.note, "admin": None if options.admin == DEFAULT else ""}
    for name, value in given.items():
        if value is not None:
            raise Failure(f"gateway keys: --{name} needs --consumer: else the key is kept nowhere", status=2)


def _new() -> dict[str, str]:
    from gateway.auth.new_key import new_key

    key, kept = new_key()
    return {"key": key, "hash": kept}


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
