"""Each cell of the table in retry_policy.py, as outcomes and methods that a user would meet."""

import asyncio

import pytest

from gateway.errors import ClientGone, DeadlinePassed, Refused, Shed, UpstreamFailed
from gateway.exchange import Headers, Reply
from gateway.resilience.retry_policy import FINAL, RetryPolicy
from tests.fakes import make_call

ON = ["connect_failure", "reset", "timeout", "502", "503", "504"]
METHODS = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]
KEYED: Headers = [(b"idempotency-key", b"8e03978e")]

UNREACHABLE = UpstreamFailed("upstream_unreachable", sent=False)
CONNECT_TIMEOUT = UpstreamFailed("upstream_timeout", sent=False)
STALE = UpstreamFailed("upstream_failed", sent=True, stale=True)
STALE_UNWRITTEN = UpstreamFailed("upstream_failed", sent=False, stale=True)
TIMEOUT = UpstreamFailed("upstream_timeout", sent=True)
RESET = UpstreamFailed("upstream_failed", sent=True)
MALFORMED = UpstreamFailed("bad_upstream_reply", sent=True)


def policy(on: list[str] = ON, methods: list[str] = METHODS) -> RetryPolicy:
    return RetryPolicy(attempts=3, on=on, methods=methods, base=0.05, cap=2.0, replay_limit=65536)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "outcome",
    [UNREACHABLE, CONNECT_TIMEOUT, STALE, STALE_UNWRITTEN, TIMEOUT, RESET, MALFORMED]
    + [Reply(status, []) for status in (502, 503, 504)],
)
def test_an_idempotent_method_may_be_retried_after_every_failure(method: str, outcome: Reply | BaseException) -> None:
    assert policy().stands(make_call(method), outcome, None) == ""


@pytest.mark.parametrize("method", ["POST", "PATCH", "DEPOSIT"])
@pytest.mark.parametrize(
    ("outcome", "bare", "keyed", "listed"),
    [
        (UNREACHABLE, "", "", ""),
        (CONNECT_TIMEOUT, "", "", ""),
        (STALE, "method", "", "method"),
        (STALE_UNWRITTEN, "", "", ""),
        (TIMEOUT, "method", "method", "method"),
        (RESET, "method", "method", "method"),
        (MALFORMED, "method", "method", "method"),
        (Reply(502, []), "method", "method", ""),
        (Reply(503, []), "method", "method", ""),
        (Reply(504, []), "method", "method", ""),
    ],
)
def test_a_method_that_may_do_things_twice_is_retried_only_when_it_did_not_or_the_route_says_so(
    method: str, outcome: Reply | BaseException, bare: str, keyed: str, listed: str
) -> None:
    assert policy().stands(make_call(method), outcome, None) == bare
    assert policy().stands(make_call(method, KEYED), outcome, None) == keyed
    assert policy(methods=[*METHODS, method]).stands(make_call(method), outcome, None) == listed


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("methods", [[], METHODS])
@pytest.mark.parametrize("outcome", [UNREACHABLE, STALE, TIMEOUT, RESET, MALFORMED, Reply(503, [])], ids=repr)
def test_what_the_gateway_itself_repeats_safely_is_retried_like_an_idempotent_method(
    method: str, methods: list[str], outcome: Reply | BaseException
) -> None:
    call = make_call(method)
    call.repeatable = True
    assert policy(methods=methods).stands(call, outcome, None) == ""


@pytest.mark.parametrize("outcome", [Shed("circuit_open"), DeadlinePassed(), ClientGone(), Reply(500, [])], ids=repr)
def test_what_no_retry_can_help_stands_for_them_as_well(outcome: Reply | BaseException) -> None:
    call = make_call("POST")
    call.repeatable = True
    assert policy().stands(call, outcome, None) == FINAL


@pytest.mark.parametrize(
    ("method", "methods", "asked", "answer"),
    [
        ("GET", METHODS, 2.0, ""),
        ("GET", METHODS, None, FINAL),
        ("POST", METHODS, 2.0, "method"),
        ("POST", METHODS, None, FINAL),
        ("POST", [*METHODS, "POST"], 2.0, ""),
        ("POST", [*METHODS, "POST"], None, FINAL),
    ],
)
def test_a_429_is_retried_when_it_says_when(method: str, methods: list[str], asked: float | None, answer: str) -> None:
    assert policy(methods=methods).stands(make_call(method), Reply(429, []), asked) == answer


def test_a_429_that_the_route_lists_is_retried_without_an_invitation() -> None:
    assert policy(on=[*ON, "429"]).stands(make_call(), Reply(429, []), None) == ""


@pytest.mark.parametrize("keyed", [[], KEYED])
@pytest.mark.parametrize(
    "outcome",
    [
        Shed("circuit_open"),
        Shed("overloaded"),
        Refused("forbidden", 403),
        DeadlinePassed(),
        ClientGone(),
        asyncio.CancelledError(),
        RuntimeError(),
        Reply(200, []),
        Reply(404, []),
        Reply(500, []),
    ],
)
def test_what_no_retry_can_help_stands(outcome: Reply | BaseException, keyed: Headers) -> None:
    assert policy().stands(make_call("GET", keyed), outcome, 1.0) == FINAL


def test_only_the_listed_outcomes_are_retried() -> None:
    only_503 = policy(on=["503"])
    for outcome in (UNREACHABLE, TIMEOUT, RESET, Reply(502, [])):
        assert only_503.stands(make_call(), outcome, None) == FINAL
    assert only_503.stands(make_call(), Reply(503, []), None) == ""
    assert only_503.stands(make_call(), STALE, None) == "", "nobody failed, so there is nothing to list"


def test_an_idempotent_method_that_the_route_does_not_list_is_treated_like_a_post() -> None:
    call = make_call("DELETE")
    assert policy(methods=["GET"]).stands(call, RESET, None) == "method"
    assert policy(methods=["GET"]).stands(call, UNREACHABLE, None) == ""


def test_5xx_lists_every_such_status() -> None:
    wide = policy(on=["5xx"])
    assert wide.statuses == {429, *range(500, 600)}
    assert wide.stands(make_call(), Reply(507, []), None) == ""


def test_the_statuses_to_look_at_are_the_listed_ones_and_429() -> None:
    assert policy().statuses == {429, 502, 503, 504}
