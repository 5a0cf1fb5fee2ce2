"""Configurations for tests, written as a user writes them: text in, a Config or its complaints out."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.config import Config, ConfigError, load
from gateway.config.complaints import Substituted
from gateway.config.document import compose
from gateway.config.substitute import Substitution
from gateway.config.values import Builder

SECRET = "s" * 32
UPSTREAM = "upstreams:\n  u: {targets: [http://127.0.0.1:9001]}\n"
ROUTE = "routes:\n  - {name: r, match: {path: /r}, upstream: u}\n"


def loaded(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Config:
    file = folder / "routes.yaml"
    file.write_bytes(text.encode())
    return load(file, environ or {})


def complaints(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Every complaint about `text` as it is printed, without the file's name."""
    try:
        loaded(folder, text, environ)
    except ConfigError as error:
        return [str(complaint).removeprefix(f"{folder / 'routes.yaml'}:") for complaint in error.complaints]
    return []


def complaint(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> str:
    """The one complaint about `text`."""
    (only,) = complaints(folder, text, environ)
    return only


def provider(settings: str) -> str:
    """A configuration with one JWT provider; its settings begin at line 3, column 14."""
    return f"auth:\n  providers:\n    p: {{type: jwt, {settings}}}\n{UPSTREAM}{ROUTE}"


def upstream(settings: str) -> str:
    """A configuration whose upstream has `settings`, which begin at line 4, column 5."""
    return f"upstreams:\n  u:\n    targets: [http://127.0.0.1:9001]\n    {settings}\n{ROUTE}"


def route(settings: str, path: str = "/r") -> str:
    """A configuration whose route has `settings`, which begin at line 6, column 5."""
    return f"{UPSTREAM}routes:\n  - name: r\n    match: {{path: {path}}}\n    {settings}\n    upstream: u\n"


def between(settings: str) -> str:
    """A configuration with two upstreams whose route has nothing but `settings`, which begin at line 7, column 5."""
    return (
        "upstreams:\n  u: {targets: [http://127.0.0.1:9001]}\n  v: {targets: [http://127.0.0.1:9002]}\n"
        f"routes:\n  - name: r\n    match: {{path: /r}}\n    {settings}\n"
    )


class AsItStands(Substitution):
    """Leaves references where they are, for editors see nothing else."""

    def __call__(self, text: str) -> Substituted:
        return Substituted(text)


def written(text: str) -> Any:
    """What `text` says to an editor."""
    return Builder("", AsItStands({}, Path())).build(compose("", text.encode()))


def fits(value: Any, schema: Any, root: Mapping[str, Any]) -> bool:
    """Whether `value` is valid by `schema`, a part of `root`: JSON Schema 2020-12, as far as ours uses it."""
    if not isinstance(schema, dict):
        return bool(schema)
    if unknown := schema.keys() - KEYWORDS.keys() - ANNOTATIONS:
        raise NotImplementedError(f"keywords {unknown}")
    return all(holds(value, schema, root) for keyword, holds in KEYWORDS.items() if keyword in schema)


Holds = Callable[[Any, Mapping[str, Any], Mapping[str, Any]], bool]
ANNOTATIONS = {"$schema", "$defs", "title", "description", "default", "discriminator", "format", "writeOnly"}
TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def _no_others(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    others = [
        part
        for key, part in (value.items() if _maps(value) else ())
        if key not in known and not any(re.search(pattern, key) for pattern in patterns)
    ]
    return all(fits(part, schema["additionalProperties"], root) for part in others)


def _maps(value: Any) -> bool:
    return isinstance(value, dict)


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


KEYWORDS: dict[str, Holds] = {
    "$ref": lambda value, schema, root: fits(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root),
    "type": lambda value, schema, _: TYPES[schema["type"]](value),
    "enum": lambda value, schema, _: any(_same(value, each) for each in schema["enum"]),
    "const": lambda value, schema, _: _same(value, schema["const"]),
    "pattern": lambda value, schema, _: not isinstance(value, str) or bool(re.search(schema["pattern"], value)),
    "minLength": lambda value, schema, _: not isinstance(value, str) or len(value) >= schema["minLength"],
    "minimum": lambda value, schema, _: not TYPES["integer"](value) or value >= schema["minimum"],
    "maximum": lambda value, schema, _: not TYPES["integer"](value) or value <= schema["maximum"],
    "anyOf": lambda value, schema, root: any(fits(value, each, root) for each in schema["anyOf"]),
    "oneOf": lambda value, schema, root: sum(fits(value, each, root) for each in schema["oneOf"]) == 1,
    "items": lambda value, schema, root: (
        not isinstance(value, list) or all(fits(each, schema["items"], root) for each in value)
    ),
    "minItems": lambda value, schema, _: not isinstance(value, list) or len(value) >= schema["minItems"],
    "properties": lambda value, schema, root: (
        not _maps(value)
        or all(fits(value[key], part, root) for key, part in schema["properties"].items() if key in value)
    ),
    "patternProperties": lambda value, schema, root: (
        not _maps(value)
        or all(
            fits(part, inner, root)
            for pattern, inner in schema["patternProperties"].items()
            for key, part in value.items()
            if re.search(pattern, key)
        )
    ),
    "additionalProperties": _no_others,
    "propertyNames": lambda value, schema, root: (
        not _maps(value) or all(fits(key, schema["propertyNames"], root) for key in value)
    ),
    "minProperties": lambda value, schema, _: not _maps(value) or len(value) >= schema["minProperties"],
    "required": lambda value, schema, _: not _maps(value) or all(key in value for key in schema["required"]),
}
