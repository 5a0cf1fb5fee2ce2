"""Response headers about limits: RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11), X-RateLimit.

Structured fields (RFC 9651): a list with one item per limit, named by a quoted string. `q` is the limit and `w` its
window, `r` what remains now and `t` the seconds until all of it is available again; of a limit that refuses, `t` is
when the request would pass, so that it agrees with Retry-After (section 6 there). The older family, which nobody has
ever specified, tells of one limit only: the one that is nearest to its end.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from gateway.exchange import Quota

QuotaLines = Callable[[Sequence[Quota]], bytes]
"""The field lines for at least one quota, of allowed and refused replies alike, as they go on the wire."""


def quota_lines(quotas: Sequence[Quota]) -> bytes:
    """RateLimit-Policy and RateLimit. Written as lines: half the time of making headers of them first."""
    if len(quotas) == 1:
        _, policy, limit, window, remaining, reset_after, retry_after = quotas[0]
        return b"%b;r=%d;t=%d\r\n" % (_one(policy, limit, window), remaining, math.ceil(retry_after or reset_after))
    names = [_name(quota.policy) for quota in quotas]
    policies = [b"%b;q=%d;w=%d" % (n, q.limit, math.ceil(q.window)) for n, q in zip(names, quotas, strict=True)]
    states = [b"%b;r=%d;t=%d" % (n, q.remaining, _wait(q)) for n, q in zip(names, quotas, strict=True)]
    return b"ratelimit-policy: %b\r\nratelimit: %b\r\n" % (b", ".join(policies), b", ".join(states))


def legacy_lines(quotas: Sequence[Quota]) -> bytes:
    """X-RateLimit-Limit, -Remaining and -Reset, in seconds from now, as RateLimit's `t`."""
    quota = quotas[0] if len(quotas) == 1 else min(quotas, key=_nearness)
    return b"x-ratelimit-limit: %d\r\nx-ratelimit-remaining: %d\r\nx-ratelimit-reset: %d\r\n" % (
        quota.limit,
        quota.remaining,
        _wait(quota),
    )


def both_lines(quotas: Sequence[Quota]) -> bytes:
    """Whatever a client understands."""
    return quota_lines(quotas) + legacy_lines(quotas)


LINES: Mapping[str, QuotaLines] = {"ietf": quota_lines, "legacy": legacy_lines, "both": both_lines}
"""By what `rate_limit_headers` says."""


def _wait(quota: Quota) -> int:
    return math.ceil(quota.retry_after or quota.reset_after)


def _nearness(quota: Quota) -> tuple[bool, float, int, float]:
    """How near a limit is to its end, the nearest first: of those that refuse the one for which Retry-After stands."""
    return quota.allowed, -quota.retry_after, quota.remaining, -quota.reset_after


@lru_cache(1024)
def _one(policy: str, limit: int, window: float) -> bytes:
    """What never changes for a policy that stands alone."""
    name = _name(policy)
    return b"ratelimit-policy: %b;q=%d;w=%d\r\nratelimit: %b" % (name, limit, math.ceil(window), name)


@lru_cache(1024)
def _name(policy: str) -> bytes:
    """A policy's name as a structured-field string: printable ASCII is all it can hold (RFC 9651 section 3.3.3)."""
    printable = "".join(c if c.isascii() and c.isprintable() else "?" for c in policy)
    return b'"%b"' % printable.replace("\\", "\\\\").replace('"', '\\"').encode()
