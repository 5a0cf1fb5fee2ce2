"""The breaker against a model: whatever happens in whatever order, both are in the same state."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from gateway.errors import Shed
from gateway.resilience.breaker import Breaker, Permit, State
from gateway.resilience.verdict import Verdict
from tests.fakes import Clock

CONSECUTIVE, RATE, WINDOW, MINIMUM, OPEN_FOR, TRIALS = 4, 0.5, 10.0, 6, 5.0, 2
BUCKET = WINDOW / 10


@dataclass
class Model:
    """The rules, written down as plainly as possible: a list of what was settled, and no cleverness."""

    now: float
    state: State = State.CLOSED
    epoch: int = 0
    in_a_row: int = 0
    settled: list[tuple[int, bool]] = field(default_factory=list)  # (bucket, failed)
    opened: float = 0.0
    running: int = 0
    good_trials: int = 0

    def move(self, state: State) -> None:
        self.state = state
        self.epoch += 1
        self.in_a_row = self.running = self.good_trials = 0
        self.settled = []
        self.opened = self.now

    def admits(self) -> bool:
        match self.state:
            case State.CLOSED:
                return True
            case State.OPEN:
                return self.now >= self.opened + OPEN_FOR
            case State.HALF_OPEN:
                return self.running < TRIALS

    def admit(self) -> int:
        if self.state is State.OPEN:
            self.move(State.HALF_OPEN)
        if self.state is State.HALF_OPEN:
            self.running += 1
        return self.epoch

    def settle(self, epoch: int, verdict: Verdict) -> None:
        if epoch != self.epoch:
            return
        if self.state is State.HALF_OPEN:
            self.running -= 1
            if verdict is Verdict.FAILURE:
                self.move(State.OPEN)
            elif verdict is Verdict.SUCCESS:
                self.good_trials += 1
                if self.good_trials == TRIALS:
                    self.move(State.CLOSED)
        elif self.state is State.CLOSED and verdict is not Verdict.NEUTRAL:
            failed = verdict is Verdict.FAILURE
            bucket = int(self.now // BUCKET)
            self.settled.append((bucket, failed))
            self.in_a_row = self.in_a_row + 1 if failed else 0
            lately = [was_failure for then, was_failure in self.settled if then > bucket - 10]
            too_many = len(lately) >= MINIMUM and sum(lately) >= RATE * len(lately)
            if failed and (self.in_a_row >= CONSECUTIVE or too_many):
                self.move(State.OPEN)


class BreakerMatchesItsModel(RuleBasedStateMachine):
    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.model = Model(self.clock.now)
        self.changes: list[State] = []
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
        )

    def changed(self, breaker: Breaker, old: State, new: State) -> None:
        assert old is (self.changes[-1] if self.changes else State.CLOSED)
        assert new is breaker.state
        self.changes.append(new)

    @rule(seconds=st.sampled_from([0.01, 0.5, 1.0, 4.99, 5.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model.now = self.clock.now

    @precondition(lambda self: self.model.admits())
    @rule(target=permits)
    def admit(self) -> tuple[Permit, int]:
        return self.breaker.admit(), self.model.admit()

    @precondition(lambda self: not self.model.admits())
    @rule()
    def refuse(self) -> None:
        with pytest.raises(Shed) as refusal:
            self.breaker.admit()
        assert 0 < refusal.value.retry_after <= OPEN_FOR

    @rule(held=consumes(permits), verdict=st.sampled_from(Verdict))
    def settle(self, held: tuple[Permit, int], verdict: Verdict) -> None:
        permit, epoch = held
        permit.settle(verdict)
        self.model.settle(epoch, verdict)

    @precondition(lambda self: self.model.admits())
    @rule(verdicts=st.lists(st.sampled_from(Verdict), max_size=8))
    def run(self, verdicts: list[Verdict]) -> None:
        for verdict in verdicts:
            if self.model.admits():
                permit, epoch = self.breaker.admit(), self.model.admit()
                permit.settle(verdict)
                self.model.settle(epoch, verdict)

    @invariant()
    def both_agree(self) -> None:
        assert self.breaker.state is self.model.state
        assert self.breaker.ready() == self.model.admits()
        assert (self.breaker.time_left() == 0) == self.model.admits()
        assert len(self.changes) == self.model.epoch


TestBreakerMatchesItsModel = BreakerMatchesItsModel.TestCase
TestBreakerMatchesItsModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
