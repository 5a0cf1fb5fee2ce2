"""Text with fields to fill in: `hello {consumer}`; `{{` and `}}` are the braces themselves. Pure.

Compiled once, at load, into bytes where nothing is to be filled in, else into a function of whatever the
fields are read from. Where the text will stand (`Form`) decides how a value is written: no value can end
the header, the JSON string or the markup that it is put into.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Generic, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote

import orjson

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """Reads a value that needs no writing any more: what it may stand in is known where it comes from."""

    read: Callable[[T], bytes]


Fields: TypeAlias = Mapping[str, Callable[[T], str] | Written[T]]
"""By the names that may stand between braces: how to read the value."""

Template: TypeAlias = bytes | Callable[[T], bytes]

PART = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|[{}])")
"""What is not literal text: a doubled brace, a field, a brace that stands alone."""

UNPRINTABLE = re.compile(rb"[^ -~]")
UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*")
"""RFC 3986 section 2.3: what an URL never escapes."""
LITERALS = "/!$&'()*+,;=:@~"
"""What a path has besides letters and digits, RFC 3986 section 3.3."""


class Form(NamedTuple):
    """How literal text and values are written."""

    literal: Callable[[str], bytes]
    value: Callable[[str], bytes]


def _utf8(text: str) -> bytes:
    # A token may carry half of a surrogate pair, for which UTF-8 has no bytes.
    return text.encode("utf-8", "replace")


def _json(text: str) -> bytes:
    return orjson.dumps(_utf8(text).decode())[1:-1]


def _markup(text: str) -> bytes:
    return _utf8(escape(text))


def _header(text: str) -> bytes:
    """As a URI would have it: CR, LF, NUL and all beyond ASCII become escapes, which no recipient splits."""
    if text.isascii() and text.isprintable():
        return text.encode()
    return UNPRINTABLE.sub(lambda odd: b"%%%02X" % odd[0][0], _utf8(text))


def _component(text: str) -> bytes:
    """One segment of a path, one name or value of a query: no slash, ? or & of the text's counts."""
    if UNRESERVED.fullmatch(text):
        return text.encode()
    return quote(text, safe="", errors="replace").encode()


TEXT = Form(_utf8, _utf8)
MARKUP = Form(_utf8, _markup)
JSON_TEXT = Form(_utf8, _json)  # JSON written by hand, its fields inside of strings
JSON_STRING = Form(_json, _json)
HEADER = Form(lambda text: text.encode("latin-1"), _header)
PATH = Form(lambda text: quote(text, safe=LITERALS).encode(), _component)
COMPONENT = Form(_component, _component)
URL = Form(lambda text: quote(text, safe=LITERALS + "?#[]%").encode(), _component)


def compile_text(text: str, fields: Fields[T], form: Form = TEXT) -> Template[T]:
    """Raises ValueError for a field that is none, and for a brace that is neither doubled nor part of one."""
    return _join(_parts(text, fields, form))


def compile_json(value: object, fields: Fields[T]) -> Template[T]:
    """`value` as JSON, with each string in it a template, but for the keys. Raises ValueError."""
    return _join(_json_parts(value, fields))


def names(text: str) -> set[str]:
    """The fields that `text` has."""
    return {part[1:-1] for part in PART.split(text)[1::2] if len(part) > 1 and part not in ("{{", "}}")}


def sample(text: str, form: Form, value: bytes = b"x") -> bytes:
    """What may come of `text`: each field becomes `value`, which is written already."""
    parts = enumerate(PART.split(text))
    return b"".join(
        form.literal(part[:1] if number % 2 else part) if number % 2 == 0 or part in ("{{", "}}") else value
        for number, part in parts
    )


def filled(template: Template[T], source: T) -> bytes:
    return template if isinstance(template, bytes) else template(source)


def _parts(text: str, fields: Fields[T], form: Form) -> Iterator[Template[T]]:
    for number, part in enumerate(PART.split(text)):
        if number % 2 == 0:
            yield form.literal(part)
        elif part in ("{{", "}}"):
            yield form.literal(part[0])
        elif part in ("{", "}"):
            raise ValueError(f"a {part} that begins or ends no field is written twice: {part * 2}")
        elif part[1:-1] in fields:
            yield _field(fields[part[1:-1]], form.value)
        else:
            known = ", ".join(f"{{{name}}}" for name in fields)
            raise ValueError(f"{part} is no field: there are {known}; a brace itself is written twice")


def _field(read: Callable[[T], str] | Written[T], write: Callable[[str], bytes]) -> Callable[[T], bytes]:
    if isinstance(read, Written):
        return read.read
    value = read
    return lambda source: write(value(source))


def _json_parts(value: object, fields: Fields[T]) -> Iterator[Template[T]]:
    match value:
        case str():
            yield b'"'
            yield from _parts(value, fields, JSON_STRING)
            yield b'"'
        case dict():
            for number, (key, inner) in enumerate(value.items()):
                yield (b"," if number else b"{") + orjson.dumps(key) + b":"
                yield from _json_parts(inner, fields)
            yield b"}" if value else b"{}"
        case list() | tuple():
            for number, inner in enumerate(value):
                yield b"," if number else b"["
                yield from _json_parts(inner, fields)
            yield b"]" if value else b"[]"
        case _:
            yield orjson.dumps(value)


def _join(parts: Iterator[Template[T]]) -> Template[T]:
    """One template of many, with as few pieces as can be."""
    pieces: list[tuple[bytes, Callable[[T], bytes]]] = []
    literal: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes):
            literal.append(part)
        else:
            pieces.append((b"".join(literal), part))
            literal = []
    last = b"".join(literal)
    if not pieces:
        return last
    if len(pieces) == 1:
        return _around(*pieces[0], last)

    def fill(source: T) -> bytes:
        text = b""
        for before, value in pieces:
            text += before + value(source)
        return text + last

    return fill


def _around(first: bytes, only: Callable[[T], bytes], last: bytes) -> Callable[[T], bytes]:
    """Most templates are one field and nothing else."""
    return (lambda source: first + only(source) + last) if first or last else only
