"""What a retry may do: the table. Pure; when and how often is `retry.py`.

A call falls into the first column when its method is idempotent (RFC 9110 section 9.2.2) and the route
retries it, or when the gateway itself sees to it that it is done once (`call.repeatable`); everything else, POST
and PATCH above all, into the second.
"""

from collections.abc import Iterable
from enum import Enum

from gateway.errors import UpstreamFailed
from gateway.exchange import Call, Reply, header
from gateway.resilience.verdict import kind_of, kinds

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})

FINAL = "final"
"""Not a matter of retries at all: nobody withheld one."""


class Case(Enum):
    """The rows: what became of a try."""

    UNSENT = "connect failed, or timed out before anything was sent"
    STALE = "a kept-alive connection was closed before a byte of the reply"
    BROKEN = "timed out, reset or malformed after sending"
    ANSWERED = "a reply with one of the configured statuses"
    ASKED = "429 with a Retry-After"


class May(Enum):
    """The cells."""

    RETRY = "retry"
    STAND = "stand"
    IF_LISTED = "retry when the route lists the method"
    IF_SAFE = "retry with an Idempotency-Key, or when nothing was written"


TABLE = {
    Case.UNSENT: (May.RETRY, May.RETRY),
    Case.STALE: (May.RETRY, May.IF_SAFE),
    Case.BROKEN: (May.RETRY, May.STAND),
    Case.ANSWERED: (May.RETRY, May.IF_LISTED),
    Case.ASKED: (May.RETRY, May.IF_LISTED),
}


class RetryPolicy:
    """How an upstream's calls are retried. `attempts` are tries in all; `base` and `cap` are seconds.

    `on` names kinds of outcomes. Two outcomes need no naming: a stale connection is nobody's failure, and a
    429 that says when to come back is an invitation.
    """

    __slots__ = ("_kinds", "_methods", "attempts", "base", "cap", "replay_limit", "statuses")

    def __init__(
        self, *, attempts: int, on: Iterable[str], methods: Iterable[str], base: float, cap: float, replay_limit: int
    ) -> None:
        self.attempts = attempts
        self.base = base
        self.cap = cap
        self.replay_limit = replay_limit
        self._kinds = kinds(on)
        self._methods = frozenset(methods)
        self.statuses = frozenset({429, *(int(kind) for kind in self._kinds if kind.isdigit())})
        """Replies with any other status stand, without a further look."""

    def stands(self, call: Call, outcome: Reply | BaseException, asked: float | None) -> str:
        """Why `outcome` is not retried: `method` or FINAL; "" when it may be.

        `asked` is what its Retry-After says, in seconds.
        """
        case = self._case(outcome, asked)
        if case is None:
            return FINAL
        method = call.request.method
        listed = method in self._methods
        match TABLE[case][0 if call.repeatable or (listed and method in IDEMPOTENT) else 1]:
            case May.STAND:
                return "method"
            case May.IF_LISTED if not listed:
                return "method"
            case May.IF_SAFE if not _safe(call, outcome):
                return "method"
            case _:
                return ""

    def _case(self, outcome: Reply | BaseException, asked: float | None) -> Case | None:
        listed = kind_of(outcome) in self._kinds
        match outcome:
            case UpstreamFailed(stale=True):
                return Case.STALE
            case UpstreamFailed(sent=False) if listed:
                return Case.UNSENT
            case UpstreamFailed() if listed:
                return Case.BROKEN
            case Reply() if listed:
                return Case.ANSWERED
            case Reply(status=429) if asked is not None:
                return Case.ASKED
            case _:
                return None


def _safe(call: Call, outcome: Reply | BaseException) -> bool:
    """A repetition cannot do the thing twice: nothing was written, or the upstream knows it by its key."""
    unsent = isinstance(outcome, UpstreamFailed) and not outcome.sent
    return unsent or header(call.request.headers, b"idempotency-key") is not None
