"""Which target takes the next try: smooth weighted round robin.

Every pick each eligible target gains its weight, the richest one is picked and pays the sum of all that
gained (the algorithm is nginx's): weights 5, 1, 1 give a a b a c a a, spread out instead of in bursts.
Eligible are targets whose circuit would admit a try, preferably ones this call has not tried yet. Pure.
"""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from gateway.errors import Shed
from gateway.exchange import Call, Reply, Target
from gateway.pipe import Layer, Send


class Picker(Protocol):
    """A way to choose among the targets of one upstream."""

    def pick(self, tried: Sequence[Target]) -> Target:
        """The target for the next try of a call that has tried `tried`. Raises Shed if none would admit it."""


class Seat:
    """One target's turn in the round."""

    __slots__ = ("circuit", "credit", "target", "weight")

    def __init__(self, target: Target, weight: int) -> None:
        self.target = target
        self.circuit = target.circuit
        self.weight = weight
        self.credit = 0


class RoundRobin:
    """Smooth weighted round robin over `targets`; equal weights when none are given."""

    __slots__ = ("_only", "_seats")

    def __init__(self, targets: Sequence[Target], weights: Sequence[int] = ()) -> None:
        if not targets:
            raise ValueError("an upstream needs a target")
        pairs = zip(targets, weights or [1] * len(targets), strict=True)
        self._seats = [Seat(target, weight) for target, weight in pairs]
        self._only = self._seats[0] if len(self._seats) == 1 else None

    def pick(self, tried: Sequence[Target]) -> Target:
        only = self._only
        if only is not None:
            if only.circuit.ready():
                return only.target
            raise self._all_open()
        seats = [seat for seat in self._seats if seat.circuit.ready()]
        if not seats:
            raise self._all_open()
        if tried:
            seats = [seat for seat in seats if seat.target not in tried] or seats
        best = seats[0]
        paid = 0
        for seat in seats:
            paid += seat.weight
            seat.credit += seat.weight
            if seat.credit > best.credit:
                best = seat
        best.credit -= paid
        return best.target

    def _all_open(self) -> Shed:
        return Shed("circuit_open", 503, retry_after=min(seat.circuit.time_left() for seat in self._seats))


def balance(picker: Picker) -> Layer:
    """Give every try its target."""
    pick = picker.pick

    def layer(send: Send) -> Send:
        # Not async itself: a coroutine that only awaits another costs 0.2 µs for nothing.
        def balanced(call: Call) -> Awaitable[Reply]:
            target = pick(call.tried)
            call.target = target
            call.tried.append(target)
            return send(call)

        return balanced

    return layer
