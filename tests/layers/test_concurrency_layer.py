"""The place of a call: when it is given, how long it is held, and that it is given back exactly once."""

import asyncio
from contextlib import suppress
from typing import cast

import pytest

from gateway.errors import GatewayError, Shed, UpstreamFailed
from gateway.exchange import Call, Reply
from gateway.limits.adaptive import Gradient, adaptive
from gateway.limits.concurrency import Gate, Gates, limited
from gateway.pipe import Send, pipe
from gateway.resilience.breaker import Breaker, State, judged
from gateway.resilience.budget import RetryBudget
from gateway.resilience.deadline import deadline
from gateway.resilience.retry import RetryPolicy, retry
from gateway.upstream.balance import balance
from tests.fakes import (
    Chunks,
    Clock,
    Dice,
    FakeTarget,
    Script,
    Sleep,
    delayed,
    explosive,
    failing,
    in_turn,
    make_call,
    replying,
    to_target,
)

RESET = UpstreamFailed("upstream_failed", 502, sent=True)


def inside(gate: Gate, send: Send, clock: Clock | None = None) -> Send:
    return limited("orders", lambda call: gate, clock or Clock())(send)


def full(queue: int = 0) -> Gate:
    gate = Gate(1, queue)
    gate.take()
    return gate


def hops(call: Call) -> list[tuple[str, str, str, bool]]:
    return [(hop.stage, hop.name, hop.outcome, hop.waited) for hop in call.hops]


async def test_a_reply_that_is_whole_gives_the_place_back_at_once_and_reports_nothing() -> None:
    gate, call = Gate(1), make_call()
    assert (await inside(gate, replying(200, body=b"ok"))(call)).body == b"ok"
    assert gate.busy == 0
    assert call.hops == []


async def test_the_place_is_held_while_the_call_is_under_way() -> None:
    gate, go = Gate(1), asyncio.Event()
    task = asyncio.ensure_future(inside(gate, delayed(replying(200), go))(make_call()))
    await asyncio.sleep(0)
    assert gate.busy == 1
    go.set()
    await task
    assert gate.busy == 0


@pytest.mark.parametrize("error", [RESET, Shed("circuit_open"), RuntimeError("ours"), asyncio.CancelledError()])
async def test_a_call_that_fails_gives_its_place_back(error: BaseException) -> None:
    gate = Gate(1)
    with pytest.raises(type(error)):
        await inside(gate, failing(error))(make_call())
    assert gate.busy == 0


async def test_a_client_that_leaves_during_the_try_gives_its_place_back() -> None:
    gate = Gate(1)
    task = asyncio.ensure_future(inside(gate, delayed(explosive(), asyncio.Event()))(make_call()))
    await asyncio.sleep(0)
    assert gate.busy == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert gate.busy == 0


async def test_a_streamed_reply_holds_its_place_to_its_end() -> None:
    gate = Gate(1)
    reply = await inside(gate, replying(200, body=Chunks(b"one", b"two", length=6)))(make_call())
    body = reply.body
    assert not isinstance(body, bytes)
    assert (body.length, body.started, body.done, gate.busy) == (6, True, False, 1)
    assert [await body.read(), await body.read()] == [b"one", b"two"]
    assert (body.received, gate.busy) == (6, 1)
    assert await body.read() == b""
    assert (body.done, gate.busy) == (True, 0)
    gate.take()  # somebody else's
    assert await body.read() == b""
    body.close()
    assert gate.busy == 1, "it was given back once, and not again"


async def test_a_body_that_breaks_off_gives_the_place_back() -> None:
    gate = Gate(1)
    body = (await inside(gate, replying(200, body=Chunks(b"one", RESET)))(make_call())).body
    assert not isinstance(body, bytes)
    await body.read()
    with pytest.raises(UpstreamFailed):
        await body.read()
    assert gate.busy == 0
    gate.take()
    body.close()
    assert gate.busy == 1


async def test_a_body_that_nobody_wants_gives_the_place_back_and_is_closed() -> None:
    gate, chunks = Gate(1), Chunks(b"one")
    body = (await inside(gate, replying(200, body=chunks))(make_call())).body
    assert not isinstance(body, bytes)
    body.limit = 10
    assert (chunks.limit, body.limit) == (10, 10)
    body.close()
    body.close()
    assert (chunks.closed, gate.busy) == (True, 0)


class Tube:
    """A tunnel that ends when it is told to."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.told: list[str] = []

    async def run(self, near: asyncio.Transport, held: bytes) -> tuple[int, int]:
        self.told.append(f"run {held!r}")
        await self.end.wait()
        return 3, 4

    def close(self) -> None:
        self.told.append("close")

    def drain(self) -> None:
        self.told.append("drain")


async def tunnelled(gate: Gate) -> tuple[Tube, Reply]:
    tube, reply = Tube(), Reply(101, [])
    reply.tunnel = tube
    return tube, await inside(gate, Script(reply))(make_call())


async def test_a_tunnel_holds_its_place_until_both_ends_are_closed() -> None:
    gate = Gate(1)
    tube, reply = await tunnelled(gate)
    assert reply.tunnel is not None
    run = asyncio.ensure_future(reply.tunnel.run(cast("asyncio.Transport", None), b"x"))
    await asyncio.sleep(0)
    reply.tunnel.drain()
    assert gate.busy == 1
    tube.end.set()
    assert await run == (3, 4)
    assert (gate.busy, tube.told) == (0, ["run b'x'", "drain"])


async def test_a_tunnel_that_is_cut_or_never_joined_gives_its_place_back_once() -> None:
    gate = Gate(1)
    _, reply = await tunnelled(gate)
    assert reply.tunnel is not None
    run = asyncio.ensure_future(reply.tunnel.run(cast("asyncio.Transport", None), b""))
    await asyncio.sleep(0)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert gate.busy == 0
    tube, reply = await tunnelled(gate)
    assert reply.tunnel is not None
    reply.tunnel.close()
    assert (gate.busy, tube.told) == (0, ["close"])
    gate.take()
    reply.tunnel.close()
    assert gate.busy == 1


async def test_what_finds_no_place_is_shed_with_a_retry_after_and_never_sent() -> None:
    gate, call = full(), make_call()
    with pytest.raises(Shed) as shed:
        await inside(gate, explosive())(call)
    assert (shed.value.code, shed.value.status) == ("overloaded", 503)
    assert shed.value.retry_after >= 1
    assert hops(call) == [("concurrency", "orders", "refused", True)]
    assert gate.busy == 1


async def test_what_had_to_wait_says_so_and_for_how_long() -> None:
    gate, call, clock = full(queue=1), make_call(), Clock()
    task = asyncio.ensure_future(inside(gate, replying(200), clock)(call))
    await asyncio.sleep(0)
    clock.advance(0.25)
    gate.leave()
    assert (await task).status == 200
    assert hops(call) == [("concurrency", "orders", "queued", True)]
    assert call.hops[0].took == 0.25
    assert gate.busy == 0


async def test_what_has_no_time_left_is_shed_without_a_wait() -> None:
    gate, call, clock = full(queue=1), make_call(), Clock()
    call.deadline = clock()
    with pytest.raises(Shed):
        await inside(gate, explosive(), clock)(call)
    assert hops(call) == [("concurrency", "orders", "timeout", True)]


async def test_a_client_that_leaves_the_line_says_so_and_frees_its_place_in_it() -> None:
    gate, call = full(queue=1), make_call()
    task = asyncio.ensure_future(inside(gate, explosive())(call))
    await asyncio.sleep(0)
    assert gate.queued == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (gate.queued, gate.busy) == (0, 1)
    assert hops(call) == [("concurrency", "orders", "cancelled", True)]


async def test_callers_with_gates_of_their_own_do_not_stand_in_each_others_way() -> None:
    gates, go = Gates(1), asyncio.Event()
    send = limited("orders", lambda call: gates.of(call.id.encode()), Clock())(delayed(replying(200), go))
    acme, again, zeta = make_call(), make_call(), make_call()
    acme.id = again.id = "acme"
    tasks = [asyncio.ensure_future(send(acme)), asyncio.ensure_future(send(zeta))]
    await asyncio.sleep(0)
    with pytest.raises(Shed):
        await send(again)
    assert len(gates) == 2
    go.set()
    await asyncio.gather(*tasks)
    assert len(gates) == 0


class Road:
    """One upstream with a gate, in the order of assemble.road."""

    def __init__(self, gate: Gate, send: Send, gradient: Gradient | None = None) -> None:
        self.clock = Clock()
        self.circuit = Breaker(
            "a",
            consecutive_failures=2,
            failure_rate=0.5,
            window=10.0,
            minimum_requests=2,
            open_for=10.0,
            trials=1,
            clock=self.clock,
        )
        policy = RetryPolicy(attempts=3, on=["503", "reset"], methods=["GET"], base=0.1, cap=1.0, replay_limit=1024)
        self.sleep = Sleep(self.clock)
        self.send = pipe(
            deadline(10.0, self.clock),
            retry(policy, RetryBudget(0.2), clock=self.clock, dice=Dice(), sleep=self.sleep),
            limited("up", lambda call: gate, self.clock),
            adaptive(gradient, gate, self.clock) if gradient is not None else None,
            balance(in_turn([FakeTarget("a", self.circuit, send)])),
            judged(),
            to=to_target,
        )


async def test_a_refusal_is_neither_retried_nor_judged() -> None:
    gate = full()
    road, call = Road(gate, explosive()), make_call()
    for _ in range(5):
        with pytest.raises(Shed):
            await road.send(call)
    assert (road.sleep.waits, call.tried, road.circuit.state) == ([], [], State.CLOSED)
    assert gate.busy == 1


async def test_between_two_tries_the_place_is_free_and_a_discarded_reply_holds_none() -> None:
    gate = Gate(1)
    seen: list[int] = []

    async def looks(call: Call) -> Reply:
        seen.append(gate.busy)
        return Reply(200, [])

    busy = Chunks(b"busy")
    road = Road(gate, Script(Reply(503, [], busy), looks))
    assert (await road.send(make_call())).status == 200
    assert (busy.closed, seen, gate.busy) == (True, [1], 0)


async def test_an_adaptive_limit_begins_at_its_minimum_and_is_set_on_the_gate() -> None:
    gate, gradient = Gate(100), Gradient(5, 100)
    road = Road(gate, replying(200), gradient)
    assert gate.limit == 5
    for _ in range(60):  # one at a time: nothing says that more would fit
        await road.send(make_call())
    assert (gate.limit, gate.busy) == (5, 0)
    for _ in range(4):
        gate.take()
    for _ in range(60):
        await road.send(make_call())
    assert gate.limit == gradient.limit > 5


@pytest.mark.parametrize(
    ("send", "counted"),
    [
        (failing(RESET), True),
        (replying(503), True),
        (failing(UpstreamFailed("upstream_failed", sent=True, stale=True)), False),
        (failing(Shed("circuit_open")), False),
        (failing(asyncio.CancelledError()), False),
        (replying(500), False),
        (replying(404), False),
    ],
)
async def test_only_what_shows_overload_makes_an_adaptive_limit_smaller(send: Send, counted: bool) -> None:
    gate, gradient, clock = Gate(64), Gradient(1, 64), Clock()
    while gradient.limit < 64:
        clock.advance(0.01)
        gradient.replied(clock() - 0.01, clock(), gradient.limit)
    timed = adaptive(gradient, gate, clock)(send)
    for _ in range(130):
        with suppress(GatewayError, asyncio.CancelledError):
            await timed(make_call())
    assert (gradient.limit < 64, gate.limit < 64) == (counted, counted)
