"""pydantic's errors -> complaints in the words of the configuration, each with its place in the file."""

import re
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config import later
from gateway.config.complaints import Substituted, hint, show
from gateway.config.model import Config
from gateway.config.places import Path
from gateway.config.providers import PROVIDERS, JwtProvider
from gateway.config.report import Report

MESSAGES = {
    "model_type": "must be a mapping, not {value}",
    "model_attributes_type": "must be a mapping, not {value}",
    "dict_type": "must be a mapping, not {value}",
    "tuple_type": "must be a list, not {value}",
    "too_short": "must have at least one entry",
    "greater_than_equal": "must be at least {ge}, not {value}",
    "less_than_equal": "must be at most {le}, not {value}",
}
MARKS = ("(name)", "(inline)", "(hash)", "[key]")
"""What pydantic puts into paths besides what the file has."""


class Spot:
    """A path in the models: which keys are known there, and its pattern with `*` for names and positions."""

    def __init__(self, path: Path, data: Any = None) -> None:
        """`data` tells which type a provider is of."""
        self.model: type[BaseModel] | None = Config
        parts: list[str] = []
        wrapped = 0
        for part in path:
            fields = self.fields
            if wrapped:
                wrapped -= 1
                parts.append("*")
            elif part in fields:
                self.model, wrapped = _inside(fields[str(part)])
                parts.append(str(part))
            else:
                parts.append(str(part))
            if len(parts) == 3 and parts[:2] == ["auth", "providers"]:
                self.model = _provider(data, path[:3])
        self.pattern = ".".join(parts)

    @property
    def fields(self) -> dict[str, Any]:
        """Type by key."""
        if self.model is None:
            return {}
        return {field.alias or name: field.annotation for name, field in self.model.model_fields.items()}


def _inside(annotation: Any) -> tuple[type[BaseModel] | None, int]:
    """The model that `annotation` holds, and how many lists and mappings are around it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, 0
    around = int(getattr(annotation, "__origin__", None) in (dict, tuple))
    for inner in get_args(annotation):
        model, deeper = _inside(inner)
        if model:
            return model, around + deeper
    return None, around


def _provider(data: Any, path: Path) -> type[BaseModel]:
    """The model of the type that is written there."""
    for part in (*path, "type"):
        data = data.get(part) if isinstance(data, dict) else None
    return PROVIDERS.get(data, JwtProvider) if isinstance(data, str) else JwtProvider


def translate(error: ValidationError, data: Any, report: Report) -> None:
    """Report every line of `error`, which came of validating `data`."""
    lines = [(_path(line["loc"]), line) for line in error.errors(include_url=False)]
    # Of a provider of another type nothing but that is worth saying.
    strangers = {path[:3] for path, _ in lines if path[:2] == ("auth", "providers") and path[3:] == ("type",)}
    for path, line in lines:
        if path[:3] not in strangers or path[3:] == ("type",):
            _report(path, line, data, report)


def _path(location: tuple[int | str, ...]) -> Path:
    """Without the marks that stand for "this kind of value" or "this mapping's key"."""
    return tuple(part for part in location if not (isinstance(part, str) and part in MARKS))


def _report(path: Path, line: ErrorDetails, data: Any, report: Report) -> None:
    kind, value, context = line["type"], line["input"], line.get("ctx", {})
    if kind == "extra_forbidden":
        around = Spot(path[:-1], data)
        name = str(path[-1])
        if name in later.KEYS.get(around.pattern, ()):
            report(path, later.NOT_YET, key=True)
        else:
            report(path, "unknown key" + hint(name, around.fields), key=True)
    elif kind == "missing":
        report(path[:-1], "is required", missing=str(path[-1]))
    elif kind == "too_short" and value:
        pass  # there are entries, but wrong ones, which have their own complaints
    else:
        written = _written(data, path)
        if isinstance(written, Substituted):
            value = written  # a number that was made of it has forgotten where it comes from
        report(path, _message(kind, value, context, line["msg"]), key=line["loc"][-1:] == ("[key]",))


def _written(data: Any, path: Path) -> Any:
    """The value at `path`; None where the path is not the file's (a lone value for a list of one)."""
    try:
        for part in path:
            data = data[part]
    except (KeyError, IndexError, TypeError):
        return None
    return data


def _message(kind: str, value: object, context: dict[str, Any], otherwise: str) -> str:
    if kind in ("value", "value_error"):
        return str(context.get("message") or context.get("error"))
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", context["expected"])
        one_of = words[0] if len(words) == 1 else f"one of {', '.join(words)}"
        return f"must be {one_of}, not {show(value)}{hint(value, words)}"
    if kind in MESSAGES:
        return MESSAGES[kind].format(value=show(value), **context)
    return otherwise[:1].lower() + otherwise[1:]
