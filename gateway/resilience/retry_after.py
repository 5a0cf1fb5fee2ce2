"""Retry-After (RFC 9110 section 10.2.3): how long the other side asks to be left alone. Pure."""

from datetime import UTC
from email.utils import parsedate_to_datetime

from gateway.exchange import Reply, header

SPEAKERS = frozenset({429, 503})
"""The statuses with which it is an invitation to come back (RFC 6585 section 4, RFC 9110 section 15.6.4)."""

DIGITS = 9
"""A longer number of seconds is over thirty years: as good as never, and no work for `int`."""


def retry_after(reply: Reply, wall: float) -> float | None:
    """Seconds from `wall` (a Unix time) until `reply` asks to be tried again; None when it does not say."""
    if reply.status not in SPEAKERS:
        return None
    value = header(reply.headers, b"retry-after")
    if value is None:
        return None
    text = value.strip()
    if text.isdigit():
        return float(text) if len(text) <= DIGITS else float("inf")
    try:
        when = parsedate_to_datetime(text.decode("ascii"))
        # A date in "-0000" comes back naive; HTTP dates are in GMT in any case.
        return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - wall)
    except (ValueError, OverflowError):
        return None
