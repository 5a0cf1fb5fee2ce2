import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import Headers, Reply
from gateway.resilience.quota_headers import LONGEST, pause_asked, tells_of_quota

NOW = 1_795_000_000.0  # in November 2026


def asked(status: int, *headers: tuple[bytes, bytes], unavailable: bool = False) -> float | None:
    return pause_asked(Reply(status, list(headers)), lambda: NOW, unavailable)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b'"default";r=0;t=30', 30),
        (b'"default";r=1;t=30', 0),
        (b"default;r=0;t=30", 30),
        (b'"a";t=30;r=0', 30),
        (b'"a" ; r=0 ; t=30', 30),
        (b'"a";r=0;pk=:cj0wO3Q9OTk=:;t=30', 30),
        (b'"minute";r=9;t=5, "day";r=0;t=3000', 3000),
        (b'"minute";r=0;t=5, "day";r=0;t=3000', 3000),
        (b'"minute";r=9;t=5,"day";r=8;t=3000', 0),
        (b'"a, b;r=0;t=9 \\" ";r=4;t=30', 0),
        (b'"a";r=-1;t=30', 30),
        (b'"a";r=0', None),
        (b'"a";t=30', None),
        (b'"a";r=0;t=0', 0),
        (b"limit=100, remaining=0, reset=30", 30),
        (b"limit=100,remaining=0,reset=30", 30),
        (b"limit=100, remaining=3, reset=30", 0),
        (b"limit=100, remaining=0", None),
    ],
)
def test_the_fields_of_the_draft_are_understood_in_all_its_versions(value: bytes, seconds: float | None) -> None:
    assert asked(200, (b"ratelimit", value)) == seconds


def test_a_list_may_come_in_several_fields() -> None:
    fields = [(b"ratelimit", b'"a";r=5;t=1'), (b"ratelimit", b'"b";r=0;t=40')]
    assert asked(200, *fields) == asked(200, *reversed(fields)) == 40


@pytest.mark.parametrize("family", [b"ratelimit-", b"x-ratelimit-"])
@pytest.mark.parametrize(
    ("remaining", "reset", "seconds"),
    [
        (b"0", b"30", 30),
        (b"0.0", b"29.5", 29.5),
        (b" 0 ", b"30 ", 30),
        (b"-2", b"30", 30),
        (b"12", b"30", 0),
        (b"0", b"%d" % (NOW + 30), 30),
        (b"0", b"%d.5" % (NOW + 30), 30.5),
        (b"0", b"%d" % ((NOW + 30) * 1000), 30),
        (b"0", b"%d" % (NOW - 30), 0),
        (b"0", b"%d" % (NOW + 90_000), LONGEST),
        (b"0", b"86400", LONGEST),
        (b"0", b"999999999", LONGEST),
        (b"0", b"0", 0),
        (b"0", b"-5", 0),
        (b"0", b"Sat, 21 Nov 2026 12:00:00 GMT", None),
        (b"", b"30", None),
        (b"nan", b"30", None),
        (b"0", b"inf", None),
        (b"0", b"1e9", None),
        (b"0", b"9" * 16, None),
        (b"0x0", b"30", None),
        (b"10, 0", b"30", None),
    ],
)
def test_separate_fields_hold_seconds_or_dates(
    family: bytes, remaining: bytes, reset: bytes, seconds: float | None
) -> None:
    assert asked(200, (family + b"remaining", remaining), (family + b"reset", reset)) == seconds


def test_what_is_used_up_until_nobody_knows_when_is_no_reason_to_pause() -> None:
    assert asked(200, (b"x-ratelimit-remaining", b"0")) is None
    assert asked(200, (b"x-ratelimit-reset", b"30")) is None


def test_the_newest_family_of_fields_counts() -> None:
    newest, older = (b"ratelimit", b'"a";r=0;t=10'), [(b"ratelimit-remaining", b"0"), (b"ratelimit-reset", b"20")]
    oldest = [(b"x-ratelimit-remaining", b"0"), (b"x-ratelimit-reset", b"30")]
    assert asked(200, *oldest, *older, newest) == 10
    assert asked(200, *oldest, *older) == 20
    assert asked(200, *oldest) == 30


@pytest.mark.parametrize(
    ("status", "value", "seconds"),
    [
        (429, b"7", 7),
        (429, b"Wed, 18 Nov 2026 11:47:20 GMT", 2440),
        (429, b"9999999999999", LONGEST),
        (429, b"0", None),
        (429, b"-7", None),
        (429, b"soon", None),
        (200, b"7", None),
        (503, b"7", None),
    ],
)
def test_a_429_says_when_to_come_back(status: int, value: bytes, seconds: float | None) -> None:
    assert asked(status, (b"retry-after", value)) == seconds


def test_a_503_counts_only_where_it_speaks_for_the_whole_upstream() -> None:
    assert asked(503, (b"retry-after", b"7"), unavailable=True) == 7
    assert asked(503, unavailable=True) is None
    assert asked(500, (b"retry-after", b"7"), unavailable=True) is None


def test_retry_after_comes_before_the_limits() -> None:
    fields: Headers = [(b"ratelimit", b'"day";r=0;t=3000'), (b"retry-after", b"2")]
    assert asked(429, *fields) == 2
    assert asked(200, *fields) == 3000
    assert asked(429, *fields[:1]) == 3000


def test_a_reply_without_such_fields_says_nothing_and_asks_no_clock() -> None:
    def explode() -> float:
        raise AssertionError("this clock should not have been asked")

    assert pause_asked(Reply(200, [(b"content-type", b"text/plain"), (b"date", b"now")]), explode) is None


def test_a_field_of_a_hundred_kilobytes_is_not_read() -> None:
    started = time.perf_counter()
    for value in (b'"' * 100_000, b'"a";r=0;t=5,' * 10_000, b'"' + b"\\" * 99_999):
        assert asked(200, (b"ratelimit", value)) is None
    took = time.perf_counter() - started
    assert took < 0.1, f"{took * 1000:.1f} ms"


@pytest.mark.parametrize("value", [b'"' * 1024, b'"' + b"\\" * 1023, b"r=" * 512, b" r=0" * 256, b"\x00\xff;,=" * 200])
def test_the_longest_field_that_is_read_takes_no_time(value: bytes) -> None:
    started = time.perf_counter()
    asked(200, (b"ratelimit", value))
    took = time.perf_counter() - started
    assert took < 0.02, f"{took * 1000:.1f} ms"


FIELDS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"ratelimit", b"ratelimit-remaining", b"ratelimit-reset", b"x-ratelimit-remaining", b"x-ratelimit-reset"]
        ),
        st.binary(max_size=40)
        | st.from_regex(rb"[ \t]?-?[0-9]{1,3}(\.[0-9])?", fullmatch=True)
        | st.from_regex(rb'("a"|b);[rt]=-?[0-9]{1,17};[rt]=[0-9]{1,17}', fullmatch=True)
        | st.from_regex(rb"(remaining|reset)=-?[0-9]{1,3}, ?(remaining|reset)=[0-9]{1,3}", fullmatch=True),
    ),
    max_size=6,
)


@given(FIELDS, st.sampled_from([200, 429, 503]))
def test_whatever_comes_the_pause_is_bounded(headers: Headers, status: int) -> None:
    seconds = pause_asked(Reply(status, headers), lambda: NOW, True)
    assert seconds is None or 0 <= seconds <= LONGEST


@given(FIELDS)
def test_the_quick_look_misses_nothing(headers: Headers) -> None:
    assert tells_of_quota(headers) or not asked(200, *headers)


@pytest.mark.parametrize("value", [b'"default";r=50;t=30', b"limit=100, remaining=50, reset=30", b"99"])
def test_the_quick_look_is_enough_while_much_is_left(value: bytes) -> None:
    assert not tells_of_quota([(b"ratelimit", value), (b"x-ratelimit-remaining", value), (b"x-ratelimit-reset", b"0")])
