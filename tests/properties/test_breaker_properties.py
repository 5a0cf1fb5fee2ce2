"""The breaker against a model: whatever happens in whatever order, both are in the same state."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from gateway.errors import Shed
from gateway.resilience.breaker import TRIALS_END_SOON, Breaker, Permit, SlowCalls, State
from gateway.resilience.verdict import Verdict
from tests.fakes import Clock

CONSECUTIVE, RATE, WINDOW, MINIMUM, TRIALS = 4, 0.5, 10.0, 6, 2
OPEN_FOR, OPEN_FOR_MAX = 5.0, 16.0
SLOW = SlowCalls(over=2.0, rate=0.5)
BUCKET = WINDOW / 10


@dataclass
class Try:
    """As the model remembers it."""

    epoch: int
    began: float


@dataclass
class Model:
    """The rules, written down as plainly as possible: a list of what was settled, and no cleverness."""

    now: float
    slow_calls: SlowCalls | None
    open_for_max: float | None
    state: State = State.CLOSED
    held: bool = False
    epoch: int = 0
    in_a_row: int = 0
    settled: list[tuple[int, bool, bool]] = field(default_factory=list)  # (bucket, failed, slow)
    opened: float = 0.0
    failed_rounds: int = 0  # of trials, since it was closed last
    running: int = 0
    trials: list[bool] = field(default_factory=list)  # good ones: slow?

    def move(self, state: State) -> None:
        if state is State.CLOSED:
            self.failed_rounds = 0
        self.state = state
        self.epoch += 1
        self.in_a_row = self.running = 0
        self.settled, self.trials = [], []
        self.opened = self.now

    def open_for(self) -> float:
        if self.open_for_max is None:
            return OPEN_FOR
        grown: float = OPEN_FOR * 2**self.failed_rounds
        return min(grown, self.open_for_max)

    def admits(self) -> bool:
        match self.state:
            case State.CLOSED:
                return True
            case State.OPEN:
                return not self.held and self.now >= self.opened + self.open_for()
            case State.HALF_OPEN:
                return self.running < TRIALS

    def time_left(self) -> float:
        if self.admits():
            return 0.0
        if self.held:
            return OPEN_FOR
        return self.opened + self.open_for() - self.now if self.state is State.OPEN else TRIALS_END_SOON

    def admit(self) -> Try:
        if self.state is State.OPEN:
            self.move(State.HALF_OPEN)
        if self.state is State.HALF_OPEN:
            self.running += 1
        return Try(self.epoch, self.now)

    def settle(self, ended: Try, verdict: Verdict) -> None:
        if ended.epoch != self.epoch:
            return
        slow = self.slow_calls is not None and self.now - ended.began > self.slow_calls.over
        if self.state is State.HALF_OPEN:
            self.running -= 1
            if verdict is not Verdict.NEUTRAL:
                self.trial(verdict is Verdict.FAILURE, slow)
        elif verdict is not Verdict.NEUTRAL:
            self.count(verdict is Verdict.FAILURE, slow)

    def trial(self, failed: bool, slow: bool) -> None:
        self.trials.append(slow)
        if failed or (self.slow_calls and sum(self.trials) >= self.slow_calls.rate * TRIALS):
            self.failed_rounds += 1
            self.move(State.OPEN)
        elif len(self.trials) == TRIALS:
            self.move(State.CLOSED)

    def count(self, failed: bool, slow: bool) -> None:
        bucket = int(self.now // BUCKET)
        self.settled.append((bucket, failed, slow))
        self.in_a_row = self.in_a_row + 1 if failed else 0
        lately = [each for each in self.settled if each[0] > bucket - 10]
        failures, slow_ones = sum(each[1] for each in lately), sum(each[2] for each in lately)
        enough = len(lately) >= MINIMUM
        opens = failed and (self.in_a_row >= CONSECUTIVE or (enough and failures >= RATE * len(lately)))
        if self.slow_calls is not None:
            opens = opens or (slow and enough and slow_ones >= self.slow_calls.rate * len(lately))
        if opens:
            self.move(State.OPEN)

    def hold(self) -> None:
        if not self.held and self.state is not State.OPEN:
            self.move(State.OPEN)
        self.held = True

    def release(self) -> None:
        self.held = False
        self.move(State.CLOSED)


class BreakerMatchesItsModel(RuleBasedStateMachine):
    slow_calls: SlowCalls | None = None
    open_for_max: float | None = None

    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.model = Model(self.clock.now, self.slow_calls, self.open_for_max)
        self.last = State.CLOSED
        self.breaker = Breaker(
            "a",
            consecutive_failures=CONSECUTIVE,
            failure_rate=RATE,
            window=WINDOW,
            minimum_requests=MINIMUM,
            open_for=OPEN_FOR,
            trials=TRIALS,
            clock=self.clock,
            on_change=self.changed,
            open_for_max=self.open_for_max,
            slow_calls=self.slow_calls,
        )

    def changed(self, breaker: Breaker, old: State, new: State) -> None:
        assert old is self.last is not new
        assert new is breaker.state
        self.last = new

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model.now = self.clock.now

    def end(self, held: tuple[Permit, Try], verdict: Verdict) -> None:
        permit, known = held
        permit.settle(verdict)
        self.model.settle(known, verdict)

    @rule(seconds=st.sampled_from([0.01, 0.5, 1.0, 2.0, 2.01, 4.99, 5.0, 11.0, 16.0]))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)

    @precondition(lambda self: self.breaker.state is State.OPEN and not self.breaker.held)
    @rule()
    def its_open_time_passes(self) -> None:
        self.pass_time(self.model.time_left())

    @precondition(lambda self: self.model.admits())
    @rule(target=permits)
    def admit(self) -> tuple[Permit, Try]:
        return self.breaker.admit(), self.model.admit()

    @precondition(lambda self: not self.model.admits())
    @rule()
    def refuse(self) -> None:
        with pytest.raises(Shed) as refusal:
            self.breaker.admit()
        assert refusal.value.retry_after == self.model.time_left() > 0

    @rule(held=consumes(permits), verdict=st.sampled_from(Verdict))
    def settle(self, held: tuple[Permit, Try], verdict: Verdict) -> None:
        self.end(held, verdict)

    @precondition(lambda self: self.model.admits())
    @rule(verdicts=st.lists(st.sampled_from(Verdict), max_size=8), took=st.sampled_from([0.0, 0.01, 2.01]))
    def run(self, verdicts: list[Verdict], took: float) -> None:
        for verdict in verdicts:
            if self.model.admits():
                held = self.breaker.admit(), self.model.admit()
                self.pass_time(took)
                self.end(held, verdict)

    @precondition(lambda self: self.model.admits())
    @rule(verdict=st.sampled_from(Verdict), tries=st.integers(1, 8), took=st.sampled_from([0.5, 2.01]))
    def run_at_once(self, verdict: Verdict, tries: int, took: float) -> None:
        held = [(self.breaker.admit(), self.model.admit()) for _ in range(tries) if self.model.admits()]
        self.pass_time(took)
        for each in held:
            self.end(each, verdict)

    @rule()
    def hold(self) -> None:
        self.breaker.hold()
        self.model.hold()

    @rule()
    def release(self) -> None:
        self.breaker.release()
        self.model.release()

    @invariant()
    def both_agree(self) -> None:
        assert self.breaker.state is self.model.state is self.last
        assert self.breaker.held == self.model.held
        assert self.breaker.ready() == self.model.admits()
        assert self.breaker.time_left() == self.model.time_left()


class TimedBreakerMatchesItsModel(BreakerMatchesItsModel):
    slow_calls = SLOW
    open_for_max = OPEN_FOR_MAX


TestBreakerMatchesItsModel = BreakerMatchesItsModel.TestCase
TestTimedBreakerMatchesItsModel = TimedBreakerMatchesItsModel.TestCase
for case in (TestBreakerMatchesItsModel, TestTimedBreakerMatchesItsModel):
    case.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
