"""Where the value of a path stands in the file. Asked only for complaints, so it may look around."""

import re
from typing import NamedTuple

import yaml

from gateway.config.complaints import show

Path = tuple[str | int, ...]
PLAIN_KEY = re.compile(r"[\w/*<:@-]+")


class Place(NamedTuple):
    """Line and column, from 1, and the key's path as messages write it."""

    line: int
    column: int
    key: str


def write_path(path: Path) -> str:
    """`routes[2].match.path`: positions in a list count from 0; a key that could mislead is quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if PLAIN_KEY.fullmatch(part) else show(part))
    return text


class Places:
    """The places of one document."""

    def __init__(self, root: yaml.Node) -> None:
        self._root = root
        self._pairs: dict[int, dict[str, tuple[yaml.Node, yaml.Node]]] = {}

    def of(self, path: Path, *, key: bool = False, missing: str = "") -> Place:
        """The place of the value at `path`; with `key` of its key; with `missing` of the mapping that lacks it.

        Parts that the file does not have are passed over: a lone value may stand for a list of one.
        """
        node = at = self._root
        found: list[str | int] = []
        for part in path:
            if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = at = node.value[part]
            elif isinstance(node, yaml.MappingNode) and part in (pairs := self._pairs_of(node)):
                at, node = pairs[str(part)]
            else:
                continue
            found.append(part)
        mark = (at if key else node).start_mark
        return Place(mark.line + 1, mark.column + 1, write_path((*found, missing) if missing else tuple(found)))

    def _pairs_of(self, node: yaml.Node) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        if id(node) not in self._pairs:
            # The first of several wins, as it does where the values are built.
            pairs = reversed([pair for pair in node.value if isinstance(pair[0], yaml.ScalarNode)])
            self._pairs[id(node)] = {pair[0].value: pair for pair in pairs}
        return self._pairs[id(node)]
