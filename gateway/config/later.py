"""What the contract names and this version cannot do yet: an error that says so, never silently ignored.

As parts come to work they move from here into the models. `*` stands for any name or position.
"""

from collections.abc import Callable

NOT_YET = "not supported yet"

KEYS: dict[str, frozenset[str]] = {
    section: frozenset(keys.split())
    for section, keys in {
        "": "tracing",
        "routes.*": "cache validate",
        "routes.*.fallback.*": "stale",
        "logging": "redact",
    }.items()
}


def _one_of(*words: str) -> Callable[[object], bool]:
    return lambda value: value in words if isinstance(value, str) else False


VALUES: dict[str, Callable[[object], bool]] = {
    "logging.access": _one_of("ecs", "combined"),
}


def not_yet(pattern: str, value: object) -> bool:
    """`value` is right for the key at `pattern`, but later."""
    check = VALUES.get(pattern)
    return check is not None and check(value)
