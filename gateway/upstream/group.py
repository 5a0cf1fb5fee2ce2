"""The targets of one upstream at present: those that are configured, or found in the DNS and let go again.

It heeds what the operator process tells all workers: who is ill, who was found, which circuits operators hold open.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.resilience.breaker import Breaker
from gateway.resilience.ejection import Ejection
from gateway.upstream.balance import Picker
from gateway.upstream.members import Member
from gateway.upstream.notices import Found, Notices, Place
from gateway.upstream.standing import Standing
from gateway.upstream.target import HttpTarget

log = logging.getLogger("gateway.upstream")


@dataclass(frozen=True, slots=True)
class Seat:
    """A target, and what balancing has to know of it."""

    target: HttpTarget
    weight: int
    priority: int
    standing: Standing | None

    def member(self) -> Member:
        return Member(self.target, self.weight, self.priority, self.standing)


class Finds(Protocol):
    """Makes targets of what is found in the DNS."""

    def seat(self, found: Found) -> Seat:
        """For one that is new."""

    def forget(self, url: str) -> None:
        """It is gone."""


class Group:
    """Implements what `gateway.runtime` asks of an upstream's targets."""

    def __init__(
        self,
        name: str,
        seats: Sequence[Seat],
        picker: Picker,
        *,
        clock: Callable[[], float],
        finds: Finds | None = None,
        ejection: Ejection | None = None,
    ) -> None:
        """`finds` is None where all are configured."""
        self.name = name
        self._seats = {seat.target.name: seat for seat in seats}
        self._picker = picker
        self._clock = clock
        self._finds = finds
        self._ejection = ejection
        self._found: tuple[Found, ...] = ()
        self._closed: Mapping[Place, int] | None = None  # how often operators had closed circuits at the last look
        self._watch(seats)

    @property
    def targets(self) -> list[HttpTarget]:
        """All of them."""
        return [seat.target for seat in self._seats.values()]

    @property
    def standings(self) -> Iterable[tuple[HttpTarget, Standing]]:
        """Of those that are watched."""
        return ((seat.target, seat.standing) for seat in self._seats.values() if seat.standing is not None)

    def heed(self, notices: Notices) -> None:
        """Bring all up to what is known now."""
        if self._finds is not None:
            self._adopt(notices.found.get(self.name, ()), self._finds)
        now = self._clock()
        for target, standing in self.standings:
            standing.found((self.name, target.name) not in notices.ill, now)
        self._heed_circuits(notices)

    def close(self) -> None:
        """Let go of connections to what was found; those of configured targets are parts of the runtime."""
        if self._finds is not None:
            for target in self.targets:
                target.pool.close()

    def _adopt(self, found: tuple[Found, ...], finds: Finds) -> None:
        """Those that are gone finish what they have begun."""
        if found == self._found:
            return
        self._found = found
        before = self._seats
        self._seats = {
            each.url: _again(before[each.url], each) if each.url in before else finds.seat(each) for each in found
        }
        gone = [seat.target for url, seat in before.items() if url not in self._seats]
        for target in gone:
            target.pool.close()
            finds.forget(target.name)
            if self._ejection is not None:
                self._ejection.forget(target)
        self._watch([seat for url, seat in self._seats.items() if url not in before])
        self._picker.replace([seat.member() for seat in self._seats.values()])
        log.info(
            "upstream %s has %d targets now, %d of them new", self.name, len(found), len(self._seats.keys() - before)
        )

    def _watch(self, seats: Iterable[Seat]) -> None:
        for seat in seats:
            if self._ejection is not None and seat.standing is not None:
                self._ejection.watch(seat.target, seat.standing)

    def _heed_circuits(self, notices: Notices) -> None:
        known, self._closed = self._closed, notices.closed
        for target in self.targets:
            circuit = target.circuit
            if not isinstance(circuit, Breaker):
                continue
            if notices.holds(self.name, target.name):
                if not circuit.held:
                    circuit.hold()
            elif circuit.held or (known is not None and self._was_closed(known, notices.closed, target.name)):
                circuit.release()

    def _was_closed(self, before: Mapping[Place, int], now: Mapping[Place, int], target: str) -> bool:
        places = ((self.name, target), (self.name, ""))
        return any(before.get(place, 0) != now.get(place, 0) for place in places)


def _again(seat: Seat, found: Found) -> Seat:
    """The same target, perhaps with another weight."""
    return Seat(seat.target, found.weight, found.priority, seat.standing)
