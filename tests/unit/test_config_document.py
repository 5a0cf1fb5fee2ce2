import pytest
import yaml

from gateway.config.complaints import ConfigError
from gateway.config.document import DEEPEST, Loader, PythonLoader, compose

LOADERS = pytest.mark.parametrize("loader", [Loader, PythonLoader])


def refusal(content: bytes, loader: type = Loader) -> str:
    with pytest.raises(ConfigError) as caught:
        compose("f", content, loader)
    return str(caught.value)


@LOADERS
def test_both_loaders_tell_plain_from_quoted_scalars(loader: type) -> None:
    root = compose("f", b"on: [1, '1', \"1\", !!str 1, {}]", loader)
    key, value = root.value[0]
    assert (key.value, key.tag) == ("on", "plain")
    assert [node.tag for node in value.value] == ["plain", "quoted", "quoted", "tag:yaml.org,2002:str", "nested"]


@LOADERS
@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"a: b: c", "f:1:5: cannot read this YAML: mapping values are not allowed"),
        (b"a: 1\n---\nb: 1\n", "f:2:1: cannot read this YAML: expected a single document"),
        (b"a: *nobody", "f:1:4: cannot read this YAML: found undefined alias"),
        (b"a: [1,\n", "f:2:1: cannot read this YAML: while parsing a flow"),
        (b"\ta: 1", "f:1:1: cannot read this YAML: while scanning"),
    ],
)
def test_bad_yaml_is_a_complaint_with_its_place(loader: type, content: bytes, where: str) -> None:
    assert refusal(content, loader).startswith(where)


@LOADERS
@pytest.mark.parametrize("content", [b"", b"# only a comment\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_a_complaint(loader: type, content: bytes) -> None:
    assert refusal(content, loader) == "f:1:1: the file is empty"


def test_a_byte_order_mark_is_accepted() -> None:
    assert compose("f", b"\xef\xbb\xbfa: 1").value[0][0].value == "a"


def test_bytes_that_are_not_utf_8_are_a_complaint_at_their_place() -> None:
    assert refusal("a: 1\nb: ü".encode("latin-1")) == "f:2:4: the file is not UTF-8 text"
    assert refusal("a: 1".encode("utf-16")) == "f:1:1: the file is not UTF-8 text"


def test_control_characters_are_a_complaint_at_their_place() -> None:
    assert refusal("a: 1\nbü: \x07".encode()) == r"f:2:5: YAML does not allow the character '\x07'"
    assert refusal(b"\x7fELF\x00") == r"f:1:1: YAML does not allow the character '\x7f'"


@LOADERS
@pytest.mark.parametrize("content", [b"[" * 100_000, b"- " * 100_000, b"{a: " * 20_000, b"? " * 20_000])
def test_bottomless_nesting_is_a_complaint_not_a_crash(loader: type, content: bytes) -> None:
    assert f"nested deeper than {DEEPEST} levels" in refusal(content, loader)


def test_an_unquoted_reference_in_braces_gets_a_hint() -> None:
    assert refusal(b"a:\n  {secret: ${JWT}, b: 1}").endswith("(within { } and [ ], put quotes around ${…})")


def test_python_objects_are_not_built() -> None:
    root = compose("f", b"a: !!python/object/apply:os.system ['true']")
    assert isinstance(root, yaml.MappingNode)
