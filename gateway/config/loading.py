"""A file -> a checked configuration, or every complaint about it at once."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from gateway.config import references
from gateway.config.complaints import Complaint, ConfigError
from gateway.config.document import compose
from gateway.config.model import Config
from gateway.config.places import Places
from gateway.config.report import Report
from gateway.config.substitute import Substitution
from gateway.config.translate import translate
from gateway.config.values import Builder
from gateway.uncollected import uncollected

LARGEST = 64 * 1024 * 1024
"""Bytes: twenty times a file of 10,000 routes; a mistaken path must not fill the memory."""


class Loaded(NamedTuple):
    """A configuration, and what it was made of."""

    config: Config
    content: bytes
    """Of the file."""
    files: frozenset[Path]
    """Every file that was read, the configuration's own included."""

    @property
    def digest(self) -> str:
        """SHA-256 of the file, as `sha256sum` prints it."""
        return hashlib.sha256(self.content).hexdigest()


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """The configuration in `path`. Raises ConfigError, and nothing else."""
    return read(path, environ).config


def read(path: Path, environ: Mapping[str, str]) -> Loaded:
    """The configuration in `path` and its origins. Raises ConfigError, and nothing else."""
    file = str(path)
    content = _read(file, path)
    substitution = Substitution(environ, path.parent)
    config = _parsed(file, content, substitution, path.parent)
    files = {path, *substitution.files, *_files_named(config)}
    return Loaded(config, content, frozenset(files))


def _files_named(value: object) -> Iterator[Path]:
    """The files that a configuration names, such as keys and certificates."""
    match value:
        case BaseModel():
            for name in type(value).model_fields:
                yield from _files_named(getattr(value, name))
        case dict():
            for part in value.values():
                yield from _files_named(part)
        case tuple():
            for part in value:
                yield from _files_named(part)
        case Path() if value.is_file():
            yield value


def _parsed(file: str, content: bytes, substitution: Substitution, folder: Path) -> Config:
    with uncollected():
        root = compose(file, content)
        builder = Builder(file, substitution)
        data = builder.build(root)
        report = Report(file, Places(root), builder.faults.values())
        config = _validated(data, folder, report)
        references.check(data, report)
    if config is None or report.complaints:
        raise ConfigError(report.complaints)
    return config


def _read(file: str, path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError([Complaint(file, 1, 1, "", f"cannot read the file: {error.strerror}")]) from None
    except ValueError:
        raise ConfigError([Complaint(file, 1, 1, "", "cannot read the file: this is not a path")]) from None
    if len(content) > LARGEST:
        raise ConfigError([Complaint(file, 1, 1, "", f"the file is larger than {LARGEST} bytes")])
    return content


def _validated(data: Any, folder: Path, report: Report) -> Config | None:
    try:
        return Config.model_validate(data, context={"folder": folder})
    except ValidationError as error:
        translate(error, data, report)
        return None
