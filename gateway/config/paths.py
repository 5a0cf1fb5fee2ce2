"""A route's path as it is written: literal segments, `{param}`, `*` for one segment, `**` at the end for the rest.

Literals are the characters themselves, never percent-encoded, as routing reads them (`routing/pattern.py`; a
property test keeps the two together). A pattern that no request can match once it is normalised (`..`, `//`,
`;parameters`) is refused instead of kept as a dead route.
"""

import re

from gateway.config.complaints import cut, show
from gateway.config.syntax import text

NEVER = re.compile(r"[\x00-\x1f\x7f/\\]")
"""What a segment never holds: normalisation refuses it, escaped or not."""


def is_parameter(segment: str) -> bool:
    return segment[:1] == "{" and segment[-1:] == "}"


def path_pattern(value: object) -> str:
    """The path, checked. Raises ValueError."""
    written = text(value)
    if not written.startswith("/"):
        raise ValueError(f"{show(value)} must begin with /")
    segments = written[1:].removesuffix("/").split("/") if len(written) > 1 else []
    if "**" in segments[:-1]:
        raise ValueError("'**' stands for the rest of the path: it must be the last segment")
    for segment in segments:
        if segment not in ("*", "**") and (fault := _fault(segment)):
            raise ValueError(f"segment {show(cut(written, segment))} {fault}")
    parameters = [segment for segment in segments if is_parameter(segment)]
    if len(parameters) != len(set(parameters)):
        raise ValueError("the same parameter is here twice")
    return str(written)


def shape(path: str) -> tuple[str, ...]:
    """The same for any two paths that match the same requests; a literal has no slash, so none equals a mark."""
    return tuple(
        "/one" if segment == "*" or is_parameter(segment) else "/rest" if segment == "**" else segment
        for segment in path[1:].removesuffix("/").split("/")
    )


def _fault(segment: str) -> str:
    if is_parameter(segment) and segment[1:-1].isidentifier() and segment.isascii():
        return ""
    if "{" in segment or "}" in segment:
        return "is not a parameter: a name of letters, digits and _ in braces, a whole segment by itself"
    if "*" in segment:
        return "mixes: '*' and '**' are whole segments"
    if "?" in segment or "#" in segment:
        return "goes beyond the path: for the query there is match.query"
    if "%" in segment:
        return "is percent-encoded: write the characters themselves"
    if ";" in segment:
        return "has a ';': what follows it is not matched"
    if segment in ("", ".", "..") or NEVER.search(segment):
        return "never reaches a route: paths are normalised before they are matched"
    return ""
