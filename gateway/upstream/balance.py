"""Which target takes the next try: the ways of balancing by name, and the layer that gives every try its target.

Who may take it at all is decided first (`members.py`), then one of these is chosen (`choices.py`, `peak_ewma.py`,
`consistent_hash.py`). What is learned from tries is written at the member by what stands round them here. Pure.
"""

from collections.abc import Awaitable, Callable, Sequence

from gateway.exchange import Call, Reply, Target
from gateway.pipe import Layer, Send
from gateway.upstream.choices import Choose, in_turn, least_requests, two_choices
from gateway.upstream.consistent_hash import ConsistentHash
from gateway.upstream.members import Member, Members
from gateway.upstream.peak_ewma import peak_ewma, timed
from gateway.upstream.silence import Try, listened

HOLD = 10.0
"""Seconds for which a silent target is left alone where no breaker says how long: its `open_for` unless set."""


class Picker:
    """Chooses among the targets of one upstream."""

    __slots__ = ("_choose", "elsewhere", "members", "replace", "watch")

    def __init__(self, members: Members, choose: Choose, watch: Callable[[Send], Try]) -> None:
        self._choose = choose
        self.members = members
        self.watch = watch  # makes of a Send a Try that learns
        self.elsewhere: Callable[[Call], bool] = members.elsewhere
        self.replace: Callable[[Sequence[Member]], None] = members.replace

    def pick(self, call: Call) -> Target:
        """The target for the next try of this call. Raises Shed when there is none."""
        only = self.members.only
        if only is not None:
            if only.circuit.ready():
                return only.target
            raise self.members.all_open([only])
        fit = self.members.eligible(call)
        return fit[0].target if len(fit) == 1 else self._choose(fit, call).target


def picker(
    kind: str,
    members: Sequence[Member],
    *,
    clock: Callable[[], float],
    dice: Callable[[], float],
    key_of: Callable[[Call], bytes] | None = None,
    hold: float = HOLD,
    panic: float = 0.0,
    slow_start: float = 0.0,
) -> Picker:
    """Balancing of `kind`: round_robin, least_requests, random, peak_ewma, or hash, which needs `key_of`.

    `dice` gives numbers from 0 to 1, `panic` is a share, times are seconds; `hold` is the breaker's open_for.
    """
    those = Members(members, clock=clock, dice=dice, hold=hold, panic=panic, slow_start=slow_start)

    def watch(send: Send) -> Try:
        return listened(send, clock)

    match kind:
        case "round_robin":
            return Picker(those, in_turn, watch)
        case "least_requests":
            return Picker(those, least_requests, watch)
        case "random":
            return Picker(those, two_choices(dice), watch)
        case "peak_ewma":
            return Picker(those, peak_ewma(clock, dice), lambda send: timed(listened(send, clock), clock))
        case "hash" if key_of is not None:
            return Picker(those, ConsistentHash(those, key_of), watch)
    raise ValueError(f"no way of balancing: {kind}")


def balance(picker: Picker) -> Layer:
    """Give every try its target. Nothing is learned where there is no other target to go to."""
    pick, members = picker.pick, picker.members

    def layer(send: Send) -> Send:
        watched = picker.watch(send)

        # Not async itself: a coroutine that only awaits another costs 0.2 µs for nothing.
        def balanced(call: Call) -> Awaitable[Reply]:
            target = pick(call)
            call.target = target
            call.tried.append(target)
            if members.alone:
                return send(call)
            return watched(call, members.seats[target])

        return balanced

    return layer
