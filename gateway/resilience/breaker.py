"""When a target is left alone: circuits, and the layer that admits and judges every try.

pybreaker is the state machine, driven synchronously: no I/O ever runs inside it. Around it stand what it
does not do: it tells nobody apart while half-open (here at most `trials` at once), its clock is the wall
clock (here an argument), and it hears late results (here each permit belongs to the state it was given in).
Shares of failures and of slow tries over a sliding window open the circuit as well, and operators may hold it open.
"""

from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import NamedTuple, Protocol

from gateway.errors import GatewayError, Shed
from gateway.exchange import NEVER, Call, Reply
from gateway.pipe import Layer, Send
from gateway.resilience.ejection import Ejection
from gateway.resilience.machine import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker
from gateway.resilience.open_time import OpenTime, no_chance
from gateway.resilience.permits import ClosedPermit, TimedPermit, TrialPermit
from gateway.resilience.verdict import Verdict, judge
from gateway.resilience.window import Window

EARLY = 0.5
"""Seconds after which a circuit is tried that cannot be spared. An outage of everything ends for the callers so much
later than for the targets; until then each of them is asked a few times a second, which is no load to speak of."""

TRIALS_END_SOON = 1.0
"""Seconds to say in Retry-After while the trials run: how they end is known within the time of a try."""

SUCCESS, FAILURE, NEUTRAL = Verdict.SUCCESS, Verdict.FAILURE, Verdict.NEUTRAL


class State(Enum):
    """Of a circuit. The values are pybreaker's names."""

    CLOSED = STATE_CLOSED
    HALF_OPEN = STATE_HALF_OPEN
    OPEN = STATE_OPEN


CLOSED, HALF_OPEN, OPEN = State.CLOSED, State.HALF_OPEN, State.OPEN


class SlowCalls(NamedTuple):
    """What opens a circuit whose target does answer, but late."""

    over: float
    """Seconds; a try that takes longer is slow, whatever it brings: a timeout is the slowest of all."""
    rate: float
    """Share of slow tries, from 0 to 1."""


NO_SLOW_CALLS = SlowCalls(over=NEVER, rate=1.0)


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

    def hasten(self) -> None:
        """Too few other targets are left: be ready soon, unless an operator holds it open."""


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

    def hasten(self) -> None:
        """It is always ready."""


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
        "_failures",
        "_machine",
        "_minimum",
        "_on_change",
        "_open_time",
        "_opened",
        "_pass",
        "_rate",
        "_running",
        "_slow",
        "_slow_calls",
        "_slow_trials",
        "_timed",
        "_trials",
        "_until",
        "epoch",
        "held",
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
        open_for_max: float | None = None,
        slow_calls: SlowCalls | None = None,
        dice: Callable[[], float] = no_chance,
    ) -> None:
        self.name = name
        self.state = CLOSED
        self.held = False  # by an operator
        self.epoch = 0  # grows with each change of state and release; permits of an older one count no more
        self._machine = CircuitBreaker(
            fail_max=consecutive_failures,
            success_threshold=trials,
            throw_new_error_on_trip=False,
            name=name,  # no reset_timeout: that timer is ours, and pybreaker is never called while open
        )
        self._failures = Window(window)  # marked are failures
        self._slow = Window(window)  # marked are slow tries; in use only when there are slow_calls
        self._rate = failure_rate
        self._slow_calls = slow_calls or NO_SLOW_CALLS
        self._minimum = minimum_requests
        self._open_time = OpenTime(open_for, open_for_max, dice)
        self._trials = trials
        self._clock = clock
        self._on_change = on_change
        self._opened = 0.0
        self._until = 0.0  # when open: from then on trials are admitted
        self._running = 0  # trials under way
        self._slow_trials = 0  # of this half-open time
        self._failing = False  # the last verdict was a failure
        self._timed = slow_calls is not None
        self._pass = None if self._timed else ClosedPermit(self)  # all tries of one closed epoch share it

    def __repr__(self) -> str:
        return f"<Breaker {self.name} {self.state.value}{', held' if self.held else ''}>"

    def ready(self) -> bool:
        if self._pass is not None or self.state is CLOSED:
            return True
        if self.state is OPEN:
            return self._clock() >= self._until
        return self._running < self._trials

    def hasten(self) -> None:
        """Let trials begin EARLY after it opened: it cannot be spared."""
        if self.state is OPEN and not self.held:
            self._until = min(self._until, self._opened + EARLY)

    def admit(self) -> Permit:
        permit = self._pass
        if permit is not None:
            return permit
        now = self._clock()
        if self.state is CLOSED:
            return TimedPermit(self, now)
        if not self.ready():
            raise Shed("circuit_open", 503, retry_after=self.time_left())
        if self.state is OPEN:
            self._machine.half_open()
            self._follow()
        self._running += 1
        return TrialPermit(self, now)

    def time_left(self) -> float:
        if self.state is OPEN:
            # Nobody knows how long an operator will hold it.
            return self._open_time.first if self.held else max(0.0, self._until - self._clock())
        return 0.0 if self.ready() else TRIALS_END_SOON

    def hold(self) -> None:
        """Keep it open until `release`. Tries under way count no more."""
        self.held = True
        self._until = NEVER
        self._machine.open()
        self._enter(OPEN)

    def release(self) -> None:
        """Close it and forget everything, whether it was held or opened by itself. Tries under way count no more."""
        self.held = False
        self._machine.close()
        self._enter(CLOSED)

    def succeeded(self) -> None:
        """A try of the closed circuit went well."""
        self._failures.count(self._clock())
        if self._failing:  # else there is nothing that pybreaker would forget
            self._failing = False
            self._machine.call(_succeed)

    def failed(self) -> None:
        """A try of the closed circuit failed. Only this, or a slow try, can open it."""
        now = self._clock()
        self._failures.count_marked(now)
        self._failing = True
        self._tell(_fail)
        if self.state is CLOSED:
            self._open_at(self._failures, self._rate, now)

    def timed_try_ended(self, verdict: Verdict, started: float) -> None:
        """A try of the closed circuit ended and told something; what was slow counts besides."""
        now = self._clock()
        slow = now - started > self._slow_calls.over
        if slow:
            self._slow.count_marked(now)
        else:
            self._slow.count(now)
        if verdict is SUCCESS:
            self.succeeded()
        else:
            self.failed()
        if slow and self.state is CLOSED:
            self._open_at(self._slow, self._slow_calls.rate, now)

    def trial_ended(self, verdict: Verdict, started: float) -> None:
        """A trial of this half-open epoch is over."""
        self._running -= 1
        if verdict is NEUTRAL:
            return
        over, rate = self._slow_calls
        self._slow_trials += self._clock() - started > over
        # As many slow trials as would open it again, were they all there is: it is no better than before.
        good = verdict is SUCCESS and self._slow_trials < rate * self._trials
        self._tell(_succeed if good else _fail)

    def _open_at(self, window: Window, share: float, now: float) -> None:
        if window.reaches(share, self._minimum, now):
            self._machine.open()
            self._follow()

    def _tell(self, result: Callable[[], None]) -> None:
        with suppress(TryFailedError):  # pybreaker re-raises what it counted
            self._machine.call(result)
        self._follow()

    def _follow(self) -> None:
        """Take over the state that pybreaker has moved to."""
        new = State(self._machine.current_state)
        if new is not self.state:
            self._enter(new)

    def _enter(self, new: State) -> None:
        old = self.state
        self.state = new
        self.epoch += 1
        self._running = self._slow_trials = 0
        self._failing = False
        self._pass = None
        if new is OPEN and not self.held:
            self._opened = self._clock()
            self._until = self._opened + self._open_time.draw(again=old is HALF_OPEN)
        elif new is CLOSED:
            self._failures.clear()
            self._slow.clear()
            self._pass = None if self._timed else ClosedPermit(self)
        if self._on_change is not None and new is not old:
            self._on_change(self, old, new)


def judged(ejection: Ejection | None = None) -> Layer:
    """Ask the target's circuit before each try, and tell it, and the ejection of outliers, how the try went."""
    heard = None if ejection is None else ejection.heard

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
                verdict = judge(error, again=call.tried.count(target) > 1, hurried=call.hurried)
                raise
            finally:
                permit.settle(verdict)
                if heard is not None:
                    heard(target, verdict)

        return judged_try

    return layer
