"""Durations, sizes, shares and rates as they are written: `50ms`, `64KiB`, `20%`, `100/minute`.

A bare number is refused where a unit is needed: 30 what? Every function raises ValueError that tells
what a right value looks like.
"""

import re
from typing import NamedTuple

from gateway.config.complaints import show

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
PERIODS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "week": 604800.0, "month": 2629746.0}
"""A month stands for one of the calendar, whatever its length: only limits by the calendar may use it. Its number is
the mean length, so that nobody means it who writes `30d`."""
BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

DURATION = r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)"
SIZE = r"(\d{1,12})(B|KiB|MiB|GiB)"
SHARE = r"(\d{1,3}(?:\.\d{1,9})?)%"
RATE = rf"(\d{{1,9}})/(second|minute|hour|day|week|month|{DURATION})"
LONGEST = 3650 * 86400.0
"""Ten years: beyond it a duration is a mistake, and timers overflow."""


class Rate(NamedTuple):
    """`limit` requests in `window` seconds."""

    limit: int
    window: float

    def __str__(self) -> str:
        return f"{self.limit}/{self.window:g}s"


def duration(value: object) -> float:
    """Seconds."""
    found = re.fullmatch(DURATION, value, re.ASCII) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"{show(value)} is not a duration such as 50ms, 2s, 1.5m, 1h or 1d")
    seconds = float(found[1]) * SECONDS[found[2]]
    if seconds > LONGEST:
        raise ValueError("is longer than ten years")
    return seconds


def positive_duration(value: object) -> float:
    """Seconds, more than none."""
    seconds = duration(value)
    if seconds <= 0:
        raise ValueError("must be longer than nothing")
    return seconds


def size(value: object) -> int:
    """Bytes."""
    found = re.fullmatch(SIZE, value, re.ASCII) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"{show(value)} is not a size such as 512B, 64KiB, 10MiB or 1GiB")
    return int(found[1]) * BYTES[found[2]]


def positive_size(value: object) -> int:
    """Bytes, at least one."""
    count = size(value)
    if not count:
        raise ValueError("must be at least 1B")
    return count


def size_or_none(value: object) -> int | None:
    """Bytes, or None for `none`: without a limit."""
    if value == "none":
        return None
    try:
        return size(value)
    except ValueError as error:
        raise ValueError(f"{error}, or none") from None


def share(value: object) -> float:
    """0 to 1."""
    found = re.fullmatch(SHARE, value, re.ASCII) if isinstance(value, str) else None
    if not found or float(found[1]) > 100:
        raise ValueError(f"{show(value)} is not a share from 0% to 100%")
    return float(f"{found[1]}e-2")  # 99.9% is 0.999; divided by 100 it would be a bit more


def positive_share(value: object) -> float:
    """More than 0, up to 1."""
    part = share(value)
    if not part:
        raise ValueError("must be more than 0%")
    return part


def rate(value: object) -> Rate:
    """Requests in a time."""
    found = re.fullmatch(RATE, value, re.ASCII) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"{show(value)} is not a rate such as 100/second, 5000/hour or 100/30s")
    limit = int(found[1])
    window = PERIODS[found[2]] if found[2] in PERIODS else positive_duration(found[2])
    if not limit:
        raise ValueError("must allow at least 1 request")
    return Rate(limit, window)
