"""The strict reader of tokens: one text, one reading."""

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.jws import MAX_DEPTH, MalformedError, decode, json_object, media_type, parse, too_deep
from tests.tokens import b64, claims, sign


@given(st.binary(min_size=1))
def test_what_was_encoded_canonically_is_decoded(raw: bytes) -> None:
    assert decode(b64(raw)) == raw


@given(st.binary(max_size=24))
def test_whatever_is_decoded_was_canonical(segment: bytes) -> None:
    try:
        raw = decode(segment)
    except MalformedError:
        return
    assert b64(raw) == segment


@given(st.text(alphabet="AQgw-_+/= \n.", max_size=9))
def test_of_lookalikes_only_the_canonical_text_is_decoded(text: str) -> None:
    segment = text.encode()
    try:
        raw = decode(segment)
    except MalformedError:
        return
    assert b64(raw) == segment


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values, max_size=5), st.booleans())
def test_an_ordinary_object_is_read_as_any_reader_would(value: dict[str, object], ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert json_object(raw) == json.loads(raw)


@given(st.binary(max_size=60))
def test_no_bytes_make_the_reader_fail_otherwise(raw: bytes) -> None:
    for read in (json_object, parse):
        with contextlib.suppress(MalformedError):
            read(raw)


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_no_segments_make_the_reader_fail_otherwise(segments: list[bytes]) -> None:
    with contextlib.suppress(MalformedError):
        parse(b".".join(b64(segment) for segment in segments))


def depth(value: object) -> int:
    match value:
        case dict():
            return 1 + max(map(depth, value.values()), default=0)
        case list():
            return 1 + max(map(depth, value), default=0)
        case _:
            return 0


@given(json_values, st.integers(0, 2 * MAX_DEPTH), st.text(alphabet='[]{}"\\a', max_size=60))
def test_depth_counts_nesting_and_not_brackets_in_strings(inner: object, levels: int, text: str) -> None:
    value: object = [inner, text]
    for _ in range(levels):
        value = {"a": value, text: [[], [], [], [], [], [], [], []]}
    assert too_deep(json.dumps(value).encode()) == (depth(value) > MAX_DEPTH)


def test_many_shallow_objects_are_not_deep() -> None:
    assert json_object(json.dumps({"a": [{"b": []}] * 500}).encode())


def test_the_signature_covers_the_first_two_segments() -> None:
    token = sign(claims())
    jws = parse(token)
    assert jws.signed == token.rpartition(b".")[0]
    assert base64.urlsafe_b64decode(token.rpartition(b".")[2] + b"=") == jws.signature
    assert (jws.algorithm, jws.payload["sub"]) == ("HS256", "alice")


def test_key_and_type_are_what_stands_in_the_header() -> None:
    named = parse(sign(claims(), header={"kid": "a", "typ": "at+jwt"}))
    assert (named.kid, named.typ) == ("a", "at+jwt")
    strange = parse(sign(claims(), header={"kid": 7, "typ": [1]}))
    assert (strange.kid, strange.typ) == (7, [1])
    none = parse(sign(claims(), header=b'{"alg":"HS256"}'))
    assert (none.kid, none.typ) == (None, None)


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+JWT"])
def test_a_type_is_the_same_in_any_case_and_with_its_whole_name(typ: str) -> None:
    assert media_type(typ) == b"at+jwt"


@pytest.mark.parametrize(
    "typ", ["JWT", "at+jwt ", "at+jwt;v=1", "text/at+jwt", "application/application/at+jwt", "", None, 7, ["at+jwt"]]
)
def test_another_type_is_another_type(typ: object) -> None:
    assert media_type(typ) != b"at+jwt"


def test_only_ascii_letters_have_two_cases() -> None:
    assert media_type("\u212a") != media_type("k")  # KELVIN SIGN, in lower case a k


def test_an_integer_of_thousands_of_digits_is_malformed() -> None:
    with pytest.raises(MalformedError):
        json_object(b'{"a":' + b"9" * 5000 + b"}")


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
def test_numbers_that_json_does_not_know_are_malformed(constant: bytes) -> None:
    with pytest.raises(MalformedError):
        json_object(b'{"a":%b}' % constant)
