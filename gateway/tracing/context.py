"""W3C Trace Context: which trace a client says its request belongs to, and what a try tells its upstream. Pure.

Level 1 (Recommendation, 2021) and what level 2 adds to reading. Whatever is not exactly in its form counts as not said:
the gateway then begins a trace of its own. A try's span has an id that follows from when the try began, so that the
line on the wire and the span that is made of the hop afterwards agree without anybody passing a number along.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.exchange import Fields, header_values

TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"
NAMES = frozenset((TRACEPARENT, TRACESTATE))

FORM = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]([0-9a-f])(-.*)?")
"""Section 3.2.2: version, trace, span, the lower half of the flags. Later versions may go on behind those (3.2.4)."""

SAMPLED = b"13579bdf"
"""The digits of flags whose lowest bit is set."""

STATE_LIMIT = 512
"""Bytes of tracestate that everybody must pass on (section 3.3.1.5); a longer one is left out whole."""

MOST_MEMBERS = 32
"""Section 3.3.1.1."""

MEMBER = re.compile(
    rb"[a-z0-9][a-z0-9_*/-]{0,255}(?:@[a-z0-9][a-z0-9_*/-]{0,13})?"
    rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
"""Sections 3.3.1.3.1 and 3.3.1.3.2."""

SPANS = 2**63
"""The gateway's own span has an id from 1 up to this: whatever is added to it is below 2**64, and never 0."""

RANDOMNESS = 2**56
"""Of a trace id the lowest 56 bits are random for sure (level 2, section 3.2.2.3.1)."""

FIRST_TRY = 4096
"""The ids of other hops' spans come before those of tries; no call has so many hops."""


class Parent(NamedTuple):
    """The span that the request says it is part of."""

    trace_id: str
    span_id: str
    sampled: bool
    state: bytes
    """As received, in one line; b"" for none."""


def parent_of(fields: Fields) -> Parent | None:
    """What the request's fields say; None when they say nothing, or not in the right form."""
    found = FORM.fullmatch(fields.index.get(TRACEPARENT, b""))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if more is not None and version == b"00":
        return None
    if fields.repeated and len(header_values(fields.headers, TRACEPARENT)) > 1:
        return None
    state = state_of(fields) if TRACESTATE in fields.index else b""
    return Parent(trace_id.decode(), span_id.decode(), flags in SAMPLED, state)


def state_of(fields: Fields) -> bytes:
    """tracestate as it goes on: several lines joined, or b"" when it is malformed or too long."""
    joined = b",".join(header_values(fields.headers, TRACESTATE))
    if len(joined) > STATE_LIMIT:
        return b""
    members = [member for each in joined.split(b",") if (member := each.strip(b" \t"))]
    if len(members) > MOST_MEMBERS or not all(MEMBER.fullmatch(member) for member in members):
        return b""
    keys = {member.partition(b"=")[0] for member in members}
    return joined if members and len(keys) == len(members) else b""


def try_span(span: int, started: float) -> int:
    """The id of the span of a try: no two tries of a call begin in the same nanosecond."""
    return span + FIRST_TRY + int(started * 1e9)


def hop_span(span: int, number: int) -> int:
    """The id of the span of another hop."""
    return span + 1 + number


class Context:
    """The trace of one call, and its place there. Implements gateway.exchange.Trace."""

    __slots__ = ("id", "parent", "recorded", "sampled", "span", "state")

    def __init__(self, id: str, span: int, sampled: bool, parent: str = "", state: bytes = b"") -> None:
        self.id = id
        self.span = span  # the id of the gateway's own span of this request
        self.sampled = sampled
        self.recorded = False
        self.parent = parent  # the id of the client's span, 16 hexadecimal digits; "" where the trace begins here
        self.state = state

    def lines(self, started: float) -> bytes:
        """What the upstream is told by the try that began then (monotonic seconds)."""
        line = b"traceparent: 00-%b-%016x-%b\r\n" % (
            self.id.encode(),
            self.span + FIRST_TRY + int(started * 1e9),  # try_span, without the call
            b"01" if self.sampled else b"00",
        )
        return b"%btracestate: %b\r\n" % (line, self.state) if self.state else line
