"""Every way a request can end early: whose fault it was, whether anything was sent, and the status.

An error becomes a response in one place, `reply_to`, as RFC 9457 problem details. What it says is for the
client: no address, no stack, no configuration leaks. Each code is documented in `docs/problems.md`.
"""

import math

import orjson

from gateway.exchange import Headers, Reply

PROBLEMS = "https://resilient-gateway.example/problems/"
"""Base of the `type` URIs: identifiers, which RFC 9457 does not ask to resolve."""

TITLES = {
    "no_route": "No route matches this request",
    "unknown_version": "No such version",
    "version_gone": "This version has ended, or pauses before its end",
    "method_not_allowed": "Method not allowed here",
    "unauthenticated": "Valid credentials are required",
    "forbidden": "Not permitted",
    "identity_unavailable": "Credentials cannot be checked at the moment",
    "rate_limited": "Too many requests",
    "overloaded": "The gateway is overloaded",
    "body_too_large": "The request body is too large",
    "headers_too_large": "The request head is too large",
    "bad_request": "The request is malformed",
    "request_timeout": "The request took too long to arrive",
    "circuit_open": "The service is failing and is given time to recover",
    "no_healthy_target": "No server of the service is well",
    "upstream_quota": "The service's own limit is used up",
    "idempotency_conflict": "This idempotency key is in use",
    "fault": "This failure is a rehearsal",
    "upstream_unreachable": "The service cannot be reached",
    "upstream_failed": "The service broke off before it answered",
    "upstream_timeout": "The service did not answer in time",
    "bad_upstream_reply": "The service gave a malformed answer",
    "deadline_passed": "The time for this request has passed",
    "shutting_down": "The gateway is being stopped",
    "loop_detected": "The request has been through this gateway already",
    "internal": "The gateway failed",
}


class GatewayError(Exception):
    """A request ends here with `status` and the stable, documented `code`."""

    status = 500
    code = "internal"

    def __init__(
        self,
        code: str = "",
        status: int = 0,
        detail: str = "",
        *,
        retry_after: float = 0.0,
        headers: Headers | None = None,
        **members: object,
    ) -> None:
        super().__init__(detail or code)
        self.code = code or self.code
        self.status = status or self.status
        self.detail = detail  # for the client; never anything internal
        self.retry_after = retry_after  # seconds, 0 for "do not say"
        self.headers: Headers = headers if headers is not None else []
        self.members = members  # further members of the problem details: allowed, policy, …


class Refused(GatewayError):
    """The caller's fault: never retried, never judged against an upstream."""


class Shed(GatewayError):
    """We chose not to send: circuit open, nothing healthy, overloaded. Never judged, never retried."""

    status = 503


class UpstreamFailed(GatewayError):
    """A try failed. `sent` tells whether the upstream may have seen the request.

    `stale` marks the one innocent failure: a kept-alive connection that the upstream had closed already.
    """

    status = 502

    def __init__(self, code: str, status: int = 0, detail: str = "", *, sent: bool, stale: bool = False) -> None:
        super().__init__(code, status, detail)
        self.sent = sent
        self.stale = stale


class DeadlinePassed(GatewayError):
    """The total time of the call is used up."""

    status = 504
    code = "deadline_passed"


class ClientGone(GatewayError):
    """The client left. Nobody hears of it but the log, where it is 499, not a failure of ours."""

    status = 499
    code = "client_gone"


def reply_to(error: GatewayError, request_id: str) -> Reply:
    """The problem details for `error` (RFC 9457), with its headers."""
    problem: dict[str, object] = {
        "type": PROBLEMS + error.code,
        "title": TITLES.get(error.code, error.code),
        "status": error.status,
        "code": error.code,
        "instance": request_id,
    }
    if error.detail:
        problem["detail"] = error.detail
    headers: Headers = [(b"content-type", b"application/problem+json"), *error.headers]
    if error.retry_after > 0:
        # Whole seconds, rounded up: a client that comes back a moment early is refused again.
        wait = max(1, math.ceil(error.retry_after))
        problem["retry_after"] = wait
        headers.append((b"retry-after", b"%d" % wait))
    problem.update(error.members)
    return Reply(error.status, headers, orjson.dumps(problem))
