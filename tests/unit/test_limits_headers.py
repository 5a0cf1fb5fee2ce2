"""The RateLimit headers."""

import pytest

from gateway.exchange import Quota
from gateway.limits.headers import quota_lines

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
