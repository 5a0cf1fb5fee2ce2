"""What outlives a reload: parts are kept by everything that decides about them.

A part that the next runtime asks for under an equal key is the same object: pools with their connections,
circuits, counters, keys. Whatever nobody asks for any more is left behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Parts:
    """The parts of one runtime; taken over from `previous` where their keys are equal."""

    def __init__(self, previous: Parts | None = None) -> None:
        self._parts: dict[Hashable, Any] = {}
        self._previous: dict[Hashable, Any] = previous._parts if previous is not None else {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The part with this key, whether it exists already or has to be made."""
        if key not in self._parts:
            self._parts[key] = self._previous[key] if key in self._previous else make()
        part: T = self._parts[key]
        return part

    def settle(self) -> None:
        """Forget the previous runtime: what was of use has been taken over."""
        self._previous = {}

    def left_behind_by(self, successor: Parts) -> list[Any]:
        """The parts that `successor` has not taken over."""
        kept = {id(part) for part in successor._parts.values()}
        return [part for part in self._parts.values() if id(part) not in kept]


def content(path: Path | None) -> bytes:
    """Stands for what is in a file, so that a renewed one makes another key. Raises OSError."""
    return b"" if path is None else hashlib.sha256(path.read_bytes()).digest()
