"""What is wrong with a configuration and where: one line each, all of them at once.

Nothing that came from the environment or from a secret file is ever printed: it shows as `***`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from heapq import nlargest
from os.path import commonprefix

LONGEST_SHOWN = 60
MOST_COMPARED = 200
"""Names compared for a suggestion: of more, those that begin most alike (difflib takes up to 50 µs a name)."""


@dataclass(frozen=True, slots=True, order=True)
class Complaint:
    """One thing that is wrong. Lines and columns count from 1; `key` is the dotted path, "" for the file."""

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.file}:{self.line}:{self.column}: {key}{self.message}"


class ConfigError(Exception):
    """The configuration cannot be used. Its text is every complaint, one a line, in the file's order."""

    def __init__(self, complaints: Iterable[Complaint]) -> None:
        self.complaints = tuple(sorted(set(complaints)))
        super().__init__("\n".join(map(str, self.complaints)))


class Substituted(str):
    """Text in which a `${…}` was replaced: it may be a secret, so no message quotes it."""

    __slots__ = ()


def cut(whole: str, part: str) -> str:
    """`part` of `whole`, as unprintable as that."""
    return Substituted(part) if isinstance(whole, Substituted) else part


def show(value: object) -> str:
    """`value` for a message: short, on one line, and never a secret."""
    match value:
        case Substituted():
            return "***"
        case str():
            return repr(value if len(value) <= LONGEST_SHOWN else value[:LONGEST_SHOWN] + "…")
        case bool():
            return "true" if value else "false"
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            text = str(value)
            return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…"


def hint(word: object, names: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the nearest of `names`, or nothing when none is near."""
    if not isinstance(word, str) or isinstance(word, Substituted):
        return ""
    near = [name for name in names if abs(len(name) - len(word)) <= max(2, len(word) // 2)]
    if len(near) > MOST_COMPARED:
        # Names, not paths: letter by letter is what we want.
        near = nlargest(MOST_COMPARED, near, key=lambda name: len(commonprefix((name, word))))  # noqa: RUF071
    lowered = {name.lower(): name for name in near}
    found = get_close_matches(word.lower(), lowered, n=1, cutoff=0.65)
    return f" (did you mean {lowered[found[0]]!r}?)" if found else ""
