"""One line for each change that somebody made while the gateway runs: who, what, and what came of it. Always written.

Values that anybody could have chosen are escaped and cut, so nobody can forge a line or a field.
"""

from __future__ import annotations

import logging
import re

log = logging.getLogger("gateway.audit")
log.setLevel(logging.INFO)  # whatever the level of everything else: an operator cannot turn the record of operators off

LONGEST = 200
"""Characters of a value."""

PLAIN = re.compile(r"[A-Za-z0-9_.:/@*+%,()\[\]-]+")
"""What needs no quotes."""


def audit(**fields: object) -> None:
    """Write `field=value …` in this order; None is left out."""
    log.info("%s", " ".join(f"{name}={_value(value)}" for name, value in fields.items() if value is not None))


def _value(value: object) -> str:
    text = str(value)
    if len(text) > LONGEST:
        text = text[: LONGEST - 1] + "…"
    if PLAIN.fullmatch(text):
        return text
    return "".join(each if each.isascii() and each.isprintable() else _escaped(each) for each in _quoted(text))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escaped(character: str) -> str:
    return f"\\u{{{ord(character):x}}}"
