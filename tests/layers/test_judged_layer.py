import asyncio

import pytest

from gateway.errors import Shed, UpstreamFailed
from gateway.exchange import Reply
from gateway.pipe import Send
from gateway.resilience.breaker import Breaker, NoCircuit, Permit, State, judged
from gateway.resilience.verdict import Verdict
from tests.fakes import Clock, FakeTarget, delayed, explosive, failing, make_call, replying


class Diary(NoCircuit):
    """A circuit that writes down what it is told."""

    __slots__ = ("verdicts",)

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def admit(self) -> Permit:
        return self

    def settle(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)


@pytest.mark.parametrize(
    ("send", "verdict"),
    [
        (replying(200), Verdict.SUCCESS),
        (replying(404), Verdict.SUCCESS),
        (replying(429), Verdict.NEUTRAL),
        (replying(503), Verdict.FAILURE),
        (failing(UpstreamFailed("upstream_timeout", sent=True)), Verdict.FAILURE),
        (failing(UpstreamFailed("upstream_failed", sent=True, stale=True)), Verdict.NEUTRAL),
        (failing(Shed("overloaded")), Verdict.NEUTRAL),
        (failing(RuntimeError("a defect of ours")), Verdict.NEUTRAL),
        (failing(asyncio.CancelledError()), Verdict.NEUTRAL),
    ],
)
async def test_every_try_is_settled_exactly_once(send: Send, verdict: Verdict) -> None:
    circuit, call = Diary(), make_call()
    call.target = FakeTarget("a", circuit)
    call.tried.append(call.target)
    await asyncio.gather(judged()(send)(call), return_exceptions=True)
    assert circuit.verdicts == [verdict]


async def test_a_second_stale_connection_to_the_same_target_counts_against_it() -> None:
    circuit, call = Diary(), make_call()
    call.target = FakeTarget("a", circuit)
    call.tried += [call.target, FakeTarget("b"), call.target]
    with pytest.raises(UpstreamFailed):
        await judged()(failing(UpstreamFailed("upstream_failed", sent=True, stale=True)))(call)
    assert circuit.verdicts == [Verdict.FAILURE]


def breaker(clock: Clock) -> Breaker:
    return Breaker(
        "a",
        consecutive_failures=1,
        failure_rate=1.0,
        window=10.0,
        minimum_requests=100,
        open_for=5.0,
        trials=1,
        clock=clock,
    )


async def test_nothing_is_sent_while_the_circuit_is_open() -> None:
    call = make_call()
    call.target = FakeTarget("a", breaker(Clock()))
    with pytest.raises(UpstreamFailed):
        await judged()(failing(UpstreamFailed("upstream_failed", sent=True)))(call)
    with pytest.raises(Shed):
        await judged()(explosive())(call)


async def test_a_client_that_leaves_during_a_trial_gives_the_place_back() -> None:
    clock, gate = Clock(), asyncio.Event()
    circuit = breaker(clock)
    circuit.admit().settle(Verdict.FAILURE)
    clock.advance(5.0)
    call = make_call()
    call.target = FakeTarget("a", circuit)
    trial = asyncio.ensure_future(judged()(delayed(replying(200), gate))(call))
    await asyncio.sleep(0)
    assert (circuit.state, circuit.ready()) == (State.HALF_OPEN, False)
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)
    assert (circuit.state, circuit.ready()) == (State.HALF_OPEN, True)
    reply: Reply = await judged()(replying(200))(call)
    assert (reply.status, circuit.state) == (200, State.CLOSED)
