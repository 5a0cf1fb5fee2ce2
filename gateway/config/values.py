"""A tree of YAML nodes -> plain values, by the YAML 1.2 core schema.

Only true and false are booleans, so `on`, `off`, `yes` and `no` are text; every key is text; there are
no dates and no tags. Aliases are followed and merge keys (`<<`) resolved; both count each time they are
used, so that a "billion laughs" ends early.
"""

import re
from typing import Any, NoReturn

import yaml

from gateway.config.complaints import Complaint, ConfigError, Substituted, show
from gateway.config.document import DEEPEST, NESTED, PLAIN, QUOTED
from gateway.config.places import Path, write_path
from gateway.config.substitute import Substitution

MOST_VALUES = 2_000_000
"""Five times a file of 10,000 well-filled routes."""
LONGEST_NUMBER = 100

Trail = tuple[Any, str | int] | None
"""The path to a value as a linked list, innermost first: a tuple for each value would copy the whole path."""

CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
UNKNOWN = Substituted("")
NUMERIC = frozenset("+-.0123456789")
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
TAGS = frozenset((PLAIN, QUOTED, NESTED, "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"))


class Builder:
    """Builds values; what is wrong on the way is kept in `faults`, one for each place in the file."""

    def __init__(self, file: str, substitute: Substitution) -> None:
        self._file = file
        self._substitute = substitute
        self._count = 0
        self.faults: dict[tuple[int, int], Complaint] = {}

    def build(self, node: yaml.Node, trail: Trail = None, depth: int = 0) -> Any:
        """The value of `node`. Raises ConfigError where it makes no sense to go on: too deep, too much."""
        self._count += 1
        if node.tag not in TAGS:
            self._fault(node, trail, f"the YAML tag {show(node.tag)} is not supported")
        if node.__class__ is yaml.ScalarNode:
            return self._scalar(node, trail)
        if depth > DEEPEST or self._count > MOST_VALUES:
            self._stop(node, trail)
        if node.__class__ is yaml.SequenceNode:
            return [self.build(child, (trail, index), depth + 1) for index, child in enumerate(node.value)]
        return self._mapping(node, trail, depth + 1)

    def _mapping(self, node: yaml.Node, trail: Trail, depth: int) -> dict[str, Any]:
        built: dict[str, Any] = {}
        merged = []
        for key_node, value_node in node.value:
            key = key_node.value
            if key_node.__class__ is not yaml.ScalarNode:
                self._fault(key_node, trail, "a key must be text, not a list or a mapping")
            elif key == "<<" and key_node.tag == PLAIN:
                merged.append(value_node)
            elif key in built:
                self._fault(key_node, (trail, key), "this key is here twice")
            else:
                built[key] = self.build(value_node, (trail, key), depth)
        if merged:
            self._merge(node, merged, built, trail, depth)
        return built

    def _merge(self, node: yaml.Node, merged: list[yaml.Node], built: dict[str, Any], trail: Trail, depth: int) -> None:
        """Add to `built` what `<<` brings; the mapping's own keys win, then the source named first.

        The node is changed as well: looking for a place must find what the values show.
        """
        node.value = [pair for pair in node.value if pair[0].value != "<<" or pair[0].tag != PLAIN]
        for value in merged:
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(source, yaml.MappingNode):
                    self._fault(source, (trail, "<<"), "'<<' takes a mapping, or a list of mappings")
                    continue
                brought = self.build(source, trail, depth)
                new = brought.keys() - built.keys()
                node.value += [pair for pair in source.value if _is_scalar(pair[0]) and pair[0].value in new]
                built.update((key, brought[key]) for key in brought if key in new)

    def _scalar(self, node: yaml.Node, trail: Trail) -> Any:
        text = node.value
        if "${" in text:
            try:
                return self._substitute(text)
            except ValueError as error:
                return self._fault(node, trail, str(error))
        if node.tag != PLAIN:
            return text
        if text in CONSTANTS:
            if CONSTANTS[text] is None and not _in_json(trail):
                return self._fault(node, trail, "is empty: give it a value or leave it out")
            return CONSTANTS[text]
        return self._number(node, trail) if text[0] in NUMERIC else text

    def _number(self, node: yaml.Node, trail: Trail) -> Any:
        """A number, or the text itself when it only began like one (a date, an address)."""
        text = node.value
        if NOT_FINITE.fullmatch(text):
            return self._fault(node, trail, "must be a finite number")
        integer = INTEGER.fullmatch(text)
        if not integer and not FLOAT.fullmatch(text):
            return text
        if len(text) > LONGEST_NUMBER or (not integer and abs(float(text)) == float("inf")):
            return self._fault(node, trail, "the number is too large")
        if integer:
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        return float(text)

    def _fault(self, node: yaml.Node, trail: Trail, message: str) -> Substituted:
        """Keep the fault; what it returns stands in for the value, and whoever complains of that is not heard."""
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        key = write_path(_unwind(trail))
        self.faults.setdefault((line, column), Complaint(self._file, line, column, key, message))
        return UNKNOWN

    def _stop(self, node: yaml.Node, trail: Trail) -> NoReturn:
        message = f"more than {MOST_VALUES} values, counting each use of an alias"
        if self._count <= MOST_VALUES:
            message = f"nested deeper than {DEEPEST} levels: an alias stands inside what it names"
        self._fault(node, trail, message)
        raise ConfigError(self.faults.values())


def _is_scalar(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode)


def _in_json(trail: Trail) -> bool:
    """Inside the `json` of an answer or of an expectation, the only values in which null means something."""
    path = _unwind(trail)
    if path[:1] == ("probes",):
        return path[2:4] == ("expect", "json")
    if path[:1] != ("routes",):
        return False
    return path[2:4] == ("respond", "json") or (path[2:3] == ("fallback",) and "json" in path[3:5])


def _unwind(trail: Trail) -> Path:
    path: list[str | int] = []
    while trail is not None:
        trail, part = trail
        path.append(part)
    return tuple(reversed(path))
