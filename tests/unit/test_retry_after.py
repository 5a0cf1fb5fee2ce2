from datetime import UTC, datetime

import pytest

from gateway.exchange import Reply
from gateway.resilience.retry_after import retry_after

WALL = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"7", 7.0),
        (b" 7 ", 7.0),
        (b"999999999", 999999999.0),
        (b"9" * 5000, float("inf")),
        (b"Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        (b"Sunday, 01-Mar-26 12:00:30 GMT", 30.0),
        (b"Sun Mar  1 12:00:30 2026", 30.0),
        (b"Sun, 01 Mar 2026 12:00:30 -0000", 30.0),
        (b"Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        (b"", None),
        (b"-1", None),
        (b"+5", None),
        (b"1.5", None),
        (b"soon", None),
        (b"Sun, 99 Mar 2026 12:00:30 GMT", None),
        (b"Sun, 01 Mar 99999999 12:00:30 GMT", None),
        ("７".encode(), None),
        (b"\xff\xfe", None),
    ],
)
def test_it_is_seconds_or_an_http_date_and_anything_else_says_nothing(value: bytes, seconds: float | None) -> None:
    assert retry_after(Reply(503, [(b"retry-after", value)]), WALL) == seconds


def test_only_429_and_503_invite_to_come_back() -> None:
    said = {status: retry_after(Reply(status, [(b"retry-after", b"5")]), WALL) for status in (200, 301, 429, 500, 503)}
    assert said == {200: None, 301: None, 429: 5.0, 500: None, 503: 5.0}


def test_a_reply_without_the_header_says_nothing() -> None:
    assert retry_after(Reply(503, []), WALL) is None
