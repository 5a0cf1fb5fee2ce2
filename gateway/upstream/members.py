"""Which targets of an upstream may take a try: decided before any way of balancing chooses one of them.

Eligible are members whose circuit would admit a try, whose standing is good, and who are not silent; of these the
ones in the first priority group that has something left to offer, and there the ones this call has not tried yet.
Each condition is dropped when nobody would be left, except circuits, and standings where `panic` is 0. Pure.
"""

from collections.abc import Callable, Sequence
from itertools import groupby

from gateway.errors import Shed
from gateway.exchange import Call, Target
from gateway.upstream.standing import Standing

MANY = 3
"""Tries without an answer from which on a member may be silent: fewer are soon together, and this is what a frozen
target costs."""

PATIENCE = 0.05
"""Seconds. Tries that began together can only be answered together; a target that is well answers some by then."""

OVERPROVISIONED = 1.4
"""A priority group keeps all of its traffic down to 1/1.4 = 71 % of its members (Envoy's overprovisioning factor)."""

COLDEST = 0.1
"""Of its weight, in slow start: less would hardly warm anything."""

SOON = 1.0
"""Seconds to say in Retry-After when nobody knows how long it takes: probes and discovery look every few seconds."""


class Member:
    """A target's place in the balancing of its upstream. Mutable."""

    __slots__ = (
        "circuit",
        "cost",
        "credit",
        "first",
        "last",
        "measured",
        "priority",
        "share",
        "standing",
        "target",
        "unanswered",
        "weight",
    )

    def __init__(self, target: Target, weight: int = 1, priority: int = 0, standing: Standing | None = None) -> None:
        self.target = target
        self.circuit = target.circuit
        self.weight = weight
        self.priority = priority  # lower numbers are asked first
        self.standing = standing
        self.share: float = weight  # the weight, or what slow start leaves of it
        self.credit: float = 0  # round robin; whole numbers but for slow start
        self.cost = 0.0  # peak EWMA: seconds, at `measured`; 0 while nothing is known
        self.measured = 0.0
        self.unanswered = 0  # tries begun since the last answer
        self.first = 0.0  # when the first of these began
        self.last = 0.0  # when the last try began

    def __repr__(self) -> str:
        return f"<Member {self.target.name}>"

    def usable(self, now: float) -> bool:
        """Whether its standing is good."""
        return self.standing is None or self.standing.usable(now)

    def silent(self, now: float, hold: float) -> bool:
        """It does not answer; once in `hold` seconds a try may see whether it does again."""
        return self.unanswered >= MANY and now - self.first > PATIENCE and now - self.last < hold

    def become(self, new: "Member") -> None:
        """Take over the settings of its newer self, and keep the counters."""
        self.target, self.circuit, self.standing = new.target, new.circuit, new.standing
        self.weight, self.share, self.priority = new.weight, new.weight, new.priority


class Members:
    """The members of one upstream at present. Times in seconds.

    `panic` is the share of members with a good standing below which standings are no longer believed: more likely
    is that the probes are wrong, or that the few that are left would break down, too. With fewer circuits ready than
    that, the open ones are tried earlier.
    """

    __slots__ = (
        "_clock",
        "_dice",
        "_fewest",
        "_groups",
        "_hold",
        "_panic",
        "_plain",
        "_slow_start",
        "all",
        "alone",
        "only",
        "seats",
        "version",
        "warming",
    )

    def __init__(
        self,
        members: Sequence[Member],
        *,
        clock: Callable[[], float],
        dice: Callable[[], float],
        hold: float,
        panic: float = 0.0,
        slow_start: float = 0.0,
    ) -> None:
        self._clock = clock
        self._dice = dice  # a number from 0 to 1
        self._hold = hold
        self._panic = panic
        self._slow_start = slow_start
        self.version = 0  # grows with each replacement
        self.warming = False  # some shares were less than weights at the last pick
        self.seats: dict[Target, Member] = {}
        self.replace(members)

    def replace(self, members: Sequence[Member]) -> None:
        """These are the members from now on; who was one before, by the target's name, keeps its counters."""
        known = {member.target.name: member for member in self.seats.values()}
        self.all: list[Member] = []
        for name, new in {member.target.name: member for member in members}.items():
            member = known.get(name, new)
            if member is not new:
                member.become(new)
            self.all.append(member)
        self.seats = {member.target: member for member in self.all}
        self.version += 1
        in_order = sorted(self.all, key=lambda member: member.priority)
        self._groups = [list(group) for _, group in groupby(in_order, key=lambda member: member.priority)]
        unwatched = all(member.standing is None for member in self.all)
        self._plain = unwatched and len(self._groups) == 1  # one group, without standings
        self.alone = len(self.all) < 2
        # One circuit, of one target or shared by all, is not one of several that could stand in for each other.
        several = len({id(member.circuit) for member in self.all}) > 1
        self._fewest = self._panic * len(self.all) if several else 0.0
        self.only = self.all[0] if self._plain and self.alone else None  # nothing to decide but its circuit

    def eligible(self, call: Call) -> list[Member]:
        """Those among whom a way of balancing may choose for this call's next try: at least one. Raises Shed."""
        if self._plain and not call.tried:
            for member in self.all:
                if member.unanswered >= MANY or not member.circuit.ready():
                    break
            else:
                return self.all  # nearly always, so that this costs no list
        now = self._clock()
        fit = self._fit(now)
        if self._slow_start:
            self._warm(fit, now)
        if len(self._groups) > 1:
            return self._of_a_group(fit, call.tried)
        if call.tried:
            return self._untried(fit, call.tried) or fit
        return fit

    def elsewhere(self, call: Call) -> bool:
        """Whether a member that the call has not tried would be asked at once."""
        if self.alone:
            return False
        try:
            return bool(self._untried(self._fit(self._clock()), call.tried))
        except Shed:
            return False

    def all_open(self, members: Sequence[Member]) -> Shed:
        """No circuit of these would admit a try."""
        return Shed("circuit_open", 503, retry_after=min(member.circuit.time_left() for member in members))

    def _fit(self, now: float) -> list[Member]:
        """Those of all groups that are ready, usable, and not silent if there is another."""
        if not self.all:
            raise Shed("no_healthy_target", 503, retry_after=SOON)
        fit = [member for member in self.all if member.circuit.ready()]
        if len(fit) < self._fewest:
            # A circuit spares a target while others serve. When most are open it is the upstream that is in trouble,
            # and what is left would break down, too: try all of them again soon.
            for member in self.all:
                member.circuit.hasten()
            fit = [member for member in self.all if member.circuit.ready()]
        if not fit:
            raise self.all_open(self.all)
        if not self._plain:
            fit = self._in_good_standing(fit, now)
        return [member for member in fit if member.unanswered < MANY or not member.silent(now, self._hold)] or fit

    def _in_good_standing(self, ready: list[Member], now: float) -> list[Member]:
        usable = [member for member in ready if member.usable(now)]
        if len(usable) == len(ready):
            return ready
        if self._panic and (not usable or self._panics(now)):
            return ready
        if not usable:
            raise self._nobody_well(now)
        return usable

    def _panics(self, now: float) -> bool:
        """A group that is well enough is where traffic spills over to, so only all of them together give alarm."""
        return all(sum(member.usable(now) for member in group) < self._panic * len(group) for group in self._groups)

    def _nobody_well(self, now: float) -> Shed:
        """Members in good standing have open circuits, if there are such; the others are ill or set aside."""
        well = [member for member in self.all if member.usable(now)]
        if well:
            return self.all_open(well)
        standings = [member.standing for member in self.all if member.standing is not None]
        waits = [standing.ejected_until - now for standing in standings if standing.healthy]
        return Shed("no_healthy_target", 503, retry_after=min(waits, default=SOON))

    def _warm(self, fit: list[Member], now: float) -> None:
        """A target that has just come back has cold caches and few connections: its weight grows bit by bit."""
        full = self._slow_start
        self.warming = False
        for member in fit:
            age = full if member.standing is None else now - member.standing.since
            if age < full:
                member.share = member.weight * max(COLDEST, age / full)
                self.warming = True
            else:
                member.share = member.weight

    def _of_a_group(self, fit: list[Member], tried: list[Target]) -> list[Member]:
        """Each group takes what those before it leave, as much as it can: 1.4 times its share of fit members."""
        if len(fit) == len(self.all) and not tried:
            return self._groups[0]
        left, loads, choices = 1.0, 0.0, []
        for group in self._groups:
            able = [member for member in group if member in fit]
            fresh = self._untried(able, tried)
            if not fresh:
                continue
            load = min(left, OVERPROVISIONED * len(able) / len(group))
            choices.append((load, fresh))
            loads += load
            left -= load
            if left <= 0.0:
                break
        if not choices:  # all have been tried: they are as good as new
            return self._of_a_group(fit, [])
        if len(choices) == 1:
            return choices[0][1]
        mark = self._dice() * loads
        for load, fresh in choices:
            mark -= load
            if mark < 0.0:
                return fresh
        return choices[-1][1]

    def _untried(self, members: list[Member], tried: list[Target]) -> list[Member]:
        return [member for member in members if member.target not in tried]
