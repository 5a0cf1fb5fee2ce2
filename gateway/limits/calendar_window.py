"""The fixed window of a calendar: so many per hour, day, week (from Monday, ISO 8601) or month, in a named time zone.

The count begins anew at the end of each window. A window is as long as the calendar says: where the clocks change, a
day has 23 or 25 hours. An hour always has sixty minutes, so the hour that is repeated in autumn is two of them.

Which window it is decides the gateway's clock, for Redis knows no calendars. The key carries the second in which the
window began: gateways whose clocks differ by some seconds count in the same window, except for so long around its
end, where each of both windows keeps its own limit all the same. The key ends a minute after its window.

How it differs from the other meters: the whole limit may come at once, at any time, and around the end of a window
two of them. It is meant for quotas ("100,000 a month"); what protects a service is another limit beside it.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from gateway.exchange import Quota
from gateway.limits.meter import COUNT, COUNTED, TICKS

Period = Literal["hour", "day", "week", "month"]

LINGER = 60
"""Seconds that a key outlives its window: gateways with slow clocks still count in it."""


MIDNIGHTS: dict[str, tuple[Callable[[datetime], datetime], Callable[[datetime], datetime]]] = {
    "day": (lambda day: day, lambda start: start + timedelta(days=1)),
    "week": (lambda day: day - timedelta(days=day.weekday()), lambda start: start + timedelta(weeks=1)),
    "month": (lambda day: day.replace(day=1), lambda start: (start + timedelta(days=31)).replace(day=1)),
}
"""From a midnight to that which begins its window, and from there to the next: in the calendar, not in seconds."""

USUAL = {"hour": 3600.0, "day": 86400.0, "week": 604800.0, "month": 2592000.0}
"""Seconds."""


class CalendarWindow:
    """A Meter: `limit` requests per `period`. Raises ValueError for a limit or period that is none, and KeyError
    (ZoneInfoNotFoundError) for an unknown zone.

    A state is the tick of the wall clock at which its window ends, and the count. The only thing that changes is
    which window was the last one asked for.
    """

    counts = COUNT
    by_calendar = True

    __slots__ = ("_began", "_ends", "_zone", "limit", "period", "policy", "table", "window")

    def __init__(self, policy: str, limit: int, period: Period, zone: str) -> None:
        if not 1 <= limit <= COUNTED or period not in USUAL:
            raise ValueError("a calendar's limit is from 1 to 2^30 - 1 per hour, day, week or month")
        self.policy = policy
        self.limit = limit
        self.period = period
        self.window = USUAL[period]
        self.table = f"calendar_window {policy}"
        self._zone = ZoneInfo(zone)
        self._began = self._ends = 0

    def bounds(self, second: int) -> tuple[int, int]:
        """The seconds since 1970 at which the window of this one began and ends; the end is outside."""
        if not self._began <= second < self._ends:
            find = self._hour if self.period == "hour" else self._midnights
            self._began, self._ends = find(second)
        return self._began, self._ends

    def take(self, state: int, now: int, cost: int) -> tuple[int, Quota]:
        """As Meter.take."""
        began, ends = self.bounds(now // TICKS)
        tick = ends * TICKS
        count = min(state & COUNTED, self.limit) if state >> COUNT == tick else 0
        left = (tick - now) / TICKS
        allowed, wait = True, 0.0
        if cost > 0 and count + cost > self.limit:
            allowed, wait = False, left
        elif cost:
            count = max(0, count + cost)
            state = tick << COUNT | count
        reset = left if count else 0.0
        quota = Quota(allowed, self.policy, self.limit, float(ends - began), self.limit - count, reset, wait)
        return state, quota

    def asks(self, key: bytes, wall: float) -> tuple[bytes, tuple[bytes, bytes, bytes]]:
        """As Meter.asks: limit, and milliseconds until the key ends."""
        now = int(wall * TICKS)
        began, ends = self.bounds(now // TICKS)
        life = ((ends + LINGER) * TICKS - now) * 1000 // TICKS
        return b"%b:%d" % (key, began), (b"calendar_window", b"%d" % self.limit, b"%d" % life)

    def answer(self, held: int, wall: float, cost: int) -> Quota:
        """As Meter.answer; the script says what was counted."""
        now = int(wall * TICKS)
        _, ends = self.bounds(now // TICKS)
        return self.take(ends * TICKS << COUNT | held, now, cost)[1]

    def _hour(self, second: int) -> tuple[int, int]:
        shift = datetime.fromtimestamp(second, self._zone).utcoffset()
        assert shift is not None  # the zone knows it
        began = second - (second + int(shift.total_seconds())) % 3600
        return began, began + 3600

    def _midnights(self, second: int) -> tuple[int, int]:
        """Read in the calendar, then looked up in the zone: a midnight that the change of clocks skips is the moment
        of the change, and of one that comes twice it is the first (PEP 495, fold=0).
        """
        begin, following = MIDNIGHTS[self.period]
        midnight = datetime.fromtimestamp(second, self._zone).replace(hour=0, minute=0, second=0, fold=0)
        start = begin(midnight)
        return int(start.timestamp()), int(following(start).timestamp())
