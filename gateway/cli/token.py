"""`gateway token`: makes a token that a provider of the configuration accepts, for trying out routes."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.configured import config_argument, json_argument, load_config, provider_of
from gateway.cli.output import Failure, print_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from gateway.config.model import JwtProvider


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument("--provider", metavar="P", help="which provider shall accept it (default: the only one)")
    parser.add_argument("--sub", metavar="S", required=True, help="the subject: whose token it is")
    parser.add_argument("--scope", metavar='"A B"', default="", help="scopes, with spaces between")
    parser.add_argument("--role", metavar="R", action="append", default=[], help="a role; may be repeated")
    parser.add_argument(
        "--claim", metavar="K=V", action="append", default=[], help="another claim, V as JSON or text; may be repeated"
    )
    parser.add_argument(
        "--expires", metavar="TIME", default="1h", help="how long it is valid: 10m, 1h, … (default: 1h)"
    )
    parser.add_argument(
        "--private-key", metavar="PEM", type=Path, help="signs for a provider that knows only the public key"
    )
    json_argument(parser)


def perform(options: argparse.Namespace) -> int:
    _, provider = provider_of(load_config(options.config), options.provider)
    claims = claims_for(
        provider, options.sub, options.scope.split(), options.role, lifetime=_lifetime(options.expires), now=time.time()
    )
    for text in options.claim:
        _set(claims, *_claim(text))
    algorithm, token = sign(provider, claims, options.private_key)
    if options.json:
        print_json({"token": token, "algorithm": algorithm, "claims": claims})
    else:
        print(token)
    return 0


def claims_for(
    provider: JwtProvider,
    subject: str,
    scopes: Sequence[str],
    roles: Sequence[str] = (),
    *,
    lifetime: float,
    now: float,
) -> dict[str, object]:
    """What such a token says: issuer, audience and the names of the claims are the provider's."""
    claims: dict[str, object] = {"sub": subject, "iat": int(now), "exp": int(now + lifetime)}
    if provider.issuer is not None:
        claims["iss"] = provider.issuer
    if provider.audience:
        claims["aud"] = provider.audience[0]
    _set(claims, provider.claims.consumer, subject)
    if scopes:
        _set(claims, provider.claims.scopes, " ".join(scopes))
    if roles:
        _set(claims, provider.claims.roles, list(roles))
    return claims


def sign(provider: JwtProvider, claims: Mapping[str, object], private_key: Path | None = None) -> tuple[str, str]:
    """Algorithm and token. Raises Failure when the provider could not accept it."""
    import jwt

    key: str | PrivateKeyTypes
    if provider.secret is not None:
        if private_key is not None:
            raise Failure("gateway token: this provider has a secret; it takes no --private-key", status=2)
        key = provider.secret.get_secret_value()
    elif provider.key is not None:
        key = _private_key(provider.key, private_key)
    else:
        raise Failure("gateway token: this provider's keys are in a JWK set: its issuer makes its tokens", status=2)
    algorithm = provider.algorithms[0]  # the configuration has checked that the key can do each
    with warnings.catch_warnings():
        # PyJWT warns of secrets shorter than the hash; the configuration has its own, stricter, opinion.
        warnings.simplefilter("ignore")
        return algorithm, jwt.encode(dict(claims), key, algorithm)  # type: ignore[arg-type]  # it is of a kind that the algorithm takes


def _private_key(configured: Path, given: Path | None) -> PrivateKeyTypes:
    """The key to sign with: the given one, else the provider's own file if that holds a private key."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from gateway.config.keys import public_key

    path = given or configured
    try:
        pem = path.read_bytes()
        if given is None and b"PRIVATE KEY" not in pem:
            raise Failure("gateway token: the provider knows only a public key: give its --private-key", status=2)
        key = load_pem_private_key(pem, None)
        fits = key.public_key() == public_key(configured.read_bytes())
    except OSError as error:
        raise Failure(f"gateway token: cannot read {path}: {error.strerror}", status=2) from None
    except (ValueError, TypeError):
        raise Failure(f"gateway token: {path} is no PEM private key without a password", status=2) from None
    if not fits:
        raise Failure(f"gateway token: {path} does not belong to the provider's public key", status=2)
    return key


def _lifetime(text: str) -> float:
    from gateway.config.units import positive_duration

    try:
        return positive_duration(text)
    except ValueError as error:
        raise Failure(f"gateway token: --expires: {error}", status=2) from None


def _claim(text: str) -> tuple[str, object]:
    import orjson

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Failure(f"gateway token: --claim {text!r} is not K=V", status=2)
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, value


def _set(claims: dict[str, object], path: str, value: object) -> None:
    """Set a claim at a dotted path; the claims on the way become objects. A URL is a name, not a path."""
    *outer, name = [path] if "://" in path else path.split(".")
    inner = claims
    for part in outer:
        found = inner.setdefault(part, {})
        if not isinstance(found, dict):
            raise Failure(f"gateway token: claim {part!r} is no object, so it cannot hold {path!r}", status=2)
        inner = found
    inner[name] = value
