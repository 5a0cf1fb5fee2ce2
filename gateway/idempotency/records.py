"""What is known of a request with an idempotency key, what keeps it, and how it is written down. Pure.

A key is taken (in flight) by one request, which holds a random token; then it is answered, with the reply or, where
the reply could not be kept, with a mark. What a store in the network holds may have been written by anybody: it is
decoded with suspicion, and what cannot be understood counts as answered, so that nothing is done twice for it.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import orjson

from gateway.exchange import Headers, Reply

TOKEN = 16
FINGERPRINT = 32
"""Bytes of each; a fingerprint is in hexadecimal."""

FLIGHT, MARK, ANSWER = b"1f", b"1m", b"1a"
"""How a record begins, the version of this form included; then come token, fingerprint, and what is kept."""

HEAD = len(FLIGHT) + TOKEN + FINGERPRINT

NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
"""Of a header field: nothing that would end its line, or begin another."""

FRAMING = frozenset(
    {b"connection", b"content-length", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""The wire's own fields, which no reply carries on its way inside the gateway."""


class State(Enum):
    """What came of taking a key, where it was not answered with a reply."""

    NEW = "new"
    """It is ours now: `finish` or `abandon` must follow."""
    IN_FLIGHT = "in_flight"
    MISMATCH = "mismatch"
    """It belongs to another request, answered or not."""
    NOT_KEPT = "not_kept"
    """It was answered, but the reply cannot be given again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply as it is kept."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def reply(self) -> Reply:
        """A fresh one: stages above may add headers to it."""
        return Reply(self.status, list(self.headers), self.body)

    @property
    def size(self) -> int:
        """Bytes, roughly."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers)


Begun = State | Answer


@dataclass(frozen=True, slots=True)
class Claim:
    """One request's claim to a key."""

    key: bytes
    """A digest: whose it is on which route, and what the client called it."""
    fingerprint: bytes
    """A digest of what makes it the same request."""
    token: bytes
    """Random: tells it apart from any other request with the same key."""


class Records(Protocol):
    """Keeps what is known of each key. Implemented by `memory`, by `redis`, and by `failover` over both."""

    async def begin(self, claim: Claim, lease: float) -> Begun:
        """Take the key if it is free, for at most `lease` seconds; atomic. Raises Shed when that cannot be known."""

    async def finish(self, claim: Claim, answer: Answer | None, keep: float) -> None:
        """Answer the key, for `keep` seconds; None marks a reply that is not kept. Nothing when it is another's now."""

    async def abandon(self, claim: Claim) -> None:
        """Free the key, if it is still ours."""

    async def close(self) -> None:
        """Let go of connections."""


def in_flight(claim: Claim) -> bytes:
    """The record of a key that is taken."""
    return FLIGHT + claim.token + claim.fingerprint


def answered(claim: Claim, answer: Answer | None) -> bytes:
    """The record of a key that is answered."""
    if answer is None:
        return MARK + claim.token + claim.fingerprint
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
    # JSON of orjson is one line.
    return b"%b%b%b%b\n%b" % (
        ANSWER,
        claim.token,
        claim.fingerprint,
        orjson.dumps([answer.status, fields]),
        answer.body,
    )


def read(record: bytes, fingerprint: bytes) -> Begun:
    """What a record says to a request with this fingerprint."""
    kind = record[: len(FLIGHT)]
    if len(record) < HEAD or kind not in (FLIGHT, MARK, ANSWER):
        return State.NOT_KEPT
    if record[HEAD - FINGERPRINT : HEAD] != fingerprint:
        return State.MISMATCH
    if kind == FLIGHT:
        return State.IN_FLIGHT
    found = _answer(record[HEAD:]) if kind == ANSWER else None
    return State.NOT_KEPT if found is None else found


def _answer(kept: bytes) -> Answer | None:
    head, _, body = kept.partition(b"\n")
    try:
        status, fields = orjson.loads(head)
        headers: Headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    except (ValueError, TypeError, AttributeError):  # JSON and Latin-1 both fail with a ValueError
        return None
    sound = all(NAME.fullmatch(name) and VALUE.fullmatch(value) and name not in FRAMING for name, value in headers)
    if type(status) is not int or not 200 <= status < 500 or not sound:
        return None
    return Answer(status, tuple(headers), body)
