"""The RateLimit headers."""

import pytest

from gateway.exchange import Quota
from gateway.limits.headers import LINES, both_lines, legacy_lines, quota_lines

STANDARD = Quota(True, "standard", 100, 60.0, 50, 30.0, 0.0)
PER_IP = Quota(False, "per_ip", 50, 1.0, 0, 0.98, 0.02)


def quota_headers(quotas: list[Quota]) -> list[tuple[bytes, bytes]]:
    """The two fields as a client reads them."""
    policy, state, end = quota_lines(quotas).split(b"\r\n")
    assert end == b""
    return [(name, value) for name, _, value in (policy.partition(b": "), state.partition(b": "))]


def test_one_limit() -> None:
    assert quota_headers([STANDARD]) == [
        (b"ratelimit-policy", b'"standard";q=100;w=60'),
        (b"ratelimit", b'"standard";r=50;t=30'),
    ]


def test_several_limits_are_lists_in_the_same_order() -> None:
    assert quota_headers([STANDARD, PER_IP]) == [
        (b"ratelimit-policy", b'"standard";q=100;w=60, "per_ip";q=50;w=1'),
        (b"ratelimit", b'"standard";r=50;t=30, "per_ip";r=0;t=1'),
    ]


@pytest.mark.parametrize(("reset", "t"), [(0.0, b"0"), (0.001, b"1"), (29.2, b"30"), (30.0, b"30")])
def test_seconds_are_rounded_up_so_that_nobody_comes_back_too_early(reset: float, t: bytes) -> None:
    assert quota_headers([STANDARD._replace(reset_after=reset)])[1][1] == b'"standard";r=50;t=' + t
    assert quota_headers([STANDARD._replace(window=0.5)])[0][1] == b'"standard";q=100;w=1'


@pytest.mark.parametrize(
    ("name", "quoted"), [('a"b', rb'"a\"b"'), ("a\\b", rb'"a\\b"'), ("a\r\nb", b'"a??b"'), ("é", b'"?"'), ("", b'""')]
)
def test_a_name_is_always_a_structured_field_string(name: str, quoted: bytes) -> None:
    policy, state = quota_headers([STANDARD._replace(policy=name)])
    assert policy[1] == quoted + b";q=100;w=60"
    assert state[1] == quoted + b";r=50;t=30"


def test_e11_a_refusal_says_the_same_everywhere() -> None:
    refused = Quota(False, "standard", 100, 60.0, 3, 58.2, 1.2)
    retry_after = b"2"  # errors.reply_to rounds up, too
    assert quota_headers([refused])[1][1] == b'"standard";r=3;t=' + retry_after
    assert quota_headers([STANDARD, refused._replace(policy="x")])[1][1] == b'"standard";r=50;t=30, "x";r=3;t=2'
    assert legacy_lines([refused]).endswith(b"x-ratelimit-remaining: 3\r\nx-ratelimit-reset: 2\r\n")


def test_the_older_headers_tell_of_one_limit() -> None:
    assert legacy_lines([STANDARD]) == (
        b"x-ratelimit-limit: 100\r\nx-ratelimit-remaining: 50\r\nx-ratelimit-reset: 30\r\n"
    )


def reset_of(*quotas: Quota) -> bytes:
    return legacy_lines(quotas).rpartition(b": ")[2].strip()


def test_the_older_headers_tell_of_the_limit_that_is_nearest_to_its_end() -> None:
    day = Quota(True, "day", 1000, 86400.0, 20, 80_000.0, 0.0)
    assert reset_of(STANDARD, day) == reset_of(day, STANDARD) == b"80000"
    as_near = day._replace(remaining=50)
    assert reset_of(STANDARD, as_near) == reset_of(as_near, STANDARD) == b"80000"
    # A refusal is the end, whatever remains: of several the one for which Retry-After stands.
    costly = Quota(False, "costly", 100, 60.0, 30, 42.0, 5.0)
    assert reset_of(day, PER_IP, costly) == reset_of(costly, PER_IP, day) == b"5"


def test_what_the_configuration_asks_for_is_written() -> None:
    quotas = [STANDARD, PER_IP]
    assert LINES["ietf"](quotas) == quota_lines(quotas)
    assert LINES["legacy"](quotas) == legacy_lines(quotas)
    assert LINES["both"](quotas) == both_lines(quotas) == quota_lines(quotas) + legacy_lines(quotas)
