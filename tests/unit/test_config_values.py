from pathlib import Path
from typing import Any

import pytest

from gateway.config.complaints import ConfigError, Substituted
from gateway.config.document import Loader, PythonLoader, compose
from gateway.config.substitute import Substitution
from gateway.config.values import Builder


def built(text: str, loader: type = Loader) -> tuple[Any, list[str]]:
    builder = Builder("f", Substitution({"NAME": "5"}, Path()))
    value = builder.build(compose("f", text.encode(), loader))
    return value, [str(fault) for fault in builder.faults.values()]


def value_of(text: str) -> Any:
    value, faults = built(text)
    assert faults == []
    return value


@pytest.mark.parametrize("loader", [Loader, PythonLoader])
def test_only_true_and_false_are_booleans_and_every_key_is_text(loader: type) -> None:
    text = "{on: yes, off: no, true: true, 5: False, null: 'true', y: 2026-01-01, z: 1:30}"
    assert built(text, loader) == (
        {"on": "yes", "off": "no", "true": True, "5": False, "null": "true", "y": "2026-01-01", "z": "1:30"},
        [],
    )


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("12", 12), ("-3", -3), ("+3", 3), ("010", 10), ("0o17", 15), ("0xfF", 255), ("1.5", 1.5), (".5", 0.5),
        ("1e3", 1000.0), ("1_000", "1_000"), ("0b1", "0b1"), ("127.0.0.1", "127.0.0.1"), ("1m", "1m"), ("-", None),
        ("'12'", "12"), ('"1\\t2"', "1\t2"), ("!!str 12", "12"), ("502", 502), ("~x", "~x"),
    ],
)  # fmt: skip
def test_numbers_are_those_of_the_core_schema(written: str, value: object) -> None:
    if value is None:
        assert value_of("a: '-'") == {"a": "-"}
    else:
        assert value_of(f"a: {written}") == {"a": value}
        assert type(value_of(f"a: {written}")["a"]) is type(value)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("a: .inf", "f:1:4: a: must be a finite number"),
        ("a: 1e999", "f:1:4: a: the number is too large"),
        ("a: " + "9" * 5000, "f:1:4: a: the number is too large"),
        ("a: !!python/name:os.system x", "f:1:4: a: the YAML tag 'tag:yaml.org,2002:python/name:os.system' is"),
        ("a: !!binary aGk=", "f:1:4: a: the YAML tag"),
        ("a: !!set {x: 1}", "f:1:4: a: the YAML tag"),
        ("a: ~", "f:1:4: a: is empty: give it a value or leave it out"),
        ("a:\nb: 1", "f:1:3: a: is empty"),
        ("b: 1\na: 1\nb: 2", "f:3:1: b: this key is here twice"),
        ("{[1]: 2}", "f:1:2: a key must be text"),
        ("a: {<<: {[1]: 2, x: 1}}", "f:1:10: a: a key must be text"),
        ("x: [{a: 1, a: 2}]", "f:1:12: x[0].a: this key is here twice"),
        ("'a b': {c: ~}", "f:1:12: 'a b'.c: is empty"),
        ("a: ${NOBODY}", "f:1:4: a: environment variable NOBODY is not set"),
    ],
)
def test_what_cannot_be_read_is_a_fault_with_place_and_path(written: str, message: str) -> None:
    _, faults = built(written)
    assert len(faults) == 1
    assert faults[0].startswith(message)


def test_all_faults_are_kept() -> None:
    assert len(built("a: .nan\nb: ~\na: 3\n")[1]) == 3


def test_references_are_replaced_in_plain_and_quoted_text_and_marked() -> None:
    value = value_of("a: ${NAME}\nb: 'x${NAME}'\nc: ['${NAME}']")
    assert value == {"a": "5", "b": "x5", "c": ["5"]}
    assert isinstance(value["a"], Substituted)


def test_null_means_something_in_a_fallbacks_json_only() -> None:
    assert built("routes: [{fallback: [{json: {a: ~}}]}]")[1] == []
    assert built("routes: [{fallback: {json: ~}}]")[1] == []
    assert len(built("routes: [{fallback: [{text: ~}]}]")[1]) == 1
    assert len(built("upstreams: {json: ~}")[1]) == 1


def test_aliases_stand_for_their_value() -> None:
    assert value_of("a: &x {k: [1]}\nb: *x\n") == {"a": {"k": [1]}, "b": {"k": [1]}}


def test_merge_keys_add_what_is_not_there_and_the_first_source_wins() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 0}\nd: {<<: *b}\n"
    value = value_of(text)
    assert value["c"] == {"x": 0, "y": 1, "z": 2}
    assert value["d"] == {"y": 2, "z": 2}


def test_a_mapping_with_a_merge_key_can_itself_be_used_again() -> None:
    value = value_of("a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 0}\nc: *b\nd: {<<: *b, y: 3}\n")
    assert value["b"] == value["c"] == {"x": 0, "y": 1}
    assert value["d"] == {"x": 0, "y": 3}


def test_a_quoted_merge_key_is_a_plain_key() -> None:
    assert value_of("a: {'<<': 1}") == {"a": {"<<": 1}}


def test_merging_something_else_is_a_fault() -> None:
    assert built("a: {<<: 5}")[1] == ["f:1:9: a.<<: '<<' takes a mapping, or a list of mappings"]


def test_a_billion_laughs_ends_early() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
    with pytest.raises(ConfigError, match="more than 2000000 values, counting each use of an alias"):
        built("\n".join(lines))


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}"])
def test_an_alias_inside_what_it_names_is_a_complaint(text: str) -> None:
    with pytest.raises(ConfigError, match="an alias stands inside what it names"):
        built(text)


@pytest.mark.parametrize("text", ["&a {<<: *a, x: 1}", "&a {x: 1, b: {<<: *a}}"])
def test_a_mapping_that_merges_itself_ends(text: str) -> None:
    assert built(text)[0]["x"] == 1
