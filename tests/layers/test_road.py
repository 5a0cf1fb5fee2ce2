"""All layers of the road together, in their order, around targets that are played."""

import asyncio

import pytest

from gateway.errors import Shed, UpstreamFailed
from gateway.exchange import Call, Reply
from gateway.pipe import Send, pipe
from gateway.resilience.breaker import Breaker, State, judged
from gateway.resilience.budget import RetryBudget
from gateway.resilience.deadline import deadline
from gateway.resilience.fallback import Static, fallback
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
    failing,
    in_turn,
    make_call,
    replying,
    stages,
    to_target,
)

UNREACHABLE = UpstreamFailed("upstream_unreachable", sent=False)
DEGRADED = Static(frozenset({"open"}), 200, body=b"degraded")


class Road:
    """One route to targets that do what they are told."""

    def __init__(self, *sends: Send, covered: bool = False) -> None:
        self.clock = Clock()
        self.sleep = Sleep(self.clock)
        self.circuits = [
            Breaker(
                f"t{n}",
                consecutive_failures=5,
                failure_rate=0.5,
                window=10.0,
                minimum_requests=20,
                open_for=10.0,
                trials=1,
                clock=self.clock,
            )
            for n in range(len(sends))
        ]
        self.targets = [
            FakeTarget(circuit.name, circuit, send) for circuit, send in zip(self.circuits, sends, strict=True)
        ]
        policy = RetryPolicy(
            attempts=3, on=["connect_failure", "503"], methods=["GET"], base=0.1, cap=1.0, replay_limit=1024
        )
        self.send = pipe(
            fallback([DEGRADED], self.clock) if covered else None,
            deadline(10.0, self.clock),
            retry(policy, RetryBudget(0.2), clock=self.clock, dice=Dice(), sleep=self.sleep),
            balance(in_turn(self.targets)),
            judged(),
            to=to_target,
        )


@pytest.mark.parametrize("sick", [failing(UNREACHABLE), replying(503)])
async def test_one_sick_target_of_two_costs_no_request_from_the_very_first(sick: Send) -> None:
    road = Road(sick, replying(200))
    statuses = {(await road.send(make_call())).status for _ in range(100)}
    assert statuses == {200}
    assert road.circuits[0].state is State.OPEN


async def test_a_retry_goes_to_another_target() -> None:
    road, call = Road(failing(UNREACHABLE), replying(200)), make_call()
    await road.send(call)
    assert call.tried == road.targets
    assert stages(call) == [("wait", "connect_failure")]


async def test_every_try_is_judged() -> None:
    road = Road(failing(UNREACHABLE))
    for _ in range(2):
        with pytest.raises((UpstreamFailed, Shed)):
            await road.send(make_call())
    assert road.circuits[0].state is State.OPEN, "five of the six tries were enough"


async def test_an_open_circuit_is_answered_by_the_fallback_without_a_wait() -> None:
    road = Road(failing(UNREACHABLE), covered=True)
    for _ in range(2):
        await asyncio.gather(road.send(make_call()), return_exceptions=True)
    road.sleep.waits.clear()
    reply = await road.send(make_call())
    assert (reply.body, reply.fallback, road.sleep.waits) == (b"degraded", "static", [])


async def test_an_upstream_that_recovers_is_found_out_by_one_trial() -> None:
    script = Script(*[UNREACHABLE] * 5, Reply(200, []), Reply(200, []))
    road = Road(script)
    for _ in range(2):
        with pytest.raises((UpstreamFailed, Shed)):
            await road.send(make_call())
    road.clock.advance(10.0)
    assert [(await road.send(make_call())).status for _ in range(2)] == [200, 200]
    assert road.circuits[0].state is State.CLOSED


async def test_the_deadline_counts_waits_and_tries() -> None:
    road, call = Road(replying(503, [(b"retry-after", b"4")])), make_call()
    assert (await road.send(call)).status == 503
    assert road.sleep.waits == [4.0, 4.0], "a third wait would end after the tenth second"
    assert road.clock() < call.deadline


async def test_a_client_that_leaves_while_a_retry_waits_leaves_nothing_behind() -> None:
    body, entered = Chunks(b"busy"), asyncio.Event()
    road = Road(replying(503, body=body))

    async def for_ever(seconds: float) -> None:
        entered.set()
        await asyncio.Event().wait()

    policy = RetryPolicy(attempts=3, on=["503"], methods=["GET"], base=0.1, cap=1.0, replay_limit=0)
    layer = retry(policy, RetryBudget(0.2), clock=road.clock, sleep=for_ever)
    send, call = pipe(layer, balance(in_turn(road.targets)), judged(), to=to_target), make_call()
    task = asyncio.ensure_future(send(call))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert body.closed
    assert len(call.tried) == 1, "and the cancellation was not taken for a failure to retry"
    assert [(hop.stage, hop.outcome) for hop in call.hops] == [("wait", "abandoned")]


async def test_a_client_that_leaves_during_the_second_try_is_not_retried() -> None:
    entered = asyncio.Event()

    async def endless(call: Call) -> Reply:
        entered.set()
        return await delayed(replying(200), asyncio.Event())(call)

    road, call = Road(Script(UNREACHABLE, endless)), make_call()
    task = asyncio.ensure_future(road.send(call))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(call.tried) == 2
    assert road.circuits[0].state is State.CLOSED


async def test_concurrent_calls_keep_their_retries_apart() -> None:
    async def third_time_lucky(call: Call) -> Reply:
        await asyncio.sleep(0)
        tries = len(call.tried)
        if tries < 3:
            raise UNREACHABLE
        return Reply(200, [(b"x-tries", b"%d" % tries)])

    clock = Clock()
    sleep = Sleep(clock)
    policy = RetryPolicy(attempts=3, on=["connect_failure"], methods=["GET"], base=0.1, cap=1.0, replay_limit=0)
    layer = retry(policy, RetryBudget(0.2), clock=clock, sleep=sleep)
    send = pipe(layer, balance(in_turn([FakeTarget()])), to=third_time_lucky)
    calls = [make_call() for _ in range(50)]
    replies = await asyncio.gather(*(send(call) for call in calls))
    assert {tuple(reply.headers) for reply in replies} == {((b"x-tries", b"3"),)}
    assert {len(call.hops) for call in calls} == {2}
