from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.config import compress as section
from gateway.config.compress import WORTHWHILE, Compress, CompressOrNot
from gateway.transform.codecs import ENCODERS, KNOWN
from gateway.transform.compressible import NEVER, PATTERN


class Holder(BaseModel):
    """As a route holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    compress: CompressOrNot = None


def held(value: Any) -> Compress | None:
    return Holder.model_validate({"compress": value}).compress


def complaints(value: Any) -> list[tuple[tuple[int | str, ...], str]]:
    """Where, below `compress`, and what."""
    with pytest.raises(ValidationError) as raised:
        held(value)
    return [
        (line["loc"][1:], str(line.get("ctx", {}).get("error") or line.get("ctx", {}).get("message") or line["msg"]))
        for line in raised.value.errors()
        if not (line["type"] == "too_short" and line["input"])  # what is there has its own complaint
    ]


def test_true_is_all_of_it_by_default() -> None:
    given = held(True)
    assert given == held("true") == held({}) == Compress()
    assert given is not None
    assert (given.encodings, given.min_size, given.types, given.level) == (
        tuple(ENCODERS),
        1024,
        WORTHWHILE,
        "balanced",
    )


def test_false_is_none_of_it() -> None:
    assert held(False) is held("false") is held("off") is None
    assert Holder().compress is None


def test_every_setting_can_be_said() -> None:
    given = held(
        {"encodings": ["gzip"], "min_size": "4KiB", "types": ["Text/*", "application/*+json"], "level": "fast"}
    )
    assert given is not None
    assert given.encodings == ("gzip",)
    assert given.min_size == 4096
    assert given.types == ("text/*", "application/*+json")
    assert given.level == "fast"


@pytest.mark.parametrize(
    ("value", "where", "what"),
    [
        (
            {"encodings": ["gzipp"]},
            ("encodings", 0),
            "must be one of zstd, br, gzip, not 'gzipp' (did you mean 'gzip'?)",
        ),
        ({"encodings": ["deflate"]}, ("encodings", 0), "must be one of zstd, br, gzip, not 'deflate'"),
        ({"encodings": [1]}, ("encodings", 0), "must be one of zstd, br, gzip, not 1"),
        ({"encodings": ["gzip", "gzip"]}, ("encodings", 1), "is here twice"),
        ({"types": ["json"]}, ("types", 0), "'json' is not a media type, such as application/json or text/*"),
        ({"types": [True]}, ("types", 0), "true is not a media type, such as application/json or text/*"),
        ({"types": ["text/html; charset=utf-8"]}, ("types", 0), "is not a media type"),
        ({"types": ["text/html", "TEXT/html"]}, ("types", 1), "is here twice"),
        ({"types": ["text/event-stream"]}, ("types", 0), "'text/event-stream' is never compressed"),
        ({"types": ["text/*", "video/*"]}, ("types", 1), "'video/*' is never compressed"),
        ({"types": ["image/png"]}, ("types", 0), "'image/png' is never compressed"),
        ({"min_size": 0}, ("min_size",), ""),
        ({"level": "best"}, ("level",), ""),
        ({"level": 6}, ("level",), ""),
        ({"encodings": []}, ("encodings",), ""),
        ({"types": []}, ("types",), ""),
        ({"minsize": "1KiB"}, ("minsize",), ""),
        ("yes", (), ""),
    ],
)
def test_what_has_no_sense_is_said_at_its_place(value: Any, where: tuple[int | str, ...], what: str) -> None:
    ((place, message),) = complaints(value)
    assert place == where
    assert what in message


def test_an_encoding_that_is_not_installed_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(section, "ENCODERS", {"gzip": ENCODERS["gzip"]})
    ((place, message),) = complaints({"encodings": ["gzip", "br"]})
    assert place == ("encodings", 1)
    assert message == "br is not installed: the extra `compress` of this package brings it"


def test_the_types_of_the_default_could_have_been_written() -> None:
    assert all(PATTERN.fullmatch(each) and not NEVER.fullmatch(each) for each in WORTHWHILE)


def test_editors_are_told_of_both_ways_to_write_it() -> None:
    schema = Holder.model_json_schema()
    either = schema["properties"]["compress"]["anyOf"]
    assert {"enum": [True, False, "off"]} in either
    encodings = schema["$defs"]["Compress"]["properties"]["encodings"]
    assert encodings["items"] == {"enum": list(KNOWN)}
