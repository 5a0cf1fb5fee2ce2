"""What a reason code means to the operator, and where to look: one or two sentences for each. Pure.

What the client is told is `errors.py`; this is for whoever is woken up by it.
"""

from __future__ import annotations

from collections.abc import Mapping

UPSTREAM_ANSWERED = ""
"""No reason code: the error is the upstream's own."""

SLOW_SHARE = 0.5
"""Of the duration: from here on one of the two, gateway or upstream, is to blame for a slow request."""

EXPLANATIONS = {
    UPSTREAM_ANSWERED: "Upstream {upstream} itself answered {status}; the gateway passed it on after {tries} tries."
    " Look at the log of {target} for the request id.",
    "no_route": "No route fits this host, method and path: a mistyped address, a scanner, or a route that is missing."
    " `gateway explain {method} URL` says why each route does not match.",
    "unknown_version": "The request names a version that route {route} does not have, or none where it has to."
    " `gateway routes` lists the versions.",
    "version_gone": "The version has ended, or pauses before its end, as the configuration of route {route} says."
    " `gateway usage --deprecated` shows who still calls it.",
    "method_not_allowed": "There is a route for this path, but for other methods. If the method should be served, add"
    " it to `match.methods`.",
    "unauthenticated": "Route {route} wants credentials, and there were none or they were refused ({auth}). One caller:"
    " its key or token; all callers at once: the issuer's keys, the clock, or `issuer` and `audience` of the provider.",
    "forbidden": "It is known who calls, but route {route} asks for a scope, role, claim, address or origin that was"
    " not there; `detail` says which.",
    "identity_unavailable": "Credentials cannot be checked: the issuer does not answer, or the store has never told"
    " which keys are revoked. /readyz names it; look at gateway_keyset_age_seconds and gateway_store_up.",
    "rate_limited": "The caller has used up its limit, or its address has sent too many wrong credentials."
    " `gateway usage --route {route}` shows who calls how often; the limit is `rate_limit` of route {route}.",
    "overloaded": "A bound of the gateway was reached (`detail` says which): connections, concurrency, shedding, or a"
    " store that may not be guessed. Look at gateway_concurrency, gateway_loop_lag_seconds and gateway_store_up.",
    "body_too_large": "The body is larger than `body_limit`, or than what can be replayed with an idempotency key."
    " Raise the limit of route {route} if the caller is right.",
    "headers_too_large": "The head of the request is larger than `wire.header_limit` or `wire.target_limit`: often"
    " cookies that grow without end.",
    "bad_request": "What came is not well-formed HTTP, or its path is not safe to forward: a broken client or a"
    " scanner. `detail` says what was wrong.",
    "request_timeout": "The client sent too slowly (`wire.header_timeout`, `body_timeout`, `body_rate`): a bad line,"
    " or a slow-request attack.",
    "circuit_open": "The circuits of all targets of {upstream} are open: their last requests failed, so they get"
    " none until a trial succeeds, or somebody holds them open. `gateway circuits` shows since when; then look at"
    " the service itself.",
    "no_healthy_target": "Health checks or ejection have put all targets of {upstream} out of use, or discovery has"
    " found none. /api/v1/upstreams shows each target and why.",
    "upstream_quota": "The limit that {upstream} itself sets is used up, so it is left alone until it is renewed."
    " gateway_upstream_paused_seconds says how long that takes.",
    "idempotency_conflict": "A key was sent again while its first request was under way, or with another request:"
    " the client's retries or its keys are wrong.",
    "fault": "This is a rehearsal, not a failure: `fault` of route {route}, or `gateway chaos`, which also ends it.",
    "upstream_unreachable": "No connection to {target} could be made: the service is down, the address is wrong, or"
    " a firewall, DNS or TLS stands in between. Nothing was sent.",
    "upstream_failed": "{target} took the request and closed the connection before its answer was complete: a crash,"
    " a restart without draining, or an idle timeout shorter than the gateway's.",
    "upstream_timeout": "{target} did not answer within `timeouts` of {upstream}, after {tries} tries. It is"
    " overloaded, stuck, or needs longer for this than the configuration allows.",
    "bad_upstream_reply": "{target} answered with something that is not well-formed HTTP, or its body broke off. Ask it"
    " directly, without the gateway.",
    "deadline_passed": "`timeouts.total` of {upstream}, or the caller's own deadline, passed after {tries} tries. The"
    " hops show where the time went.",
    "shutting_down": "The gateway was being stopped and the request did not end within `wire.drain_timeout`.",
    "loop_detected": "The request came back to this gateway: a target of route {route} leads to the gateway itself.",
    "internal": "An error in the gateway itself. Its standard error has the traceback, under this request id; please"
    " report it.",
    "client_gone": "The client left before the reply was complete: its own timeout, or a closed window. If there are"
    " many, the route is slower than its clients are patient.",
    "fallback": "The fallback of route {route} ({fallback}) answered in place of {covered}: clients are served, but"
    " the service is not well.",
    "replayed": "A repeated idempotency key: the reply of the first request was given again, as it should be.",
    "redirect": "Route {route} is a redirect: no upstream was asked.",
    "respond": "Route {route} answers by itself (`respond`): no upstream was asked.",
    "preflight": "A browser's CORS preflight, answered by the gateway.",
    "options": "An OPTIONS request to the gateway itself.",
    "https_redirect": "A plain request, sent on to https (`listen.redirect_to_https`).",
}
"""By reason code; what stands in braces is a member of the record."""

COVERED = {
    "connect_failure": "upstream_unreachable",
    "timeout": "upstream_timeout",
    "reset": "upstream_failed",
    "open": "circuit_open",
    "quota": "upstream_quota",
}
"""The reason code that explains what a fallback has covered, which its hop names as the configuration does."""

NOBODY = {"upstream": "the upstream", "target": "the target", "route": "(none)", "auth": "not looked at"}
"""What is said where a member is null."""

OURS = "Most of it was spent in the gateway itself: look at gateway_loop_lag_seconds and the CPU of the workers."
THEIRS = "Most of it was spent waiting for {upstream}, after {tries} tries; the hops show for what."
BOTH = "The hops show where the time went."


def explanation(record: Mapping[str, object]) -> str:
    """Of the record of a request that did not go well."""
    reason = record.get("reason") or UPSTREAM_ANSWERED
    text = EXPLANATIONS.get(str(reason), "`detail` and docs/problems.md say more about {reason}.")
    if reason == "fallback":
        covered = _covered(record)
        why = EXPLANATIONS.get(covered)
        return _filled(f"{text} {why}" if why else text, {**record, "covered": covered})
    return _filled(text, record)


def slowness(record: Mapping[str, object]) -> str:
    """Of the record of a request that took long."""
    took, own = record.get("duration_ms"), record.get("own_ms")
    if not isinstance(took, int | float) or not isinstance(own, int | float) or took <= 0:
        return BOTH
    if own >= took * SLOW_SHARE:
        return OURS
    return _filled(THEIRS, record) if record.get("upstream") else BOTH


def _covered(record: Mapping[str, object]) -> str:
    """Which failure the fallback has covered: a reason code, or a status of the upstream's."""
    hops = record.get("hops")
    found = [hop.get("outcome") for hop in hops if hop.get("stage") == "fallback"] if isinstance(hops, list) else []
    return COVERED.get(str(found[-1]), str(found[-1])) if found else "a failure"


def _filled(text: str, record: Mapping[str, object]) -> str:
    said = {name: NOBODY.get(name, "unknown") if value is None else value for name, value in record.items()}
    if record.get("upstream") is None and record.get("route"):  # it never came to choosing a target
        said["upstream"] = f"the upstream of route {record['route']}"
    return text.format_map(_Members(said)).replace("after 1 tries", "after 1 try")


class _Members(dict[str, object]):
    """A member that is not there is said like one that is null."""

    def __missing__(self, name: str) -> object:
        return NOBODY.get(name, "unknown")
