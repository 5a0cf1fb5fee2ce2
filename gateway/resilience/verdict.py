"""The one classifier of outcomes: what kind of outcome a try had, and what it says about its target.

Retries, circuits and fallbacks all speak in these kinds: `connect_failure`, `reset`, `timeout`, a reply's
status as text, `open` for a circuit that refused, `quota` for the upstream's own limit, else the error's own code.
"""

from collections.abc import Iterable
from enum import Enum

from gateway.errors import GatewayError, UpstreamFailed
from gateway.exchange import Reply


class Verdict(Enum):
    """What an outcome says about the target's health."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"
    """Nothing: our own refusal, a client that left, or the target protecting itself."""


KINDS = {
    "upstream_unreachable": "connect_failure",
    "upstream_timeout": "timeout",
    "upstream_failed": "reset",
    "bad_upstream_reply": "reset",
    "circuit_open": "open",
    "upstream_quota": "quota",
    "no_healthy_target": "no_healthy_target",
}
"""Error codes to the kinds that configuration names; other codes (`overloaded`) are kinds of their own."""

WIDER = {
    # A malformed or broken-off reply has no status of its own; the client would see a 5xx.
    "5xx": frozenset({"reset", *map(str, range(500, 600))}),
    # To the client both are a 504: one limit was for a try, the other for all of them.
    "timeout": frozenset({"timeout", "deadline_passed"}),
}
"""Names in configuration that stand for several kinds."""

BY_STATUS = dict.fromkeys(range(500, 600), Verdict.FAILURE) | {
    # 500 counts, as in Envoy's outlier detection, Kong and Istio: an instance that lost its database says 500.
    429: Verdict.NEUTRAL,  # it is well and says when to come back
    501: Verdict.NEUTRAL,  # 501 and 505 speak about the request, so callers could choose them to open a circuit
    505: Verdict.NEUTRAL,
    508: Verdict.NEUTRAL,  # the request has come back to us: an open circuit would only hide what is wrong
}
"""Statuses that are no success."""

BY_KIND = {
    "connect_failure": Verdict.FAILURE,
    "timeout": Verdict.FAILURE,
    "reset": Verdict.FAILURE,
    # Raised inside a try: the target had the rest of the call's time and did not answer in it.
    "deadline_passed": Verdict.FAILURE,
}
"""Errors that speak against the target; every other error is neutral."""


def kind_of(outcome: Reply | BaseException) -> str:
    """The name of this outcome in configuration, hops and metrics."""
    match outcome:
        case Reply():
            return str(outcome.status)
        case UpstreamFailed():
            return KINDS.get(outcome.code, "reset")
        case GatewayError():
            return KINDS.get(outcome.code, outcome.code)
        case Exception():
            return "internal"
        case _:
            return "cancelled"


def kinds(on: Iterable[str]) -> frozenset[str]:
    """The kinds that the configured names stand for: `5xx` is every such status, and `reset`."""
    return frozenset(kind for name in on for kind in WIDER.get(name, frozenset({name})))


def judge(outcome: Reply | BaseException, *, again: bool = False, hurried: bool = False) -> Verdict:
    """What `outcome` says about the target.

    A kept-alive connection that the upstream had closed already is innocent, unless the target was tried
    before in the same call (`again`): twice is no coincidence. A deadline that the caller has set (`hurried`) speaks
    about the caller: else who asks for one millisecond could open circuits.
    """
    if isinstance(outcome, Reply):
        return BY_STATUS.get(outcome.status, Verdict.SUCCESS)
    if isinstance(outcome, UpstreamFailed) and outcome.stale and not again:
        return Verdict.NEUTRAL
    kind = kind_of(outcome)
    return Verdict.NEUTRAL if hurried and kind == "deadline_passed" else BY_KIND.get(kind, Verdict.NEUTRAL)
