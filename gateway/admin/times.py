"""Points in time as operators write and read them: RFC 3339, or Unix time. Whole seconds, as tokens have them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
"""Python itself reads more than that: weeks, days alone, local time."""

UNIX = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)
LAST_SECOND = 253_402_300_799
"""The end of the year 9999."""


def instant(value: object) -> float:
    """Unix time, up to the next whole second. Raises ValueError."""
    seconds = _seconds(value)
    if seconds is None or not 0 <= seconds <= LAST_SECOND:  # false for NaN, too
        raise ValueError("is not a time such as 2026-11-21T09:00:00Z, or in Unix seconds")
    return float(math.ceil(seconds))


def written(seconds: float) -> str:
    """`2026-11-21T09:00:00Z`."""
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}"


def _seconds(value: object) -> float | None:
    match value:
        case bool():
            return None
        case int() | float():
            return value
        case str() if UNIX.fullmatch(value):
            return float(value)
        case str() if RFC3339.fullmatch(value):
            try:
                return datetime.fromisoformat(value.upper()).timestamp()
            except (ValueError, OverflowError):  # the 31st of February, the 25th hour
                return None
    return None
