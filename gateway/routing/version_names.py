"""Which version a text names: one by its name, by an alias, or a later one that a baseline (`v1.1+`) serves, too.

Versions compare by their numbers: v2 is before v10, v1.1 before v1.10, 2026-01-01 before 2026-11-21. Only those of
the same kind are compared: with the same letters in front, and the same number of dashes.
"""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.routing.pattern import fold

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}\+?")
"""As it is written in the configuration; + makes it a baseline."""

LONGEST = 32
"""Characters of a name: what is longer names nothing, and costs nothing."""

_NUMBERED = re.compile(r"([A-Za-z]*)([0-9]{1,9}(?:[.-][0-9]{1,9}){0,3})")
_SEPARATOR = re.compile(r"[.-]")

UNKNOWN = "?"
"""In the place of a version that looks like one of the known, and is none: no version has this name."""

Kind = tuple[str, int]
"""The letters in front, and how many dashes."""


class Numbered(NamedTuple):
    kind: Kind
    numbers: tuple[int, ...]
    """Without zeros at the end: v1.0 is v1."""


def numbered(text: str) -> Numbered | None:
    """The numbers of a version; None for a name without."""
    found = _NUMBERED.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        return None
    letters, digits = found.groups()
    numbers = [int(number) for number in _SEPARATOR.split(digits)]
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    return Numbered((letters, digits.count("-")), tuple(numbers))


class Names:
    """The versions of a route; `available` as they are written there, a + at the end of baselines."""

    def __init__(self, available: Sequence[str], aliases: Mapping[str, str]) -> None:
        plain = [name.removesuffix("+") for name in available]
        self._exact = {**{name: name for name in plain}, **aliases}
        self._folded = {fold(name) for name in self._exact}
        steps = [(found, name) for name in available if (found := numbered(name.removesuffix("+"))) is not None]
        steps.sort()
        self._kinds = {(fold(step.kind[0]), step.kind[1]) for step, _ in steps}
        self._steps = [step for step, _ in steps]
        self._at_step = [name.removesuffix("+") if name.endswith("+") else None for _, name in steps]
        self.listed = tuple(sorted(available, key=_place))
        """As they are told to clients who ask for another one."""

    def known(self, text: str) -> str | None:
        """The version that `text` names; None when it is unknown."""
        name = self._exact.get(text)
        return name if name is not None else self._later(text)

    def read(self, segment: str) -> str | None:
        """The version that a segment of a path names; UNKNOWN when it only looks like one, None when it does not.

        A segment and its folded form are both versions, or neither is: else a look-alike could lead round a route.
        """
        name = self.known(segment)
        if name is not None:
            return name
        folded = fold(segment)
        if folded in self._folded:
            return UNKNOWN
        found = numbered(folded)
        return UNKNOWN if found is not None and found.kind in self._kinds else None

    def _later(self, text: str) -> str | None:
        """The baseline that serves it: the last step up to it, if that is one."""
        asked = numbered(text)
        if asked is None:
            return None
        place = bisect_right(self._steps, asked) - 1
        if place < 0 or self._steps[place].kind != asked.kind:
            return None
        return self._at_step[place]


def _place(name: str) -> tuple[bool, tuple[Kind, tuple[int, ...]]]:
    """Sorts by numbers; names without any come last, in the order of the file."""
    found = numbered(name.removesuffix("+"))
    return (True, (("", 0), ())) if found is None else (False, found)
