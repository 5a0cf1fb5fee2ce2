"""Whether a reply is what a probe expects, and if not, what is wrong with it. Pure.

Texts quote what an upstream has said: short, on one line, without control characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from gateway.config.complaints import show

if TYPE_CHECKING:
    from gateway.config.probes import Expect

LARGEST = 1024 * 1024
"""Bytes of a body that are read."""

OK = "ok"
RESULTS = (OK, "status", "header", "json", "slow", "timeout", "unreachable")
"""All that a run can find: a label of metrics."""

LONGEST_NUMBER = 60
NOTHING = object()


class Seen(NamedTuple):
    """A reply."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes | None
    """None when it was longer than LARGEST."""
    took: float
    """Seconds to its last byte."""


class Judgement(NamedTuple):
    """One of RESULTS, and what is wrong in words; "" when nothing is."""

    result: str
    detail: str


WELL = Judgement(OK, "")


def judge(expect: Expect, seen: Seen) -> Judgement:
    """The first thing that is wrong: what the reply says comes before how long it took."""
    if not any(first <= seen.status <= last for first, last in expect.status):
        return Judgement("status", f"status {seen.status}")
    for name, value in expect.headers.items():
        if wrong := _header(name, value, seen.headers):
            return Judgement("header", wrong)
    if expect.json_ and (wrong := _json(expect.json_, seen.body)):
        return Judgement("json", wrong)
    if expect.within is not None and seen.took > expect.within:
        return Judgement("slow", f"took {seen.took * 1000:.0f} ms, more than {expect.within * 1000:g} ms")
    return WELL


def _header(name: str, wanted: str, headers: Sequence[tuple[str, str]]) -> str:
    """`application/json` is satisfied by `application/json; charset=utf-8`, not the other way round."""
    found = [value.strip() for key, value in headers if key.lower() == name.lower()]
    if not found:
        return f"header {name} is missing"
    if wanted in found or (";" not in wanted and wanted in (value.partition(";")[0].rstrip() for value in found)):
        return ""
    return f"header {name} is {show(found[0])}"


def _json(wanted: dict[str, Any], body: bytes | None) -> str:
    if body is None:
        return f"the body has more than {LARGEST} bytes"
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "the body is not JSON"
    for path, value in wanted.items():
        found = _at(document, path)
        if found is NOTHING:
            return f"{path} is missing"
        if not same(found, value):
            return f"{path} is {show(found)}"
    return ""


def _at(document: Any, path: str) -> Any:
    """What stands there, or NOTHING."""
    for part in path.split("."):
        if isinstance(document, dict):
            document = document.get(part, NOTHING)
        elif isinstance(document, list) and part.isascii() and part.isdigit() and len(part) < LONGEST_NUMBER:
            document = document[int(part)] if int(part) < len(document) else NOTHING
        else:
            return NOTHING
    return document


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1, but 1 is 1.0; the order of members says nothing."""
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
        case list(), list():
            return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)
