"""What outlives a reload: parts are kept by everything that decides about them.

A part that the next runtime asks for under an equal key is the same object: pools with their connections,
circuits, counters, keys. With it come the parts it is made of. Whatever nobody asks for any more is left behind.
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
        self._inner: dict[Hashable, list[Hashable]] = {}  # what was asked for while a part was made
        self._making: list[list[Hashable]] = []
        self._previous = previous

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The part with this key, whether it exists already or has to be made; `make` may ask for others."""
        if self._making:
            self._making[-1].append(key)
        if key not in self._parts:
            if self._previous is not None and key in self._previous._parts:
                self._take_over(key, self._previous)
            else:
                self._make(key, make)
        part: T = self._parts[key]
        return part

    def of(self, kind: type[T]) -> list[T]:
        """All parts of this kind."""
        return [part for part in self._parts.values() if isinstance(part, kind)]

    def settle(self) -> None:
        """Forget the previous runtime: what was of use has been taken over."""
        self._previous = None

    def left_behind_by(self, successor: Parts) -> list[Any]:
        """The parts that `successor` has not taken over."""
        kept = {id(part) for part in successor._parts.values()}
        return [part for part in self._parts.values() if id(part) not in kept]

    def _make(self, key: Hashable, make: Callable[[], Any]) -> None:
        inner: list[Hashable] = []
        self._making.append(inner)
        try:
            self._parts[key] = make()
        finally:
            self._making.pop()
        self._inner[key] = inner

    def _take_over(self, key: Hashable, previous: Parts) -> None:
        """With all that it is made of: it is in use as long as this part is."""
        self._parts[key] = previous._parts[key]
        self._inner[key] = previous._inner[key]
        for inner in self._inner[key]:
            if inner not in self._parts:
                self._take_over(inner, previous)


def content(path: Path | None) -> bytes:
    """Stands for what is in a file, so that a renewed one makes another key. Raises OSError."""
    return b"" if path is None else hashlib.sha256(path.read_bytes()).digest()
