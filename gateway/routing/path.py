"""The one normal form of a request target: what is matched, authorised and cached is what is forwarded.

RFC 3986 sections 3.3, 5.2.4 and 6.2.2, without leniency: a target that two servers could read differently
is refused with 400. Every rule is in docs/routing.md. The result normalises to itself.
"""

import re
from typing import NamedTuple, NoReturn
from urllib.parse import unquote_to_bytes

from gateway.errors import Refused
from gateway.routing.host import authority_key


class Normal(NamedTuple):
    path: bytes
    """Starts with one slash; escapes in upper case, and only where they must be."""
    query: bytes
    """With its "?", or empty."""
    segments: list[str]
    """The path for matching: decoded, without ;parameters and without empty segments."""


# Quantifiers are possessive (the + after the +): no input makes these expressions go back over it.
# Plain targets are most of the traffic: nothing to decode, no parameters, no segment that starts with a dot.
_PLAIN = re.compile(
    rb"(/(?:([A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*+"
    rb"(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*+)*+)/?+)?+)"
    rb"(\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]++|%[0-9A-Fa-f]{2})*+)?+"
)
_ABSOLUTE = re.compile(rb"(https?)://([^/?]*+)(.*)", re.IGNORECASE)
_VISIBLE = re.compile(rb"[!-~]*+")
_PATH = re.compile(rb"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]++|%[0-9A-Fa-f]{2})*+")
# The second row is illegal in a query, but browsers send it raw: it is escaped instead of refused.
_QUERY = re.compile(
    rb"(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]++"
    rb'|[\[\]|^{}"<>\\`]++'
    rb"|%[0-9A-Fa-f]{2})*+)?+"
)
_RAW_IN_QUERY = re.compile(rb'[\[\]|^{}"<>\\`]')
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_NEVER_ESCAPED = frozenset((*range(32), 127, *b"/\\"))


def normalise(target: bytes, host: bytes) -> Normal:
    """The normal form of `target` in origin- or absolute-form; `host` is the Host header. Raises Refused (400)."""
    plain = _PLAIN.fullmatch(target)
    if plain is not None:
        path, inner, query = plain.groups(b"")
        return Normal(path, query, inner.decode("ascii").split("/") if inner else [])
    return _normalise_with_care(target, host)


def _refuse(detail: str) -> NoReturn:
    raise Refused("bad_request", 400, detail)


def _normalise_with_care(target: bytes, host: bytes) -> Normal:
    if not _VISIBLE.fullmatch(target):
        _refuse("The request target contains a space, a control character or a non-ASCII byte.")
    if b"#" in target:  # RFC 9112 3.2: a target has no fragment
        _refuse("The request target contains a fragment.")
    if not target.startswith(b"/"):
        target = _origin_form(target, host)
    raw_path, mark, raw_query = target.partition(b"?")
    if not _PATH.fullmatch(raw_path):
        _refuse("The path contains a character or an escape that is not allowed there.")
    query = mark + raw_query
    if not _QUERY.fullmatch(query):
        _refuse("The query contains an escape that is not valid.")
    pieces = _without_dots(_ESCAPE.sub(_decoded_once, raw_path).split(b"/")[1:])
    return Normal(
        b"/" + b"/".join(pieces),
        _RAW_IN_QUERY.sub(_escaped, query),
        [name for piece in pieces if (name := _name(piece))],
    )


def _origin_form(target: bytes, host: bytes) -> bytes:
    """Path and query of an absolute-form target, which must name the same server as the Host header."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        _refuse("The request target is neither a path nor an http URL.")
    scheme, authority, rest = match.groups()
    port = b"443" if scheme.lower() == b"https" else b"80"
    named = authority_key(authority, port)
    if named is None or named != authority_key(host, port):
        _refuse("The authority of the request target is not that of the Host header.")
    return rest if rest.startswith(b"/") else b"/" + rest


def _decoded_once(escape: re.Match[bytes]) -> bytes:
    value = int(escape[0][1:], 16)
    if value in _NEVER_ESCAPED:
        _refuse("The path contains an escaped slash, backslash or control character.")
    return bytes((value,)) if value in _UNRESERVED else escape[0].upper()


def _escaped(character: re.Match[bytes]) -> bytes:
    return b"%%%02X" % ord(character[0])


def _without_dots(pieces: list[bytes]) -> list[bytes]:
    """Slashes merged, then dot segments removed (RFC 3986 5.2.4); a last b"" stands for a trailing slash."""
    kept: list[bytes] = []
    for piece in pieces:
        if piece == b"..":
            if not kept:
                # Clients resolve references before they send: only somebody who probes climbs this far.
                _refuse("The path climbs above the root.")
            kept.pop()
        elif piece not in (b"", b"."):
            kept.append(piece)
    if kept and pieces[-1] in (b"", b".", b".."):
        kept.append(b"")
    return kept


def _name(piece: bytes) -> str:
    """One segment decoded, without its ;parameters."""
    try:
        text = unquote_to_bytes(piece).decode("utf-8")
    except UnicodeDecodeError:
        _refuse("The path contains escapes that are not UTF-8.")
    # An escaped semicolon counts here too: some servers decode before they cut parameters off.
    if text.partition(";")[0] in (".", ".."):
        _refuse("The path contains a dot segment with parameters.")
    return unquote_to_bytes(piece.partition(b";")[0]).decode("utf-8")
