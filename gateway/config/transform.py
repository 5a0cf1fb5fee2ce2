"""`routes[].transform`, `redirect` and `respond`: what becomes of requests and replies, and the gateway's own answers.

Templates are compiled here once, to find what is wrong with them. What only the route or all of them together show
is asked in `transform_checks.py`.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gateway.config.complaints import cut, show
from gateway.config.fallback import bodies_of, body_faults, checked, json_value
from gateway.config.fields import (
    File,
    Flag,
    OrOne,
    Section,
    SettableHeader,
    Status,
    Text,
    one_or_more,
    refuse,
    whole,
)
from gateway.config.paths import is_parameter, path_pattern
from gateway.config.syntax import (
    OURS,
    TOKEN,
    each_header_once,
    header_value,
    hostname,
    settable_header,
    split_authority,
    text,
)
from gateway.errors import Refused
from gateway.transform.answer import text_body
from gateway.transform.fields import CallFields
from gateway.transform.paths import Rewrite as Rewriting
from gateway.transform.paths import linear, references, valid
from gateway.transform.redirect import compile_url
from gateway.transform.template import COMPONENT, HEADER, PART, PATH, compile_json, compile_text, names, sample

ANY = CallFields(None)
REDIRECTS = (301, 302, 303, 307, 308)
ABSOLUTE = re.compile(r"https?://(?P<authority>.*?)(?:\{path\}|[/?#]|$)")
NOT_IN_PATHS = {"?": "the query: for that there is transform.query", "#": "a fragment, which is never sent"}


def _header_name(value: object) -> str:
    """A header that no part of the gateway writes itself."""
    name = settable_header(value)
    if name.lower() in OURS or name.lower() == "max-forwards":
        raise ValueError(f"{show(value)} is written by the gateway itself")
    return name


def _header(value: object) -> str:
    checked(value, partial(compile_text, header_value(value), ANY, HEADER))
    return str(value)


def _component(value: object) -> str:
    checked(value, partial(compile_text, text(value), ANY, COMPONENT))
    return str(value)


def _literal_prefix(value: object) -> str:
    """Whole segments, without a slash at the end."""
    written = path_pattern(value).removesuffix("/")
    if not written:
        raise ValueError("is nothing: a prefix has a segment at least")
    if any(is_parameter(segment) or "*" in segment for segment in written.split("/")):
        raise ValueError("is compared as it stands: it can have no parameters, no * and no **")
    return written


def _prefix(value: object) -> str:
    written = cut(text(value), text(value).removesuffix("/"))
    if not written.startswith("/"):
        raise ValueError(f"{show(value)} must begin with / and have a segment")
    checked(value, partial(compile_text, written, ANY, PATH))
    _path_text(written, lambda: sample(written, PATH) + b"/")
    return str(written)


def _path_text(written: str, filled: Callable[[], bytes]) -> None:
    """What stands in `written` besides fields belongs into a path, and makes one. Raises ValueError."""
    literal = "".join(PART.split(written)[::2])
    for mark, meaning in NOT_IN_PATHS.items():
        if mark in literal:
            raise ValueError(f"has a {mark}, which begins {meaning}")
    if "%" in literal:
        raise ValueError("is percent-encoded: write the characters themselves")
    try:
        valid(filled())
    except Refused:
        raise ValueError("does not make a path: no // and no dot segments, backslashes or control characters") from None


def _expression(value: object) -> str:
    checked(value, partial(linear, text(value)))
    return str(value)


def _replacement(value: object, info: ValidationInfo) -> str:
    """What is put in the place of a match of `from`, which stands before it."""
    pattern, written = info.data.get("from_"), text(value)
    if pattern is None:
        return str(value)
    checked(value, partial(Rewriting, pattern, written, ANY))
    anchored = pattern.startswith(("^", r"\A"))
    if anchored and not written.startswith(("/", "{", "\\")):
        raise ValueError(f"{show(value)} must begin with /, as every path does")
    # In the middle of a path, or behind what a group has caught, anything may stand before it.
    whole_path = anchored and written.startswith("/")
    _path_text(references(written), lambda: (b"" if whole_path else b"/x") + sample(references(written), PATH))
    return str(value)


def _domain(value: object) -> str:
    return "none" if value == "none" else hostname(cut(text(value), text(value).removeprefix(".")))


def _address(value: object) -> str:
    """An http URL, or a path of this very host."""
    written = text(value)
    checked(value, partial(compile_url, written, None))
    if absolute := ABSOLUTE.match(written):
        if names(absolute["authority"]) - {"host"}:
            raise ValueError("has a field in its host: whoever fills that in would lead clients anywhere")
        split_authority(cut(written, absolute["authority"].replace("{host}", "h")))
    elif not written.startswith(("/", "{path}")) or written.startswith("//"):
        raise ValueError(f"{show(value)} is neither an http URL nor a path")
    if any(character <= " " or character in '"<>\\^`|\x7f' for character in "".join(PART.split(written)[::2])):
        raise ValueError("has a character that no URL has: percent-encode it")
    return str(value)


def _redirection(value: object) -> int:
    if (status := whole(value)) not in REDIRECTS:
        raise ValueError(f"{show(value)} is none of {', '.join(map(str, REDIRECTS))}")
    return status


def _text(value: object) -> str:
    checked(value, partial(text_body, text(value), "", ANY))
    return str(value)


def _json(value: object) -> Any:
    plain = json_value(value)
    checked(value, lambda: compile_json(plain, ANY))
    return plain


OwnHeader = Annotated[
    str, PlainValidator(_header_name), WithJsonSchema({"type": "string", "pattern": f"^(?:{TOKEN.pattern})$"})
]
HeaderTemplate = Annotated[str, PlainValidator(_header), WithJsonSchema({"type": "string"})]
Component = Annotated[str, PlainValidator(_component), WithJsonSchema({"type": "string"})]
LiteralPrefix = Annotated[str, PlainValidator(_literal_prefix), WithJsonSchema({"type": "string", "pattern": "^/"})]
Prefix = Annotated[str, PlainValidator(_prefix), WithJsonSchema({"type": "string", "pattern": "^/"})]
Expression = Annotated[str, PlainValidator(_expression), WithJsonSchema({"type": "string"})]
Replacement = Annotated[str, PlainValidator(_replacement), WithJsonSchema({"type": "string"})]
Domain = Annotated[str, PlainValidator(_domain), WithJsonSchema({"type": "string"})]
WebAddress = Annotated[str, PlainValidator(_address), WithJsonSchema({"type": "string"})]
Redirection = Annotated[int, PlainValidator(_redirection), WithJsonSchema({"type": "integer", "enum": [*REDIRECTS]})]
Json = Annotated[Any, PlainValidator(_json), WithJsonSchema({})]
TextTemplate = Annotated[str, PlainValidator(_text), WithJsonSchema({"type": "string"})]


class HeaderEdit(Section):
    """Header fields that are set, added and removed. In values {request.id}, {consumer}, {param.NAME}, {claim.PATH},
    {version}, {route}, {client.ip}, {host}, {path} and {method} are filled in; {{ and }} are braces.
    """

    set: dict[OwnHeader, HeaderTemplate] = Field(default_factory=dict)
    """In the place of what is there; not sent where a template comes out empty."""
    add: dict[OwnHeader, HeaderTemplate] = Field(default_factory=dict)
    """Besides what is there."""
    remove: Annotated[tuple[OwnHeader, ...], BeforeValidator(one_or_more), OrOne()] = ()

    @field_validator("set", "add", mode="after")
    @classmethod
    def _each_once(cls, headers: dict[str, str]) -> dict[str, str]:
        return each_header_once(headers)

    @model_validator(mode="after")
    def _one_fate(self) -> Self:
        given = {name.lower() for name in self.set}
        both = [place for place, name in enumerate(self.remove) if name.lower() in given]
        refuse([(("remove", place), "is set as well") for place in both])
        return self


class QueryEdit(Section):
    """Parameters of the query that are set, added and removed; the others stay byte for byte."""

    set: dict[Text, Component] = Field(default_factory=dict)
    """In the place of all of that name."""
    add: dict[Text, Component] = Field(default_factory=dict)
    remove: Annotated[tuple[Text, ...], BeforeValidator(one_or_more), OrOne()] = ()

    @model_validator(mode="after")
    def _one_fate(self) -> Self:
        refuse([(("remove", place), "is set as well") for place, name in enumerate(self.remove) if name in self.set])
        return self


class Rewrite(Section):
    """Puts something else in the place of a part of the path. Needs google-re2."""

    from_: Expression = Field(alias="from")
    r"""A regular expression of RE2; what it matches first is replaced. Anchor it with ^ and $ for the whole path."""
    to: Replacement
    r"""With what groups have caught: {name} or \1, and with the fields that headers know."""


class Cookies(Section):
    """Set-Cookie of the upstream, as it is right for the public address."""

    domain: Domain | None = None
    """Stands instead of any Domain; `none` takes it away."""
    path: Flag = False
    """Undoes in Path what was done to the path of the request."""


class Transform(Section):
    """What becomes of requests on their way to the upstream, and of replies on their way back."""

    strip_prefix: LiteralPrefix | None = None
    """Whole segments, taken away first."""
    rewrite: Rewrite | None = None
    """After `strip_prefix`."""
    add_prefix: Prefix | None = None
    """Last of all. Fields are filled in as single segments."""
    query: QueryEdit | None = None
    request_headers: HeaderEdit | None = None
    response_headers: HeaderEdit | None = None
    location: Flag = False
    """Location and Content-Location that name the upstream lead back to the public address."""
    cookies: Cookies | None = None


class Redirect(Section):
    """Sends clients to another address."""

    to: WebAddress
    """An http URL, or a path of the same host; with fields as in headers."""
    status: Redirection = 307
    keep_query: Flag = False
    """Hands the query on."""


class Respond(Section):
    """Answers without any upstream. Texts, strings of JSON and values of headers have fields as in `transform`."""

    status: Status = 200
    headers: dict[SettableHeader, HeaderTemplate] = Field(default_factory=dict)
    json_: Json = Field(default=None, alias="json")
    """The body, as JSON. Counts only while `text` and `file` are None."""
    text: TextTemplate | None = None
    """The body, as text; "" where there is no other body."""
    file: File | None = None
    """The body, from a file; its ending tells the type."""

    @field_validator("headers", mode="after")
    @classmethod
    def _each_once(cls, headers: dict[str, str]) -> dict[str, str]:
        return each_header_once(headers)

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        refuse([*body_faults(self.status, bodies_of(self.model_fields_set))])
        if "json_" not in self.model_fields_set and self.text is None and self.file is None:
            self.__dict__["text"] = ""
        return self
