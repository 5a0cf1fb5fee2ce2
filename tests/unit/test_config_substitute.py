import os
from pathlib import Path

import pytest

from gateway.config.substitute import LARGEST_FILE, Substitution


def replaced(text: str, folder: Path = Path(), **environ: str) -> str:
    return Substitution(environ, folder)(text)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${A}", "1"),
        ("x${A}y${A}z", "x1y1z"),
        ("${B:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("${A:-two}", "1"),
        ("${EMPTY}", ""),
        ("${B:-}", ""),
        ("${B:-a:b-$c{}", "a:b-$c{"),
        ("$A $ {A}", "$A $ {A}"),
        ("$${A} ${A}", "${A} 1"),
        ("${TRICKY}", "${A}"),
    ],
)
def test_references_are_replaced_once(text: str, result: str) -> None:
    assert replaced(text, A="1", EMPTY="", TRICKY="${A}") == result


@pytest.mark.parametrize(
    "text", ["${", "${}", "${1A}", "${A", "${A:-${B}}", "${file:}", "${file:${A}}", "${A-b}", "${ A }"]
)
def test_a_malformed_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="begins"):
        replaced(text, A="secret")


def test_an_unset_variable_is_named() -> None:
    with pytest.raises(ValueError, match="environment variable NOBODY is not set"):
        replaced("${NOBODY}")


def test_a_variable_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(ValueError, match="environment variable A is not UTF-8"):
        replaced("${A}", A=os.fsdecode(b"\xff"))


@pytest.mark.parametrize(
    ("content", "result"),
    [("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("a\nb\n\n", "a\nb\n"), ("", ""), (" x ", " x ")],
)
def test_a_file_is_read_without_its_final_newline(tmp_path: Path, content: str, result: str) -> None:
    (tmp_path / "secret").write_bytes(content.encode())
    assert replaced("${file:secret}", tmp_path) == result
    assert replaced(f"${{file:{tmp_path / 'secret'}}}", Path("/")) == result


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "huge").write_bytes(b"x" * (LARGEST_FILE + 1))
    for name, reason in {
        "missing": "No such file",
        ".": "directory",
        "binary": "is not UTF-8",
        "huge": "larger",
        "a\0b": "null",
    }.items():
        with pytest.raises(ValueError, match=reason):
            replaced(f"${{file:{name}}}", tmp_path)
