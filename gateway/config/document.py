"""The bytes of a YAML file -> one tree of nodes, each with its line and column.

Composing is PyYAML's, over libyaml where it is there. Nothing is resolved here: a scalar only says
whether it was written plain, because plain `on` and quoted "on" mean the same to us, plain 1 and "1" do not.
"""

import re
from typing import Any

import yaml

from gateway.config.complaints import Complaint, ConfigError

DEEPEST = 40
"""Nesting. libyaml's composer is recursive C: depth without a bound would end the process."""

PLAIN, QUOTED, NESTED = "plain", "quoted", "nested"
UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What YAML 1.2 section 5.1 calls not printable."""


class _Composing:
    """What both loaders do unlike PyYAML's own: note how a scalar was written, and bound the depth."""

    depth = 0

    def resolve(self, kind: type[yaml.Node], _value: str | None, implicit: Any) -> str:
        if kind is not yaml.ScalarNode:
            return NESTED
        return PLAIN if implicit[0] else QUOTED

    def descend_resolver(self, parent: yaml.Node | None, _index: object) -> None:
        self.depth += 1
        if self.depth > DEEPEST and parent is not None:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {DEEPEST} levels", problem_mark=parent.start_mark)

    def ascend_resolver(self) -> None:
        self.depth -= 1


class PythonLoader(_Composing, yaml.SafeLoader):
    """The loader where PyYAML was built without libyaml: the same result, ten times slower."""


Loader: type[Any] = PythonLoader
if hasattr(yaml, "CSafeLoader"):

    class CLoader(_Composing, yaml.CSafeLoader):
        """The loader over libyaml."""

    Loader = CLoader


def compose(file: str, content: bytes, loader: type[Any] = Loader) -> yaml.Node:
    """The tree of the one document in `content`. Raises ConfigError."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _failed(file, content[: error.start].decode(), "the file is not UTF-8 text") from None
    if unreadable := UNREADABLE.search(text):
        raise _failed(file, text[: unreadable.start()], f"YAML does not allow the character {unreadable[0]!r}")
    try:
        root = loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_complaint(file, text, error)]) from None
    except yaml.YAMLError as error:
        raise _failed(file, "", f"cannot read this YAML: {str(error).splitlines()[0]}") from None
    if root is None:
        raise _failed(file, "", "the file is empty")
    assert isinstance(root, yaml.Node)
    return root


def _failed(file: str, before: str, message: str) -> ConfigError:
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return ConfigError([Complaint(file, line, column, "", message)])


def _complaint(file: str, text: str, error: yaml.MarkedYAMLError) -> Complaint:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark is not None else (0, 0)
    message = ", ".join(part for part in (error.context, error.problem) if part)
    if "${" in "".join(text.split("\n")[line : line + 1]):
        # The one mistake that everybody makes: `{secret: ${SECRET}}` opens a second mapping.
        message += " (within { } and [ ], put quotes around ${…})"
    return Complaint(file, line + 1, column + 1, "", f"cannot read this YAML: {message}")
