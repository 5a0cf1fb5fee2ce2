"""What the contract names and this version cannot do yet: an error that says so, never silently ignored.

As parts come to work they move from here into the models. `*` stands for any name or position.
"""

NOT_YET = "not supported yet"

KEYS: dict[str, frozenset[str]] = {
    section: frozenset(keys.split())
    for section, keys in {
        "routes.*": "cache validate",
        "routes.*.fallback.*": "stale",
    }.items()
}
