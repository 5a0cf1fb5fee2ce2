"""`gateway revoke`: makes the running gateway refuse credentials that are still valid, and shows and lifts that."""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import Any

from gateway.cli.admin_client import admin_argument, one_line
from gateway.cli.configured import json_argument
from gateway.cli.credentials import ask, path_of, records, show, stranger, warn_unless_durable
from gateway.cli.output import Failure, print_json

REVOCATIONS = "/api/v1/revocations"
LONGEST_TOKEN = 16 * 1024
"""Bytes; the gateway takes half of it."""

LEEWAY = 60.0
"""Seconds: as long as a gateway may accept a token after its end."""

LONGEST_LIFETIME = 3650 * 86400.0
"""Ten years, the longest duration there is; beyond it a revocation is for good."""

COLUMNS = {
    "ID": "id",
    "TOKEN": "jti",
    "CONSUMER": "consumer",
    "PROVIDER": "provider",
    "ISSUED BEFORE": "issued_before",
    "CREATED": "created",
    "UNTIL": "expires",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--jti", metavar="ID", help="the token with this id (its claim jti)")
    what.add_argument("--token", metavar="T", help="this token; - reads it from standard input")
    what.add_argument("--consumer", metavar="NAME", help="all credentials of a consumer")
    what.add_argument("--list", action="store_true", help="list what is revoked")
    what.add_argument("--lift", metavar="ID", help="take a revocation back")
    parser.add_argument(
        "--issued-before",
        metavar="TIME",
        help="tokens from before it, with --consumer only that one's; now, or RFC 3339",
    )
    parser.add_argument("--provider", metavar="P", help="only what this provider vouches for (default: any)")
    parser.add_argument(
        "--for",
        dest="lifetime",
        metavar="TIME",
        help="how long, 30d or none for ever (default: 30d for --jti, the rest of its life for --token, else none)",
    )
    admin_argument(parser)
    json_argument(parser)


def perform(options: argparse.Namespace) -> int:
    if options.list or options.lift is not None:
        _refuse_all_but_the_list(options)
        _list(options) if options.list else _lift(options)
        return 0
    said = ask(options, "POST", REVOCATIONS, _body(options))
    line = f"{_id(options, said)} refuses {described(said)}"
    if options.json:
        print_json(said)
        return 0
    print(line)
    if isinstance(said.get("hint"), str):
        print(one_line(f"it is revoked, but {said['hint']}"), file=sys.stderr)
    warn_unless_durable(said, "name a Redis in store.url")
    return 0


def described(revocation: dict[str, Any]) -> str:
    """`token 7f3a of provider idp, until 2026-12-21T09:00:00Z`; whoever answered, on one line."""
    jti, consumer, provider, before, ends = map(
        revocation.get, ("jti", "consumer", "provider", "issued_before", "expires")
    )
    what = f"token {jti}" if jti else "tokens" if before else "every credential"
    of = f" of {consumer}" if consumer else ""
    issued = f" issued before {before}" if before else ""
    by = f", by provider {provider}" if provider else ""
    return one_line(f"{what}{of}{issued}{by}, {f'until {ends}' if ends else 'until it is lifted'}")


def _body(options: argparse.Namespace) -> dict[str, object]:
    asked: dict[str, object] = {
        "jti": options.jti,
        "consumer": options.consumer,
        "issued_before": _before(options),
        "provider": options.provider,
        "for": options.lifetime,
    }
    if options.token is not None:
        asked["jti"], rest = of_token(_token(options.token), time.time())
        asked["for"] = options.lifetime or rest
    body = {name: value for name, value in asked.items() if value is not None}
    if not body.keys() & {"jti", "consumer", "issued_before"}:
        raise _wrong("one of --jti, --token, --consumer, --issued-before, --list and --lift is needed")
    return body


def _before(options: argparse.Namespace) -> float | None:
    if options.issued_before is None:
        return None
    if options.jti is not None or options.token is not None:
        raise _wrong("--issued-before goes with --consumer or alone: a token's id says all")
    if options.issued_before == "now":
        return time.time()
    from gateway.admin.times import instant

    try:
        return instant(options.issued_before)
    except ValueError as error:
        raise _wrong(f"--issued-before {one_line(options.issued_before[:60])!r} {error}, or now") from None


def of_token(token: str, now: float) -> tuple[str, str]:
    """Id of a token, and how long it has to be refused. Nobody verifies it: whoever is refused is its owner.

    Raises Failure when it has no id, or has ended.
    """
    from gateway.auth import jws

    try:
        claims = jws.parse(token.encode()).payload
    except ValueError:
        raise _wrong("--token is not a token (JWT)") from None
    jti, expires = claims.get("jti"), claims.get("exp")
    if not isinstance(jti, str) or not jti:
        raise _wrong("the token has no id (jti): --consumer NAME --issued-before now revokes what its owner has")
    if expires is None:
        return jti, "none"
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise _wrong("the token's exp is no number: no gateway accepts it")
    rest = math.ceil(expires + LEEWAY - now) if math.isfinite(expires) else LONGEST_LIFETIME
    if rest <= 0:
        raise Failure("gateway revoke: the token has ended by itself: nothing to revoke")
    return jti, f"{rest}s" if rest < LONGEST_LIFETIME else "none"


def _token(given: str) -> str:
    """The token, or what standard input has. Raises Failure."""
    if given != "-":
        return given.strip()
    try:
        return sys.stdin.buffer.read(LONGEST_TOKEN).decode("ascii").strip()
    except UnicodeDecodeError:
        raise _wrong("--token is not a token (JWT)") from None


def _list(options: argparse.Namespace) -> None:
    said = ask(options, "GET", REVOCATIONS)
    found = records(options, said, "revocations")
    if options.json:
        print_json(said)
    elif found:
        show(COLUMNS, found)
    else:
        print("nothing is revoked")
    if said.get("in_force") is False and not options.json:
        print("auth.revocation is off in the configuration: nothing of this is in force", file=sys.stderr)


def _lift(options: argparse.Namespace) -> None:
    said = ask(options, "DELETE", path_of(options, "revocations", options.lift, "rev"))
    lifted = said.get("lifted")
    if not isinstance(lifted, dict):
        stranger(options)
    line = f"{_id(options, lifted)} is lifted: it refused {described(lifted)}"
    print_json(said) if options.json else print(line)


def _id(options: argparse.Namespace, revocation: dict[str, Any]) -> str:
    found = revocation.get("id")
    if not isinstance(found, str):
        stranger(options)
    return one_line(found)


def _refuse_all_but_the_list(options: argparse.Namespace) -> None:
    given = {"issued-before": options.issued_before, "provider": options.provider, "for": options.lifetime}
    for name, value in given.items():
        if value is not None:
            raise _wrong(f"--{name} is for revoking, not for --list and --lift")


def _wrong(message: str) -> Failure:
    return Failure(f"gateway revoke: {message}", status=2)
