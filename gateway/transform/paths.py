"""The path with which a request goes on: a prefix less, a pattern rewritten, a prefix more, in this order. Pure.

What comes out is a path in normal form (`routing/path.py`) or the request is refused: no rewriting leads to `//`,
`..` or an escape that routing has not seen. Route, permissions and metrics stay those of the path that was matched.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from gateway.errors import Refused
from gateway.exchange import Call
from gateway.routing.path import normalise
from gateway.transform.fields import CallFields
from gateway.transform.template import LITERALS, PATH, Template, Written, compile_text

Edit = Callable[[Call], None]
"""Changes what goes on to the upstream. May raise Refused."""

CURE = "needs google-re2, which matches in linear time: pip install 'resilient-gateway[rewrite]'"
GROUP = re.compile(r"\\([0-9])")
MOST_MEMORY = 1 << 20
"""Bytes that a compiled expression may take: one that needs more is a mistake or an attack."""


def strip_prefix(prefix: str) -> Edit:
    """Takes away whole segments, compared decoded as routing does, cut where the path as it is has its slashes."""
    plain = quote(prefix, safe=LITERALS).encode()
    within, length, names = plain + b"/", len(plain), [name.encode() for name in prefix.split("/")[1:]]

    def strip(call: Call) -> None:
        path = call.path
        if path.startswith(within):
            call.path = path[length:]
        elif path == plain:
            call.path = b"/"
        elif b"%" in path or b";" in path:
            call.path = _without(path, names)

    return strip


def _without(path: bytes, names: list[bytes]) -> bytes:
    """`path` after the segments with these names; itself when it does not begin with them."""
    pieces, found = path.split(b"/")[1:], 0
    for index, piece in enumerate(pieces):
        name = unquote_to_bytes(piece.partition(b";")[0])
        if name and name != names[found]:
            return path
        found += bool(name)  # routing does not see segments of nothing but parameters
        if found == len(names):
            return b"/" + b"/".join(pieces[index + 1 :])
    return path


def add_prefix(prefix: Template[Call]) -> Edit:
    if isinstance(prefix, bytes):
        fixed = prefix

        def add(call: Call) -> None:
            call.path = fixed + call.path
    else:
        fill = prefix

        def add(call: Call) -> None:
            call.path = valid(fill(call) + call.path)

    return add


def valid(path: bytes) -> bytes:
    """`path`, if it is what it normalises to. Raises Refused (400)."""
    try:
        same = path.startswith(b"/") and normalise(path, b"").path == path
    except Refused:
        same = False
    if not same:
        raise Refused("bad_request", 400, "The path cannot be forwarded once it is rewritten.")
    return path


class Found(NamedTuple):
    """Where an expression has matched the path of a call."""

    call: Call
    match: Any


class Rewrite:
    """Puts `to` in the place of what `pattern` matches first. Raises ValueError for either."""

    def __init__(self, pattern: str, to: str, fields: CallFields) -> None:
        self._pattern = linear(pattern)
        self._to: Template[Found] = compile_text(references(to), RewriteFields(self._pattern, fields), PATH)

    def __call__(self, call: Call) -> None:
        match = self._pattern.search(call.path)
        if match is not None:
            first, last = match.span()
            put = self._to if isinstance(self._to, bytes) else self._to(Found(call, match))
            call.path = valid(call.path[:first] + put + call.path[last:])


def references(to: str) -> str:
    r"""`to` with {1} for \1. Raises ValueError for other backslashes."""
    written = GROUP.sub(r"{\1}", to)
    if "\\" in written:
        raise ValueError(r"has a \ that is not followed by the number of a group")
    return written


class RewriteFields(Mapping[str, Callable[[Found], str] | Written[Found]]):
    """What an expression has caught, by number and name, and what is known of the call."""

    def __init__(self, pattern: Any, fields: CallFields) -> None:
        self._groups: dict[str, int | str] = {str(number): number for number in range(pattern.groups + 1)}
        self._groups |= {name: name for name in pattern.groupindex}
        self._fields = fields

    def __getitem__(self, name: str) -> Callable[[Found], str] | Written[Found]:
        if name in self._groups:
            group = self._groups[name]
            return Written(lambda found: found.match.group(group) or b"")  # it is a part of the path as it stands
        read = self._fields[name]
        if isinstance(read, Written):
            inner = read.read
            return Written(lambda found: inner(found.call))
        value = read
        return lambda found: value(found.call)

    def __iter__(self) -> Iterator[str]:
        yield from self._groups
        yield from self._fields

    def __len__(self) -> int:
        return len(self._groups) + len(self._fields)


def linear(pattern: str) -> Any:
    """`pattern` compiled by RE2, whose time grows with the path and never more. Raises ValueError."""
    try:
        re2 = import_module("re2")
    except ImportError:
        raise ValueError(CURE) from None
    options = re2.Options()
    options.log_errors = False  # they go to the terminal
    options.max_mem = MOST_MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise ValueError(f"is not an expression of RE2: {text}") from None
