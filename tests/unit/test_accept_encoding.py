import time

import pytest

from gateway.transform.accept_encoding import LONGEST, choose

ALL = (b"zstd", b"br", b"gzip")


@pytest.mark.parametrize(
    ("field", "chosen"),
    [
        (b"gzip", b"gzip"),
        (b"GZip", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"gzip, deflate, br, zstd", b"zstd"),
        (b"gzip, br", b"br"),
        (b"gzip;q=1.0, br;q=0.9", b"gzip"),
        (b"gzip;q=0.5", b"gzip"),
        (b"br ; q=0.8,\tgzip;Q=0.9", b"gzip"),
        (b"gzip;q=0.001", b"gzip"),
        (b",, gzip ,", b"gzip"),
        (b"*", b"zstd"),
        (b"*, zstd;q=0", b"br"),
        (b"gzip, *;q=0", b"gzip"),
        (b"gzip;q=0.2, *;q=0.5", b"zstd"),
        (b"identity;q=0, gzip;q=0.1", b"gzip"),
        (b"identity;q=0.5, gzip", b"gzip"),
        (b"gzip, identity", b"gzip"),
    ],
)
def test_the_best_for_the_client_and_among_equals_the_best_for_us(field: bytes, chosen: bytes) -> None:
    assert choose(field, ALL) == chosen


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b",",
        b"deflate, compress",
        b"identity",
        b"gzip;q=0",
        b"gzip;q=0.000",
        b"*;q=0",
        b"identity;q=0",
        b"identity;q=0, *;q=0",
        b"identity, gzip;q=0.5",
        b"gzipped, br2",
    ],
)
def test_a_client_that_does_not_want_any_of_ours_gets_none(field: bytes) -> None:
    assert choose(field, ALL) == b""


@pytest.mark.parametrize(
    "field",
    [
        b"gzip;q=2",
        b"gzip;q=1.001",
        b"gzip;q=0.1234",
        b"gzip;q=-1",
        b"gzip;q=",
        b"gzip;q",
        b"gzip;",
        b"gzip;level=9",
        b"gzip q=1",
        b'"gzip"',
        b"gzip\x00",
        b"\xff\xfe",
        b"gzip;q=x, *;q=0",
    ],
)
def test_a_coding_whose_weight_cannot_be_read_is_not_taken(field: bytes) -> None:
    assert choose(field, (b"gzip",)) == b""


def test_an_unreadable_refusal_is_not_overruled_by_the_star() -> None:
    assert choose(b"gzip;q=0.0000, *", (b"gzip",)) == b""
    assert choose(b"gzip;q=0.0000, *", ALL) == b"zstd"


def test_one_bad_element_does_not_spoil_the_others() -> None:
    assert choose(b"br;q=high, (), gzip;q=0.5", ALL) == b"gzip"


def test_of_a_coding_named_twice_the_worse_counts() -> None:
    assert choose(b"gzip, gzip;q=0", (b"gzip",)) == b""
    assert choose(b"gzip;q=0, x-gzip", (b"gzip",)) == b""


def test_only_what_is_offered_is_chosen() -> None:
    assert choose(b"zstd, br, gzip;q=0.1", (b"gzip",)) == b"gzip"
    assert choose(b"gzip, br, zstd", (b"gzip", b"br")) == b"gzip"


def test_a_field_that_is_too_long_says_nothing_and_costs_nothing() -> None:
    assert choose(b"gzip," + b" " * (LONGEST - 5), ALL) == b"gzip"
    assert choose(b"gzip," + b" " * (LONGEST - 4), ALL) == b""
    started = time.perf_counter()
    assert choose(b"a;q=0.5," * 100_000 + b"gzip", ALL) == b""
    assert time.perf_counter() - started < 0.01


def test_what_is_within_the_length_cannot_be_made_slow() -> None:
    worst = [b"," * LONGEST, b" \t" * (LONGEST // 2), b"a;" * (LONGEST // 2), b"a" + b" " * (LONGEST - 2) + b"b"]
    started = time.perf_counter()
    assert [choose(field, ALL) for field in worst] == [b""] * 4
    assert time.perf_counter() - started < 0.05
