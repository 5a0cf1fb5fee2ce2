"""What differs between two configurations: what was added, removed and changed, each with its path.

Routes belong together by their name and targets by their URL, wherever they stand; the entries of other lists by
their value. Given `comparable` configurations, a changed secret is noticed and not shown.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gateway.config.effective import Hidden, masked
from gateway.config.places import write_path

Kind = Literal["added", "removed", "changed"]
PARTS = {
    "routes": "route",
    "upstreams": "upstream",
    "auth.providers": "provider",
    "auth.consumers": "consumer",
    "rate_limits": "rate limit",
}
"""What has a name of its own, by the path below which it stands."""
SETTING = "setting"
IDENTITY = {"routes": "name", "targets": "url"}
"""The key by which the entries of a list belong together."""
NOT_RELOADED = frozenset(("runtime_dir",))
"""Keys that only a restart changes."""
ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class Change:
    """One difference, fit to be shown. `old` is None for what was added, `new` for what was removed."""

    kind: Kind
    path: str
    """`routes[orders].match.path`"""
    old: Any
    new: Any
    part: str = SETTING
    """The route, upstream, provider or rate limit it belongs to, else a setting."""
    name: str = ""
    """Of that route, upstream, …"""
    whole: bool = False
    """The route, upstream, … itself came or went."""

    @property
    def needs_restart(self) -> bool:
        """A reload does not change this."""
        return self.path in NOT_RELOADED


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """What makes `new` of `old`, both `effective` or both `comparable`, in their order."""
    return list(_mapping(old, new, _Spot("")))


def summary(differences: Iterable[Change]) -> dict[str, dict[str, int]]:
    """How many routes, upstreams, … were added, removed and changed; only those of which there are some."""
    touched: dict[str, dict[str, set[str]]] = {}
    for each in differences:
        kind = each.kind if each.whole else "changed"
        touched.setdefault(each.part, {}).setdefault(kind, set()).add(each.name or f"{each.path} {each.old} {each.new}")
    order: tuple[Kind, ...] = ("added", "removed", "changed")
    return {
        f"{part.replace(' ', '_')}s": {kind: len(kinds[kind]) for kind in order if kind in kinds}
        for part in (*PARTS.values(), SETTING)
        if (kinds := touched.get(part))
    }


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where in the configuration."""

    path: str
    part: str = SETTING
    name: str = ""

    def below(self, key: str) -> "_Spot":
        return self._at(f"{self.path}.{write_path((key,))}".removeprefix("."), key)

    def entry(self, label: str) -> "_Spot":
        """Of a list whose entries have an identity."""
        return self._at(f"{self.path}[{label}]", label)

    def _at(self, path: str, name: str) -> "_Spot":
        return _Spot(path, PARTS[self.path], name) if self.path in PARTS else _Spot(path, self.part, self.name)

    def change(self, kind: Kind, old: object, new: object, whole: bool = False) -> Change:
        return Change(kind, self.path, masked(old), masked(new), self.part, self.name, whole)


def _mapping(old: dict[str, Any], new: dict[str, Any], spot: _Spot) -> Iterator[Change]:
    for key in dict.fromkeys((*old, *new)):
        yield from _either(old.get(key, ABSENT), new.get(key, ABSENT), spot.below(key), spot.path in PARTS)


def _either(old: Any, new: Any, spot: _Spot, whole: bool) -> Iterator[Change]:
    if new is ABSENT:
        yield spot.change("removed", old, None, whole)
    elif old is ABSENT:
        yield spot.change("added", None, new, whole)
    else:
        yield from _value(old, new, spot)


def _value(old: Any, new: Any, spot: _Spot) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _mapping(old, new, spot)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _list(old, new, spot)
    elif not _same(old, new):
        yield spot.change("changed", old, new)


def _list(old: list[Any], new: list[Any], spot: _Spot) -> Iterator[Change]:
    if identity := IDENTITY.get(spot.path.rpartition(".")[2]):
        before, after = _named(old, identity), _named(new, identity)
        for name in dict.fromkeys((*before, *after)):
            one, other = before.get(name, ABSENT), after.get(name, ABSENT)
            label = masked((one if other is ABSENT else other)[identity])
            yield from _either(one, other, spot.entry(label), spot.path in PARTS)
        return
    if _same(old, new):
        return
    gone, come = _without(old, new), _without(new, old)
    if not gone and not come:
        yield spot.change("changed", old, new)  # their order, or how often
    for entry in gone:
        yield spot.change("removed", entry, None)
    for entry in come:
        yield spot.change("added", None, entry)


def _named(entries: list[dict[str, Any]], identity: str) -> dict[str, dict[str, Any]]:
    return {_real(entry[identity]): entry for entry in entries}


def _without(some: list[Any], others: list[Any]) -> list[Any]:
    values = [_real(other) for other in others]
    texts = {value for value in values if isinstance(value, str)}  # long lists are texts
    rest = [value for value in values if not isinstance(value, str)]
    return [entry for entry in some if not _among(_real(entry), texts, rest)]


def _among(value: Any, texts: set[str], rest: list[Any]) -> bool:
    return value in texts if isinstance(value, str) else any(_same(value, other) for other in rest)


def _same(one: Any, other: Any) -> bool:
    """Whether both are the same JSON: unlike Python's ==, it tells 1 from true."""
    one, other = _real(one), _real(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def _real(value: Any) -> Any:
    return value.real if isinstance(value, Hidden) else value
