"""When a target is left alone: circuits, and the layer that admits and judges every try.

pybreaker is the state machine, driven synchronously: no I/O ever runs inside it. Around it stand what it
does not do: it tells nobody apart while half-open (here at most `trials` at once), its clock is the wall
clock (here an argument), and it hears late results (here each permit belongs to the state it was given in).
A failure rate over a sliding window opens the circuit as well.
"""

from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Protocol

from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker

from gateway.errors import GatewayError, Shed
from gateway.exchange import Call, Reply
from gateway.pipe import Layer, Send
from gateway.resilience.verdict import Verdict, judge
from gateway.resilience.window import Window

TRIALS_END_SOON = 1.0
"""Seconds to say in Retry-After while the trials run: how they end is known within the time of a try."""

SUCCESS, FAILURE, NEUTRAL = Verdict.SUCCESS, Verdict.FAILURE, Verdict.NEUTRAL


class State(Enum):
    """Of a circuit. The values are pybreaker's names."""

    CLOSED = STATE_CLOSED
    HALF_OPEN = STATE_HALF_OPEN
    OPEN = STATE_OPEN


class Permit(Protocol):
    """The right to one try. Settle it exactly once, whatever happens."""

    def settle(self, verdict: Verdict) -> None:
        """Say how the try went; NEUTRAL when it said nothing about the target, cancellation included."""


class Circuit(Protocol):
    """What the road asks of the breaker of a target."""

    @property
    def state(self) -> State: ...

    def ready(self) -> bool:
        """Whether a try would be admitted now. Changes nothing."""

    def admit(self) -> Permit:
        """The right to one try, or raises Shed."""

    def time_left(self) -> float:
        """Seconds until it is worth asking again; 0 when ready."""


class NoCircuit:
    """For `breaker: off`: admits always and learns nothing."""

    __slots__ = ()
    state = State.CLOSED

    def ready(self) -> bool:
        return True

    def admit(self) -> Permit:
        return self

    def settle(self, verdict: Verdict) -> None:
        """It is its own permit."""

    def time_left(self) -> float:
        return 0.0


ALWAYS = NoCircuit()


class TryFailedError(Exception):
    """What pybreaker is told; never leaves this module."""


def _succeed() -> None:
    """A good try, as pybreaker sees it."""


def _fail() -> None:
    """A bad try, as pybreaker sees it."""
    raise TryFailedError


class Breaker:
    """The circuit of one target, or one that all targets of an upstream share."""

    __slots__ = (
        "_clock",
        "_failing",
        "_machine",
        "_minimum",
        "_on_change",
        "_open_for",
        "_opened",
        "_pass",
        "_rate",
        "_running",
        "_trials",
        "_window",
        "epoch",
        "name",
        "state",
    )

    def __init__(
        self,
        name: str,
        *,
        consecutive_failures: int,
        failure_rate: float,
        window: float,
        minimum_requests: int,
        open_for: float,
        trials: int,
        clock: Callable[[], float],
        on_change: Callable[["Breaker", State, State], None] | None = None,
    ) -> None:
        self.name = name
        self.state = State.CLOSED
        self.epoch = 0  # grows with each change of state; permits of an older one count no more
        self._machine = CircuitBreaker(
            fail_max=consecutive_failures,
            success_threshold=trials,
            throw_new_error_on_trip=False,
            name=name,  # no reset_timeout: that timer is ours, and pybreaker is never called while open
        )
        self._window = Window(window)
        self._rate = failure_rate
        self._minimum = minimum_requests
        self._open_for = open_for
        self._trials = trials
        self._clock = clock
        self._on_change = on_change
        self._opened = 0.0
        self._running = 0  # trials under way
        self._failing = False  # the last verdict was a failure
        self._pass: ClosedPermit | None = ClosedPermit(self)  # all tries of one closed epoch share it

    def __repr__(self) -> str:
        return f"<Breaker {self.name} {self.state.value}>"

    def ready(self) -> bool:
        if self._pass is not None:
            return True
        if self.state is State.OPEN:
            return self._clock() >= self._opened + self._open_for
        return self._running < self._trials

    def admit(self) -> Permit:
        permit = self._pass
        if permit is not None:
            return permit
        if not self.ready():
            raise Shed("circuit_open", 503, retry_after=self.time_left())
        if self.state is State.OPEN:
            self._machine.half_open()
            self._follow()
        self._running += 1
        return TrialPermit(self)

    def time_left(self) -> float:
        if self.ready():
            return 0.0
        if self.state is State.OPEN:
            return self._opened + self._open_for - self._clock()
        return TRIALS_END_SOON

    def succeeded(self) -> None:
        """A try of the closed circuit went well."""
        self._window.count(self._clock())
        if self._failing:  # else there is nothing that pybreaker would forget
            self._failing = False
            self._machine.call(_succeed)

    def failed(self) -> None:
        """A try of the closed circuit failed. Only this can open it; a success never does."""
        now = self._clock()
        self._window.count_marked(now)
        self._failing = True
        self._tell(_fail)
        if self.state is State.CLOSED:
            tries, failures = self._window.totals(now)
            if tries >= self._minimum and failures >= self._rate * tries:
                self._machine.open()
                self._follow()

    def trial_ended(self, verdict: Verdict) -> None:
        """A trial of this half-open epoch is over."""
        self._running -= 1
        if verdict is not NEUTRAL:
            self._tell(_succeed if verdict is SUCCESS else _fail)

    def _tell(self, result: Callable[[], None]) -> None:
        with suppress(TryFailedError):  # pybreaker re-raises what it counted
            self._machine.call(result)
        self._follow()

    def _follow(self) -> None:
        """Take over the state that pybreaker has moved to."""
        old, new = self.state, State(self._machine.current_state)
        if new is old:
            return
        self.state = new
        self.epoch += 1
        self._running = 0
        self._failing = False
        self._pass = None
        if new is State.OPEN:
            self._opened = self._clock()
        elif new is State.CLOSED:
            self._window.clear()
            self._pass = ClosedPermit(self)
        if self._on_change is not None:
            self._on_change(self, old, new)


class ClosedPermit:
    """Shared by all tries of one closed epoch: it holds no place, so there is nothing to give back."""

    __slots__ = ("_breaker", "_epoch")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._epoch = breaker.epoch

    def settle(self, verdict: Verdict) -> None:
        breaker = self._breaker
        if breaker.epoch != self._epoch:
            return
        if verdict is SUCCESS:
            breaker.succeeded()
        elif verdict is FAILURE:
            breaker.failed()


class TrialPermit:
    """One of the few places while half-open; settling it twice gives back one place."""

    __slots__ = ("_breaker", "_epoch", "_settled")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._epoch = breaker.epoch
        self._settled = False

    def settle(self, verdict: Verdict) -> None:
        if self._settled:
            return
        self._settled = True
        if self._breaker.epoch == self._epoch:
            self._breaker.trial_ended(verdict)


def judged() -> Layer:
    """Ask the target's circuit before each try and tell it how the try went."""

    def layer(send: Send) -> Send:
        async def judged_try(call: Call) -> Reply:
            target = call.target
            assert target is not None  # the balancer stands outside
            permit = target.circuit.admit()
            verdict = NEUTRAL  # what a cancelled try leaves behind
            try:
                reply = await send(call)
                verdict = SUCCESS if reply.status < 429 else judge(reply)
                return reply
            except GatewayError as error:
                verdict = judge(error, again=call.tried.count(target) > 1)
                raise
            finally:
                permit.settle(verdict)

        return judged_try

    return layer
