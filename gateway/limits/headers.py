"""The RateLimit-Policy and RateLimit response headers (draft-ietf-httpapi-ratelimit-headers-10).

Structured fields (RFC 9651): a list with one item per limit, named by a quoted string. `q` is the limit and
`w` its window, `r` what remains now and `t` the seconds until all of it is available again.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

from gateway.exchange import Quota


def quota_lines(quotas: Sequence[Quota]) -> bytes:
    """Both field lines for `quotas`, at least one, of allowed and refused replies alike.

    Written as they go on the wire: half the time of making headers of them first.
    """
    if len(quotas) == 1:
        _, policy, limit, window, remaining, reset_after, _ = quotas[0]
        return b"%b;r=%d;t=%d\r\n" % (_one(policy, limit, window), remaining, math.ceil(reset_after))
    names = [_name(quota.policy) for quota in quotas]
    policies = [b"%b;q=%d;w=%d" % (n, q.limit, math.ceil(q.window)) for n, q in zip(names, quotas, strict=True)]
    states = [b"%b;r=%d;t=%d" % (n, q.remaining, math.ceil(q.reset_after)) for n, q in zip(names, quotas, strict=True)]
    return b"ratelimit-policy: %b\r\nratelimit: %b\r\n" % (b", ".join(policies), b", ".join(states))


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
