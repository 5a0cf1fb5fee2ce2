import asyncio

import orjson
import pytest

from gateway.errors import DeadlinePassed
from gateway.exchange import NEVER, Call
from gateway.pipe import Send, pipe
from gateway.resilience.fallback import Static, fallback
from gateway.resilience.fault import Fault, fault
from tests.fakes import Chunks, Clock, Dice, Sleep, explosive, make_call, replying


def told(call: Call) -> list[tuple[str, str, str]]:
    return [(hop.stage, hop.name, hop.outcome) for hop in call.hops]


def the_call(deadline: float = NEVER) -> Call:
    call = make_call()
    call.route = "orders"
    call.deadline = deadline
    return call


class Rehearsal:
    """A fault round a Send, with its clocks, its dice and its sleep."""

    def __init__(self, planned: Fault, send: Send, falls: float = 0.0) -> None:
        self.clock = Clock()
        self.wall = Clock(1_000_000.0)
        self.dice = Dice(falls)
        self.sleep = Sleep(self.clock)
        self.send = fault(planned, clock=self.clock, wall=self.wall, dice=self.dice, sleep=self.sleep)(send)


async def test_an_abort_is_a_failing_reply_that_says_it_was_on_purpose() -> None:
    call = the_call()
    reply = await Rehearsal(Fault(1.0, 503), explosive()).send(call)
    assert reply.status == 503
    assert reply.headers == [(b"content-type", b"application/problem+json")]
    assert isinstance(reply.body, bytes)
    problem = orjson.loads(reply.body)
    assert (problem["status"], problem["code"], problem["instance"]) == (503, "fault", "test-request")
    assert call.added == b"x-gateway-fault: abort\r\n"
    assert told(call) == [("fault", "orders", "abort")]
    assert call.error is None  # the gateway has refused nobody


async def test_a_delay_comes_before_the_real_reply_and_counts_as_waiting() -> None:
    call, rehearsal = the_call(), Rehearsal(Fault(1.0, delay=0.2), replying(200))
    assert (await rehearsal.send(call)).status == 200
    assert rehearsal.sleep.waits == [0.2]
    assert call.added == b"x-gateway-fault: delay\r\n"
    (hop,) = call.hops
    assert (hop.stage, hop.name, hop.outcome, hop.started, hop.waited) == ("fault", "orders", "delay", 1000.0, True)
    assert hop.took == pytest.approx(0.2)


async def test_an_abort_may_come_late() -> None:
    call, rehearsal = the_call(), Rehearsal(Fault(1.0, 500, delay=0.2), explosive())
    assert (await rehearsal.send(call)).status == 500
    assert rehearsal.sleep.waits == [0.2]
    assert told(call) == [("fault", "orders", "delay"), ("fault", "orders", "abort")]
    assert call.added == b"x-gateway-fault: abort\r\n"


@pytest.mark.parametrize(("falls", "status"), [(0.0, 503), (0.0999, 503), (0.1, 200), (0.9, 200)])
async def test_a_share_of_the_requests_is_struck(falls: float, status: int) -> None:
    call = the_call()
    assert (await Rehearsal(Fault(0.1, 503), replying(200), falls).send(call)).status == status
    assert bool(call.added) == bool(call.hops) == (status == 503)


async def test_all_are_struck_by_a_whole_share_and_nobody_by_none() -> None:
    assert (await Rehearsal(Fault(1.0, 503), replying(200), 0.999999).send(the_call())).status == 503
    assert (await Rehearsal(Fault(0.0, 503), replying(200), 0.0).send(the_call())).status == 200


async def test_only_testers_are_struck_where_a_header_is_asked_for() -> None:
    send = Rehearsal(Fault(1.0, 503, header=b"x-chaos"), replying(200)).send
    assert (await send(make_call(headers=[(b"x-chaos", b"")]))).status == 503
    assert (await send(make_call(headers=[(b"x-order", b"1")]))).status == 200


async def test_it_ends_by_itself_when_its_time_is_over() -> None:
    rehearsal = Rehearsal(Fault(1.0, 503, until=1_000_060.0), replying(200))
    assert (await rehearsal.send(the_call())).status == 503
    rehearsal.wall.advance(59.9)
    assert (await rehearsal.send(the_call())).status == 503
    rehearsal.wall.advance(0.1)
    assert (await rehearsal.send(the_call())).status == 200


async def test_a_delay_ends_with_the_calls_deadline() -> None:
    call, rehearsal = the_call(deadline=1000.5), Rehearsal(Fault(1.0, 503, delay=2.0), explosive())
    with pytest.raises(DeadlinePassed):
        await rehearsal.send(call)
    assert rehearsal.sleep.waits == [0.5]
    assert told(call) == [("fault", "orders", "delay")]
    assert call.added  # the 504 tells that it was on purpose


async def test_a_deadline_that_has_passed_is_not_waited_for() -> None:
    rehearsal = Rehearsal(Fault(1.0, delay=2.0), explosive())
    with pytest.raises(DeadlinePassed):
        await rehearsal.send(the_call(deadline=999.0))
    assert rehearsal.sleep.waits == [0.0]


async def test_a_client_that_leaves_ends_the_delay_and_nothing_is_sent() -> None:
    call = the_call()
    send = fault(Fault(1.0, delay=3600.0), clock=Clock(), dice=Dice(0.0))(explosive())
    waiting = asyncio.ensure_future(send(call))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert told(call) == [("fault", "orders", "delay")]


async def test_a_fallback_covers_an_abort_as_it_would_the_real_failure() -> None:
    call, clock = the_call(), Clock()
    layer = fault(Fault(1.0, 503), clock=clock, dice=Dice(0.0))
    reply = await pipe(fallback([Static(frozenset({"5xx"}), 200)], clock), layer, to=explosive())(call)
    assert (reply.status, reply.fallback) == (200, "static")
    assert call.added == b"x-gateway-fault: abort\r\n"
    assert told(call) == [("fault", "orders", "abort"), ("fallback", "static", "503")]


async def test_the_body_of_an_aborted_request_is_left_to_the_wire() -> None:
    body = Chunks(b"one", b"two")
    assert (await Rehearsal(Fault(1.0, 503), explosive()).send(make_call("POST", body=body))).status == 503
    assert (body.received, body.closed) == (0, False)
