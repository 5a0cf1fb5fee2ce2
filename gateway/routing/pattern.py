"""A route's path and host as written in the configuration, parsed; complaints are ValueErrors.

`/orders/{id}/items` matches one segment by its place, `*` does so without a name, and a final `**` takes
zero or more segments. Literals are text, not percent-encoded: requests are compared decoded. Case and
trailing slashes: see `fold` and docs/routing.md.
"""

import re
from typing import NamedTuple
from unicodedata import normalize

_PARAM = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NEVER_IN_A_SEGMENT = re.compile(r"[\x00-\x1f\x7f/\\]")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\]")

Step = str | None
"""One segment: the literal text, or None for any one segment."""


class Pattern(NamedTuple):
    steps: tuple[Step, ...]
    rest: bool
    """It ends in `**`."""
    params: tuple[tuple[str, int], ...]
    """Names and the index of the segment each one takes."""


def parse_path(path: str) -> Pattern:
    if not path.startswith("/"):
        raise ValueError("a path starts with /")
    pieces = path[1:].split("/")
    if pieces[-1] == "":
        pieces.pop()  # a trailing slash does not distinguish routes
    rest = bool(pieces) and pieces[-1] == "**"
    if rest:
        pieces.pop()
    steps: list[Step] = []
    params: list[tuple[str, int]] = []
    for index, piece in enumerate(pieces):
        named = _PARAM.fullmatch(piece)
        if named is not None:
            params.append((named[1], index))
        steps.append(None if named is not None or piece == "*" else _literal(piece))
    if len({name for name, _ in params}) < len(params):
        raise ValueError("two parameters have the same name")
    return Pattern(tuple(steps), rest, tuple(params))


def _literal(piece: str) -> str:
    if piece == "**":
        raise ValueError("** can only be the last segment")
    if "{" in piece or "}" in piece or "*" in piece:
        raise ValueError(f"{piece!r}: {{name}} and * stand for a whole segment; a name is letters, digits and _")
    if "?" in piece or "#" in piece:
        raise ValueError(f"{piece!r}: a path has no query and no fragment; use the route's query conditions")
    if "%" in piece:
        raise ValueError(f"{piece!r}: write the characters themselves, not percent-encoded")
    if ";" in piece:
        raise ValueError(f"{piece!r}: parameters after ; are not matched, so this could never match")
    if piece in ("", ".", "..") or _NEVER_IN_A_SEGMENT.search(piece):
        raise ValueError(f"{piece!r}: no request has such a segment once it is normalised")
    return piece


def parse_host(host: str) -> bytes:
    """A host as `host_key` gives it, or b"*.name". `*.example.com` has one or more labels for its `*`."""
    name = host.lower()
    if not _HOST.fullmatch(name):
        raise ValueError(f"{host!r} is not a host: a name in ASCII without port, *.name, or [IPv6]")
    return name.encode("ascii").removesuffix(b".")


def fold(segment: str) -> str:
    """What a lenient server may take `segment` for: without case, ;parameters, trailing dots and spaces.

    Also without compatibility forms, and by way of capitals: full-width letters, and the dotless i that Java's
    equalsIgnoreCase takes for one with a dot.
    """
    plain = normalize("NFKC", segment).partition(";")[0].rstrip(". ")
    return plain.upper().casefold().replace("\u0307", "")
