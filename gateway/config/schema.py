"""JSON Schema (2020-12) of the configuration, for editors that complete and check YAML as it is typed.

Its descriptions are the docstrings below the models' attributes. They are read from the source here,
when somebody asks: pydantic would do it at every start, for a quarter of the import time.
"""

import ast
import inspect
import sys
from itertools import pairwise
from typing import Any

from gateway.config.fields import Section
from gateway.config.model import Config

REFERENCE = {"type": "string", "pattern": r"\$\{"}
"""Any value may come from ${NAME} or ${file:path}."""
NULL = {"type": "null"}
"""How pydantic describes what may be absent; written down it is an error."""
SCALARS: dict[str, type] = {"string": str, "integer": int, "boolean": bool}
AS_THEY_ARE = frozenset(("default", "enum", "const", "required", "propertyNames"))


def json_schema() -> dict[str, Any]:
    """The schema. Unknown keys are errors in it, too; `${…}` may stand for any single value."""
    schema = Config.model_json_schema(by_alias=True)
    _describe(schema, Config)
    for model in Section.__subclasses__():
        if model.__name__ in schema["$defs"]:
            _describe(schema["$defs"][model.__name__], model)
    tidied: dict[str, Any] = _tidied(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Gateway configuration",
        **tidied,
    }


def _describe(schema: dict[str, Any], model: type[Section]) -> None:
    described = _docstrings(model)
    for name, field in model.model_fields.items():
        if name in described:
            schema["properties"][field.alias or name]["description"] = described[name]


def _docstrings(model: type[Section]) -> dict[str, str]:
    """The text below each attribute of `model`."""
    source = inspect.getsource(sys.modules[model.__module__])
    body = next(
        node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == model.__name__
    )
    return {
        before.target.id: inspect.cleandoc(text.value.value)
        for before, text in pairwise(body)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _tidied(schema: Any) -> Any:
    """Without pydantic's titles, and with `${…}` wherever a single value stands."""
    if isinstance(schema, list):
        return [_tidied(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    tidied: dict[str, Any] = {}
    for key, part in schema.items():
        if key == "anyOf":
            tidied[key] = [_tidied(way) for way in part if way != NULL]
        elif key in ("properties", "$defs"):
            tidied[key] = {name: _tidied(inner) for name, inner in part.items()}
        elif key in AS_THEY_ARE:
            tidied[key] = part
        elif key != "title":
            tidied[key] = _tidied(part)
    if "patternProperties" in tidied:
        tidied["additionalProperties"] = False
    if "default" in tidied and not _writable(tidied):
        del tidied["default"]
    if tidied.get("type") not in SCALARS and not tidied.keys() & {"enum", "const"}:
        return tidied
    outside = {key: tidied.pop(key) for key in ("description", "default") if key in tidied}
    return {"anyOf": [tidied, REFERENCE], **outside}


def _writable(schema: dict[str, Any]) -> bool:
    """The default is what a user would write: `2.0` for `2s` would lead editors astray."""
    default = schema["default"]
    if "enum" in schema or "const" in schema:
        return default in schema.get("enum", [schema.get("const")])
    return type(default) is SCALARS.get(schema.get("type", ""))
