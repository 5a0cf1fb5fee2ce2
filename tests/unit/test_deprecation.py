"""The wire form of Deprecation, Sunset and Link, and when a version refuses to answer."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from gateway.routing.deprecation import End, Life, Window, lines

DEPRECATED = datetime(2023, 6, 30, 23, 59, 59, tzinfo=UTC)  # the example of RFC 9745
SUNSET = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
DOCS = "https://docs.example.com/migrate"
END = SUNSET.timestamp()


def test_deprecation_is_a_date_of_structured_fields():
    assert lines(Life(deprecated=DEPRECATED)) == b"deprecation: @1688169599\r\n"


def test_sunset_is_an_http_date():
    assert lines(Life(sunset=SUNSET)) == b"sunset: Thu, 31 Dec 2026 23:59:59 GMT\r\n"
    elsewhere = SUNSET.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert lines(Life(sunset=elsewhere)) == lines(Life(sunset=SUNSET))


@pytest.mark.parametrize(
    ("life", "link"),
    [
        (Life(DEPRECATED, link=DOCS), f'link: <{DOCS}>; rel="deprecation"\r\n'),
        (Life(sunset=SUNSET, link=DOCS), f'link: <{DOCS}>; rel="sunset"\r\n'),
        (Life(DEPRECATED, SUNSET, link=DOCS), f'link: <{DOCS}>; rel="deprecation", <{DOCS}>; rel="sunset"\r\n'),
    ],
)
def test_each_relation_has_a_link_of_its_own(life, link):
    assert lines(life).endswith(link.encode())
    assert lines(life).count(b"link:") == 1


def test_a_version_that_stays_says_nothing():
    assert lines(Life()) == b""
    assert lines(Life(link=DOCS)) == b""


def test_a_version_is_gone_from_the_second_of_its_sunset_on():
    end = End("v1", Life(DEPRECATED, SUNSET, "v2", DOCS))
    assert end.refusal(END - 0.001) is None
    assert not end.passed(END - 0.001)
    assert end.passed(END)
    gone = end.refusal(END)
    assert (gone.status, gone.code, gone.retry_after) == (410, "version_gone", 0)
    assert gone.detail == "Version v1 ended on 2026-12-31."
    assert gone.members == {"version": "v1", "successor": "v2", "link": DOCS}


def test_a_brown_out_passes():
    """503 and when to come back: a 410 may be cached, and would outlive it."""
    end = End("v1", Life(sunset=SUNSET, brownouts=(Window(1000.0, 1600.0), Window(5000.0, 5060.0))))
    assert [now for now in (999.9, 1000.0, 1599.9, 1600.0, 5000.0) if end.refusal(now)] == [1000.0, 1599.9, 5000.0]
    paused = end.refusal(1300.0)
    assert (paused.status, paused.code, paused.retry_after) == (503, "version_gone", 300.0)
    assert "2026-12-31" in paused.detail
