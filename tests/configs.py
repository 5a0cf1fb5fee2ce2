"""Configurations for tests, written as a user writes them: text in, a Config or its complaints out."""

from collections.abc import Mapping
from pathlib import Path

from gateway.config import Config, ConfigError, load

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
