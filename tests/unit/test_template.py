import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transform.template import (
    HEADER,
    JSON_TEXT,
    MARKUP,
    TEXT,
    Fields,
    Form,
    Template,
    compile_json,
    compile_text,
)

Values = dict[str, str]
FIELDS: Fields[Values] = {"name": lambda values: values["name"], "request.id": lambda values: values["id"]}


def filled(template: Template[Values], name: str = "Ann", id: str = "7") -> bytes:
    return template if isinstance(template, bytes) else template({"name": name, "id": id})


def text(template: str, name: str = "Ann", form: Form = TEXT) -> bytes:
    return filled(compile_text(template, FIELDS, form), name)


@pytest.mark.parametrize(
    ("template", "becomes"),
    [
        ("", b""),
        ("plain", b"plain"),
        ("{name}", b"Ann"),
        ("{name}{name}", b"AnnAnn"),
        ("hello {name}, your id is {request.id}.", b"hello Ann, your id is 7."),
        ("{{name}}", b"{name}"),
        ("{{{name}}}", b"{Ann}"),
        ('{{"a": "{name}"}}', b'{"a": "Ann"}'),
        ("größer {name}", "größer Ann".encode()),
    ],
)
def test_fields_are_filled_in_and_doubled_braces_are_braces(template: str, becomes: bytes) -> None:
    assert text(template) == becomes


@pytest.mark.parametrize("template", ["", "plain", "{{}}", "100 % of {{it}}"])
def test_a_text_without_fields_is_plain_bytes(template: str) -> None:
    assert isinstance(compile_text(template, FIELDS), bytes)
    assert isinstance(compile_json([template], FIELDS), bytes)


@pytest.mark.parametrize("name", ["nme", "", " name ", "name.x", "request", "0", "name!r", '"a": 1'])
def test_an_unknown_field_is_an_error_that_tells_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"is no field: there are \{name\}, \{request\.id\}"):
        compile_text(f"hello {{{name}}}", FIELDS)


@pytest.mark.parametrize("template", ["{", "}", "a { b", "{name", "name}", "{name}}", "{{name}", "{{{"])
def test_a_brace_alone_is_an_error_that_tells_to_double_it(template: str) -> None:
    with pytest.raises(ValueError, match=r"is written twice: (\{\{|\}\})$"):
        compile_text(template, FIELDS)


def test_a_value_is_not_a_template_itself() -> None:
    assert text("{name}", "{request.id}") == b"{request.id}"


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("a\r\nset-cookie: x=1", b"a%0D%0Aset-cookie: x=1"),
        ("a\0b\x7f", b"a%00b%7F"),
        ("größe", b"gr%C3%B6%C3%9Fe"),
        ("\ud800", b"?"),
        ("plain value", b"plain value"),
    ],
)
def test_no_value_can_end_a_header(name: str, becomes: bytes) -> None:
    assert text("<{name}>", name, HEADER) == b"<" + becomes + b">"


def test_literal_text_of_a_header_is_latin_1_as_in_other_headers() -> None:
    assert text("größe {name}", form=HEADER) == "größe Ann".encode("latin-1")


def test_no_value_can_become_markup() -> None:
    assert text("<b>{name}</b>", "<script>'\"&", MARKUP) == b"<b>&lt;script&gt;&#x27;&quot;&amp;</b>"


def test_json_by_hand_keeps_its_values_inside_of_strings() -> None:
    assert json.loads(text('{{"who": "{name}"}}', 'a", "admin": "yes\n\\', JSON_TEXT)) == {
        "who": 'a", "admin": "yes\n\\'
    }


def test_in_json_only_string_values_are_templates() -> None:
    value = {"who": "{name}", "{name}": [1, None, True, {"deep": "{{{request.id}}}", "none": {}, "empty": []}]}
    assert json.loads(filled(compile_json(value, FIELDS), 'A"\\\n')) == {
        "who": 'A"\\\n',
        "{name}": [1, None, True, {"deep": "{7}", "none": {}, "empty": []}],
    }


def test_a_fault_deep_inside_of_json_is_found() -> None:
    with pytest.raises(ValueError, match=r"\{nme\} is no field"):
        compile_json({"a": ["x", {"b": "{nme}"}]}, FIELDS)


BRACELESS = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | BRACELESS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(JSON)
def test_json_without_templates_is_written_as_ever(value: object) -> None:
    assert compile_json(value, FIELDS) == orjson.dumps(value)


@given(st.text())
def test_any_value_comes_out_of_json_as_it_went_in(value: str) -> None:
    came_out = json.loads(filled(compile_json({"a": "{name}"}, FIELDS), value))["a"]
    assert came_out == value.encode("utf-8", "replace").decode()


@given(st.text())
def test_no_value_at_all_puts_more_than_visible_ascii_into_a_header(value: str) -> None:
    written = text("{name}", value, HEADER)
    assert all(32 <= byte < 127 for byte in written)
