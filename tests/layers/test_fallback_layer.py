import asyncio

import pytest

from gateway.errors import ClientGone, DeadlinePassed, GatewayError, Refused, Shed, UpstreamFailed
from gateway.pipe import Send
from gateway.resilience.fallback import Static, fallback
from tests.fakes import Chunks, Clock, failing, make_call, replying, stages

DEGRADED = Static(
    frozenset({"open", "timeout", "connect_failure", "5xx"}),
    200,
    ((b"cache-control", b"no-store"),),
    b'{"degraded":true}',
    b"application/json",
)


def covered(send: Send, *entries: Static) -> Send:
    return fallback(entries or [DEGRADED], Clock())(send)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Shed("circuit_open"), "open"),
        (UpstreamFailed("upstream_timeout", sent=True), "timeout"),
        (DeadlinePassed(), "deadline_passed"),
        (UpstreamFailed("upstream_unreachable", sent=False), "connect_failure"),
        (UpstreamFailed("upstream_failed", sent=True), "reset"),
    ],
)
async def test_a_failure_is_answered_from_configuration(error: GatewayError, kind: str) -> None:
    call = make_call()
    reply = await covered(failing(error))(call)
    assert (reply.status, reply.body, reply.fallback) == (200, b'{"degraded":true}', "static")
    assert reply.headers == [
        (b"cache-control", b"no-store"),
        (b"x-gateway-fallback", b"static"),
        (b"content-type", b"application/json"),
    ]
    assert [(hop.stage, hop.name, hop.outcome) for hop in call.hops] == [("fallback", "static", kind)]
    assert call.error is None


async def test_a_bad_reply_is_replaced_and_closed() -> None:
    body, call = Chunks(b"a stack trace"), make_call()
    reply = await covered(replying(500, body=body))(call)
    assert (reply.status, body.closed, call.hops[0].outcome) == (200, True, "500")


@pytest.mark.parametrize("status", [200, 404, 429])
async def test_other_replies_pass_untouched(status: int) -> None:
    body, call = Chunks(b"x"), make_call()
    reply = await covered(replying(status, body=body))(call)
    assert (reply.status, reply.body, body.closed, stages(call)) == (status, body, False, [])


@pytest.mark.parametrize(
    "error", [Refused("forbidden", 403), ClientGone(), asyncio.CancelledError(), Shed("overloaded"), RuntimeError()]
)
async def test_what_is_not_the_upstreams_fault_never_falls_back(error: BaseException) -> None:
    everything = Static(frozenset({"open", "timeout", "connect_failure", "reset", "5xx", "4xx"}), 200)
    with pytest.raises(type(error)):
        await covered(failing(error), everything)(make_call())


async def test_a_failure_that_no_entry_names_stands() -> None:
    with pytest.raises(UpstreamFailed):
        await covered(failing(UpstreamFailed("upstream_failed", sent=True)), Static(frozenset({"open"}), 200))(
            make_call()
        )


async def test_the_first_entry_that_covers_the_outcome_answers() -> None:
    entries = [
        Static(frozenset({"open"}), 201),
        Static(frozenset({"503", "open"}), 202),
        Static(frozenset({"5xx"}), 203),
    ]
    answered = [
        (await covered(send, *entries)(make_call())).status
        for send in (failing(Shed("circuit_open")), replying(503), replying(500))
    ]
    assert answered == [201, 202, 203]


async def test_each_answer_has_headers_of_its_own() -> None:
    send = covered(replying(503))
    first = await send(make_call())
    first.headers.append((b"x-request-id", b"somebody else's"))
    assert (b"x-request-id", b"somebody else's") not in (await send(make_call())).headers
