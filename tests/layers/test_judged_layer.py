import asyncio

import pytest

from gateway.errors import Shed, UpstreamFailed
from gateway.exchange import Call, Reply
from gateway.pipe import Send
from gateway.resilience.breaker import ALWAYS, Breaker, NoCircuit, Permit, SlowCalls, State, judged
from gateway.resilience.ejection import Ejection
from gateway.resilience.verdict import Verdict
from gateway.upstream.standing import Standing
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


OUTCOMES = pytest.mark.parametrize(
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


@OUTCOMES
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


def ejection(clock: Clock, failures: int, *targets: FakeTarget) -> tuple[Ejection, list[Standing]]:
    ejection = Ejection(consecutive_failures=failures, duration=30.0, max_share=0.5, clock=clock)
    standings = [Standing() for _ in targets]
    for target, standing in zip(targets, standings, strict=True):
        ejection.watch(target, standing)
    return ejection, standings


@OUTCOMES
async def test_circuit_and_ejection_hear_the_same(send: Send, verdict: Verdict) -> None:
    circuit, call, clock = Diary(), make_call(), Clock()
    target = FakeTarget("a", circuit)
    told, (standing, _) = ejection(clock, 1, target, FakeTarget("b"))
    call.target = target
    call.tried.append(target)
    await asyncio.gather(judged(told)(send)(call), return_exceptions=True)
    assert circuit.verdicts == [verdict]
    assert (not standing.usable(clock())) is (verdict is Verdict.FAILURE)


async def test_targets_without_a_circuit_are_ejected_and_come_back() -> None:
    clock, call = Clock(), make_call()
    bad = FakeTarget("a", ALWAYS, failing(UpstreamFailed("upstream_failed", sent=True)))
    told, (standing, other) = ejection(clock, 3, bad, FakeTarget("b", ALWAYS))
    call.target = bad
    for _ in range(3):
        assert standing.usable(clock())
        await asyncio.gather(judged(told)(bad.send)(call), return_exceptions=True)
    assert (standing.usable(clock()), other.usable(clock())) == (False, True)
    clock.advance(30.0)
    assert standing.usable(clock())


async def test_a_try_that_an_open_circuit_refuses_says_nothing_about_an_outlier() -> None:
    clock, call = Clock(), make_call()
    circuit = breaker(clock)
    circuit.hold()
    target = FakeTarget("a", circuit)
    told, (standing, _) = ejection(clock, 1, target, FakeTarget("b"))
    call.target = target
    with pytest.raises(Shed):
        await judged(told)(explosive())(call)
    assert standing.usable(clock())


async def test_the_time_of_a_try_is_what_counts_as_slow() -> None:
    clock, call = Clock(), make_call()
    circuit = Breaker(
        "a",
        consecutive_failures=9,
        failure_rate=1.0,
        window=10.0,
        minimum_requests=2,
        open_for=5.0,
        trials=1,
        clock=clock,
        slow_calls=SlowCalls(over=2.0, rate=1.0),
    )

    async def late(_: Call) -> Reply:
        clock.advance(2.5)
        return Reply(200, [])

    call.target = FakeTarget("a", circuit)
    clock.advance(60.0)  # between tries, which is nobody's time
    for state in (State.CLOSED, State.OPEN):
        await judged()(late)(call)
        assert circuit.state is state
