"""`${NAME}`, `${NAME:-default}` and `${file:path}` inside the configuration's text values; `$${` means `${`.

A default stands in for a variable that is unset or empty, as in a shell. Values are not read as YAML
again: a secret of digits stays text.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from gateway.config.complaints import Substituted

REFERENCE = re.compile(
    r"\$\$\{"
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}"
    r"|\$\{file:(?P<file>[^}]+)\}"
    r"|\$\{"
)
LARGEST_FILE = 1024 * 1024
"""Secrets and keys are small; a mistaken path (a log, a device) must not fill the memory."""


class Substitution:
    """Reads the environment it was given, and files beside the configuration."""

    def __init__(self, environ: Mapping[str, str], directory: Path) -> None:
        self._environ = environ
        self._directory = directory
        self.files: set[Path] = set()  # that were read

    def __call__(self, text: str) -> Substituted:
        """`text` with every reference replaced. Raises ValueError that says what is missing."""
        return Substituted(REFERENCE.sub(self._replace, text))

    def _replace(self, found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        name, default, file = found["name"], found["default"], found["file"]
        if "${" in (default or file or "") or not (name or file):
            raise ValueError(
                "'${' begins ${NAME}, ${NAME:-default} or ${file:path}, not nested; write '$${' for itself"
            )
        if file:
            self.files.add(self._directory / file)
            return read_text(self._directory / file).removesuffix("\n").removesuffix("\r")
        value = self._environ.get(name)
        if default is not None:
            value = value or default
        if value is None:
            raise ValueError(f"environment variable {name} is not set")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError(f"environment variable {name} is not UTF-8")
        return value


def read_text(path: Path) -> str:
    """The text of a small file. Raises ValueError that names the file and says why not."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ValueError(f"file {str(path)!r} is larger than 1 MiB")
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"file {str(path)!r} is not UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"cannot read file {str(path)!r}: {error.strerror}") from None
