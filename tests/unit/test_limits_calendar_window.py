"""Windows of a calendar, by example: where they begin and end in zones whose clocks change, and what they count."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from gateway.limits.calendar_window import LINGER, CalendarWindow, Period
from gateway.limits.meter import TICKS

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC", fold: int = 0) -> int:
    """The second since 1970 of a local time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp())


def bounds(period: Period, zone: str, second: int) -> tuple[str, str]:
    """The window around this second, in local time."""
    began, ends = CalendarWindow("p", 1, period, zone).bounds(second)
    return local(began, zone), local(ends, zone)


def local(second: int, zone: str) -> str:
    return datetime.fromtimestamp(second, ZoneInfo(zone)).isoformat()


def hours(period: Period, zone: str, second: int) -> float:
    began, ends = CalendarWindow("p", 1, period, zone).bounds(second)
    return (ends - began) / 3600


def test_a_day_begins_at_midnight_of_its_zone() -> None:
    evening = at("2026-11-20T23:30:00")
    assert bounds("day", "UTC", evening) == ("2026-11-20T00:00:00+00:00", "2026-11-21T00:00:00+00:00")
    assert bounds("day", BERLIN, evening) == ("2026-11-21T00:00:00+01:00", "2026-11-22T00:00:00+01:00")


def test_where_the_clocks_change_a_day_has_23_or_25_hours() -> None:
    assert hours("day", BERLIN, at("2026-03-29T12:00:00", BERLIN)) == 23
    assert hours("day", BERLIN, at("2026-10-25T12:00:00", BERLIN)) == 25
    assert hours("day", BERLIN, at("2026-10-26T12:00:00", BERLIN)) == 24
    for moment in (at("2026-10-25T02:30:00", BERLIN, fold) for fold in (0, 1)):
        assert bounds("day", BERLIN, moment) == ("2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00")


def test_the_hour_that_comes_twice_is_two_and_the_one_that_is_left_out_is_none() -> None:
    first, second = (at("2026-10-25T02:30:00", BERLIN, fold) for fold in (0, 1))
    assert bounds("hour", BERLIN, first) == ("2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00")
    assert bounds("hour", BERLIN, second) == ("2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00")
    before = at("2026-03-29T01:59:59", BERLIN)
    assert bounds("hour", BERLIN, before) == ("2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00")
    assert bounds("hour", BERLIN, before + 1) == ("2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00")


def test_an_hour_begins_when_the_local_clock_shows_it() -> None:
    assert bounds("hour", "Asia/Kolkata", at("2026-11-21T10:45:00", "Asia/Kolkata")) == (
        "2026-11-21T10:00:00+05:30",
        "2026-11-21T11:00:00+05:30",
    )


def test_a_midnight_that_is_left_out_is_the_moment_of_the_change() -> None:
    cairo = "Africa/Cairo"  # from 00:00 to 01:00 on the last Friday of April
    began, ends = CalendarWindow("p", 1, "day", cairo).bounds(at("2026-04-24T12:00:00", cairo))
    assert (local(began, cairo), (ends - began) / 3600) == ("2026-04-24T01:00:00+03:00", 23)
    assert CalendarWindow("p", 1, "day", cairo).bounds(began - 1)[1] == began


def test_of_a_midnight_that_comes_twice_the_first_counts() -> None:
    havana = "America/Havana"  # from 01:00 back to 00:00 on the first Sunday of November
    moments = [at("2026-11-01T00:30:00", havana, fold) for fold in (0, 1)]
    assert {bounds("day", havana, moment) for moment in moments} == {
        ("2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00")
    }
    assert hours("day", havana, moments[0]) == 25


def test_a_week_begins_on_monday_also_across_the_turn_of_the_year() -> None:
    assert bounds("week", "UTC", at("2027-01-02T12:00:00")) == (
        "2026-12-28T00:00:00+00:00",
        "2027-01-04T00:00:00+00:00",
    )
    assert bounds("week", "UTC", at("2027-01-04T00:00:00"))[0] == "2027-01-04T00:00:00+00:00"
    assert hours("week", BERLIN, at("2026-10-20T12:00:00", BERLIN)) == 7 * 24 + 1


@pytest.mark.parametrize(("month", "days"), [("2026-01", 31), ("2026-02", 28), ("2028-02", 29), ("2026-12", 31)])
def test_a_month_is_as_long_as_it_is(month: str, days: int) -> None:
    for day in (1, 15, 28):
        assert hours("month", "UTC", at(f"{month}-{day:02}T13:00:00")) == days * 24


@pytest.mark.parametrize(
    "zone", ["UTC", BERLIN, "America/St_Johns", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Gaza"]
)
@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_windows_lie_side_by_side(zone: str, period: Period) -> None:
    meter, moment = CalendarWindow("p", 1, period, zone), at("2026-01-01T00:00:00", zone)
    end = moment + 3 * 366 * 86_400
    while moment < end:
        began, ends = meter.bounds(moment)
        assert CalendarWindow("p", 1, period, zone).bounds(ends - 1) == (began, ends)
        assert began <= moment < ends
        assert CalendarWindow("p", 1, period, zone).bounds(ends)[0] == ends
        moment = ends


def test_an_hour_of_any_zone_holds_its_moment() -> None:
    for zone in ("Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Chatham", "America/St_Johns"):
        meter, start = CalendarWindow("p", 1, "hour", zone), at("2026-01-01T00:00:00")
        for moment in range(start, start + 366 * 86_400, 1777):
            began, ends = meter.bounds(moment)
            assert began <= moment < ends == began + 3600


# -- counting ------------------------------------------------------------------------------------------

NOON = at("2026-11-21T12:00:00", BERLIN)
HALF = 12 * 3600.0


def test_the_count_begins_anew_at_the_end_of_the_window() -> None:
    meter = CalendarWindow("p", 10, "day", BERLIN)
    state, quota = meter.take(0, NOON * TICKS, 10)
    assert quota == (True, "p", 10, 86_400.0, 0, HALF, 0.0)
    state, quota = meter.take(state, NOON * TICKS, 1)
    assert quota == (False, "p", 10, 86_400.0, 0, HALF, HALF)
    midnight = (NOON + 12 * 3600) * TICKS
    assert not meter.take(state, midnight - 1, 1)[1].allowed
    state, quota = meter.take(state, midnight, 1)
    assert quota == (True, "p", 10, 86_400.0, 9, 86_400.0, 0.0)


def test_a_quota_tells_the_window_as_long_as_it_really_is() -> None:
    meter = CalendarWindow("p", 10, "day", BERLIN)
    _, quota = meter.take(0, at("2026-10-25T12:00:00", BERLIN) * TICKS, 1)
    assert (quota.window, quota.reset_after) == (25 * 3600.0, HALF)


def test_a_cost_of_0_asks_and_takes_nothing() -> None:
    meter = CalendarWindow("p", 10, "month", "UTC")
    _, quota = meter.take(0, NOON * TICKS, 0)
    assert quota == (True, "p", 10, 30 * 86_400.0, 10, 0.0, 0.0)
    state, _ = meter.take(0, NOON * TICKS, 10)
    assert meter.take(state, NOON * TICKS, 0)[0] == state
    assert meter.take(state, NOON * TICKS, 0)[1].allowed


def test_a_refusal_counts_nothing() -> None:
    meter = CalendarWindow("p", 10, "day", "UTC")
    state, _ = meter.take(0, NOON * TICKS, 8)
    assert meter.take(state, NOON * TICKS, 3)[0] == state
    assert meter.take(state, NOON * TICKS, 2)[1].allowed


def test_what_is_given_back_is_there_again_and_never_more() -> None:
    meter = CalendarWindow("p", 10, "day", "UTC")
    state, _ = meter.take(0, NOON * TICKS, 8)
    state, quota = meter.take(state, NOON * TICKS, -3)
    assert (quota.allowed, quota.remaining) == (True, 5)
    state, quota = meter.take(state, NOON * TICKS, -100)
    assert (quota.remaining, quota.reset_after) == (10, 0.0)


def test_a_smaller_limit_holds_for_who_spent_under_the_larger() -> None:
    state, _ = CalendarWindow("p", 100, "day", "UTC").take(0, NOON * TICKS, 100)
    _, quota = CalendarWindow("p", 10, "day", "UTC").take(state, NOON * TICKS, 1)
    assert (quota.allowed, quota.remaining) == (False, 0)


# -- in Redis ------------------------------------------------------------------------------------------


def test_the_key_carries_the_beginning_of_the_window_and_ends_a_minute_after_it() -> None:
    meter = CalendarWindow("p", 10, "day", BERLIN)
    midnight = at("2026-11-21T00:00:00", BERLIN)
    key, arguments = meter.asks(b"k", NOON + 0.25)
    assert key == b"k:%d" % midnight
    assert arguments == (b"calendar_window", b"10", b"%d" % ((12 * 3600 + LINGER) * 1000 - 250))
    assert meter.asks(b"k", NOON + 12 * 3600 - 0.001)[0] == key
    assert meter.asks(b"k", NOON + 12 * 3600)[0] == b"k:%d" % (midnight + 86_400)


def test_gateways_whose_clocks_differ_count_in_the_same_window() -> None:
    one, other = CalendarWindow("p", 10, "hour", "UTC"), CalendarWindow("p", 10, "hour", "UTC")
    assert one.asks(b"k", NOON + 10.0)[0] == other.asks(b"k", NOON + 13.0)[0]


def test_the_answer_is_of_the_window_that_was_asked_about() -> None:
    meter = CalendarWindow("p", 10, "day", "UTC")
    eve = at("2026-11-21T23:59:59") + 0.5
    meter.asks(b"k", eve)
    meter.asks(b"k", eve + 1)  # somebody else asks meanwhile, in the next window
    assert meter.answer(3, eve, 2) == (True, "p", 10, 86_400.0, 5, 0.5, 0.0)
    assert meter.answer(9, eve, 2) == (False, "p", 10, 86_400.0, 1, 0.5, 0.5)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.9999998, 0.99999999])
def test_no_rounding_puts_question_and_answer_into_different_windows(fraction: float) -> None:
    meter = CalendarWindow("p", 10, "day", "UTC")
    wall = at("2026-11-21T23:59:59") + fraction
    assert meter.answer(7, wall, 0).remaining == 3
    life = int(meter.asks(b"k", wall)[1][2])
    assert LINGER * 1000 <= life <= (86_400 + LINGER) * 1000


# -- mistakes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "period"), [(0, "day"), (-1, "day"), (2**30, "day"), (1, "minute"), (1, "")])
def test_an_impossible_window_is_an_error_at_once(limit: int, period: Period) -> None:
    with pytest.raises(ValueError, match="calendar"):
        CalendarWindow("p", limit, period, "UTC")


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "nowhere"])
def test_an_unknown_zone_is_an_error_at_once(zone: str) -> None:
    with pytest.raises(ZoneInfoNotFoundError):
        CalendarWindow("p", 1, "day", zone)


def test_windows_agree_with_a_plain_reading_of_the_calendar() -> None:
    now = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
    for _ in range(400):
        now += timedelta(hours=7, minutes=13)
        second = int(now.timestamp())
        day = now.replace(hour=0, minute=0)
        expected = {
            "hour": now.replace(minute=0),
            "day": day,
            "week": datetime.fromisocalendar(*now.isocalendar()[:2], 1).replace(tzinfo=UTC),
            "month": day.replace(day=1),
        }
        for period, start in expected.items():
            assert bounds(period, "UTC", second)[0] == start.isoformat()  # type: ignore[arg-type]
