"""The RateLimit-Policy and RateLimit response headers (draft-ietf-httpapi-ratelimit-headers-10).

Structured fields (RFC 9651): a list with one item per limit, named by a quoted string. `q` is the limit and
`w` its window, `r` what remains now and `t` the seconds until all of it is available again.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

from gateway.exchange import Headers, Quota


def quota_headers(quotas: Sequence[Quota]) -> Headers:
    """Both headers for `quotas`, or none: for allowed and refused replies alike."""
    if not quotas:
        return []
    if len(quotas) == 1:
        quota = quotas[0]
        name, policy = _static(quota.policy, quota.limit, quota.window)
        state = b"%b;r=%d;t=%d" % (name, quota.remaining, math.ceil(quota.reset_after))
        return [(b"ratelimit-policy", policy), (b"ratelimit", state)]
    static = [_static(quota.policy, quota.limit, quota.window) for quota in quotas]
    states = [
        b"%b;r=%d;t=%d" % (name, quota.remaining, math.ceil(quota.reset_after))
        for (name, _), quota in zip(static, quotas, strict=True)
    ]
    return [
        (b"ratelimit-policy", b", ".join(policy for _, policy in static)),
        (b"ratelimit", b", ".join(states)),
    ]


@lru_cache(1024)
def _static(policy: str, limit: int, window: float) -> tuple[bytes, bytes]:
    """What never changes for a policy: its name as a structured-field string, and its RateLimit-Policy item."""
    # Printable ASCII is all such a string can hold (RFC 9651 section 3.3.3).
    printable = "".join(c if c.isascii() and c.isprintable() else "?" for c in policy)
    name = b'"%b"' % printable.replace("\\", "\\\\").replace('"', '\\"').encode()
    return name, b"%b;q=%d;w=%d" % (name, limit, math.ceil(window))
