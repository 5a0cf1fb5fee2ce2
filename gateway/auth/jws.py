"""Reads a compact JWS (RFC 7515) strictly: what has two readings or an extension is refused.

The libraries below us are lenient in places where leniency has been a hole: base64 with padding, other
alphabets or spare bits, repeated JSON names, `crit` they do not know. So the text is judged here first and
only the signature is left to them. A `jwk`, `jku`, `x5u` or `x5c` in the header is not looked at at all:
a token cannot bring its own key (CVE-2018-0114). Nothing here verifies anything.
"""

import base64
import binascii
import json
from typing import Any, NamedTuple

from gateway.auth.providers import Reason

MAX_DEPTH = 32
"""Levels of JSON nesting. Role trees of real issuers stay under 8; a parser recurses, so this is bounded."""


class MalformedError(ValueError):
    """Not a token; the text says why, without repeating anything of it."""

    reason: Reason = "malformed"


class Jws(NamedTuple):
    """A well-formed token, not verified."""

    algorithm: str
    payload: dict[str, Any]
    signed: bytes
    """The bytes under the signature."""
    signature: bytes
    kid: object = None
    """Which key signed it, as the header says: whatever stands there."""
    typ: object = None
    """What kind of token it is, as the header says: whatever stands there."""


def parse(token: bytes) -> Jws:
    """Take `token` apart, which somebody has found short enough. Raises MalformedError."""
    if token.count(b".") != 2:  # five segments are an encrypted token (JWE), which we never accept
        raise MalformedError("The token is malformed.")
    head, body, tail = token.split(b".")
    header = json_object(decode(head))
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise MalformedError("The token names no algorithm.")
    if "crit" in header or "b64" in header:
        # RFC 7515 section 4.1.11: an extension that is not understood must be refused; we know none.
        raise MalformedError("The token uses an extension that is not supported.")
    signed = token[: len(head) + 1 + len(body)]
    return Jws(algorithm, json_object(decode(body)), signed, decode(tail), header.get("kid"), header.get("typ"))


def media_type(typ: object) -> bytes | None:
    """What `typ` stands for: in any case, and `application/` is usually left out (RFC 7515 section 4.1.9)."""
    return typ.encode().lower().removeprefix(b"application/") if isinstance(typ, str) else None


def decode(segment: bytes) -> bytes:
    """Base64url without padding, in its one canonical form (RFC 7515 section 2)."""
    try:
        raw = base64.urlsafe_b64decode(segment + b"==")
    except binascii.Error:
        raise MalformedError("The token is malformed.") from None
    # The decoder skips what it does not know and ignores spare bits: only the way back proves the form.
    if not raw or base64.urlsafe_b64encode(raw).rstrip(b"=") != segment:
        raise MalformedError("The token is malformed.")
    return raw


def json_object(raw: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8 without repeated names, NaN, lone surrogates or deep nesting."""
    if too_deep(raw):
        raise MalformedError("The token is nested too deeply.")
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        if b"\\u" in raw:
            # Half a surrogate pair can be escaped into a string that nothing can ever encode again.
            json.dumps(value, ensure_ascii=False).encode()
    except MalformedError:
        raise
    except ValueError:  # not UTF-8, not JSON, a lone surrogate, an integer of thousands of digits
        raise MalformedError("The token is malformed.") from None
    if not isinstance(value, dict):
        raise MalformedError("The token is malformed.")
    return value


def too_deep(raw: bytes) -> bool:
    """Whether the JSON text nests deeper than MAX_DEPTH; linear, and free for the usual text."""
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return False
    depth = 0
    in_string = escaped = False
    for byte in raw:
        if escaped:
            escaped = False
        elif in_string:
            escaped = byte == 0x5C  # backslash
            in_string = byte != 0x22  # quote
        elif byte == 0x22:
            in_string = True
        elif byte in b"{[":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif byte in b"}]":
            depth -= 1
    return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("The token repeats a name.")
    return found


def _no_constant(name: str) -> Any:
    raise MalformedError("The token is malformed.")
