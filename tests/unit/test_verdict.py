import asyncio

import pytest

from gateway.errors import ClientGone, DeadlinePassed, GatewayError, Refused, Shed, UpstreamFailed
from gateway.exchange import Reply
from gateway.resilience.verdict import Verdict, judge, kind_of, kinds

SUCCESS, FAILURE, NEUTRAL = Verdict.SUCCESS, Verdict.FAILURE, Verdict.NEUTRAL


@pytest.mark.parametrize(
    ("outcome", "kind", "verdict"),
    [
        (Reply(200, []), "200", SUCCESS),
        (Reply(101, []), "101", SUCCESS),
        (Reply(304, []), "304", SUCCESS),
        (Reply(404, []), "404", SUCCESS),
        (Reply(429, []), "429", NEUTRAL),
        (Reply(500, []), "500", FAILURE),
        (Reply(501, []), "501", NEUTRAL),
        (Reply(502, []), "502", FAILURE),
        (Reply(503, []), "503", FAILURE),
        (Reply(504, []), "504", FAILURE),
        (Reply(505, []), "505", NEUTRAL),
        (Reply(508, []), "508", NEUTRAL),
        (Reply(599, []), "599", FAILURE),
        (UpstreamFailed("upstream_unreachable", sent=False), "connect_failure", FAILURE),
        (UpstreamFailed("upstream_timeout", sent=True), "timeout", FAILURE),
        (UpstreamFailed("upstream_failed", sent=True), "reset", FAILURE),
        (UpstreamFailed("bad_upstream_reply", sent=True), "reset", FAILURE),
        (UpstreamFailed("upstream_failed", sent=True, stale=True), "reset", NEUTRAL),
        (DeadlinePassed(), "deadline_passed", FAILURE),
        (Shed("circuit_open"), "open", NEUTRAL),
        (Shed("overloaded"), "overloaded", NEUTRAL),
        (Shed("upstream_quota"), "quota", NEUTRAL),
        (Shed("no_healthy_target"), "no_healthy_target", NEUTRAL),
        (Refused("forbidden", 403), "forbidden", NEUTRAL),
        (ClientGone(), "client_gone", NEUTRAL),
        (GatewayError(), "internal", NEUTRAL),
        (RuntimeError("a defect of ours"), "internal", NEUTRAL),
        (asyncio.CancelledError(), "cancelled", NEUTRAL),
    ],
    ids=repr,
)
def test_every_outcome_has_one_kind_and_one_verdict(
    outcome: Reply | BaseException, kind: str, verdict: Verdict
) -> None:
    assert (kind_of(outcome), judge(outcome)) == (kind, verdict)


def test_a_stale_connection_is_innocent_only_the_first_time() -> None:
    stale = UpstreamFailed("upstream_failed", sent=True, stale=True)
    assert judge(stale, again=False) is NEUTRAL
    assert judge(stale, again=True) is FAILURE


def test_5xx_stands_for_every_such_status_and_for_a_reply_that_broke_off() -> None:
    covered = kinds(["5xx"])
    assert {"500", "503", "599", "reset"} <= covered
    assert not covered & {"429", "open", "timeout", "connect_failure"}


def test_timeout_covers_the_deadline_of_the_call_too() -> None:
    assert kinds(["timeout", "429"]) == {"timeout", "deadline_passed", "429"}


def test_a_deadline_that_the_caller_has_set_says_nothing_about_the_target() -> None:
    assert judge(DeadlinePassed(), hurried=True) is Verdict.NEUTRAL
    assert judge(UpstreamFailed("upstream_timeout", sent=True), hurried=True) is Verdict.FAILURE
