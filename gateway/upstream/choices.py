"""Ways to choose among eligible members: in turn, the least busy, or the less busy of two drawn ones. Pure.

In turn is smooth weighted round robin: every time each member gains its share, the richest is chosen and pays the sum
of all that gained (the algorithm is nginx's): weights 5, 1, 1 give a a b a c a a, spread out instead of in bursts.
Two choices come within a small factor of the least busy without looking at all (Mitzenmacher, 2001), and gateways that
each see only their own requests do not all run to the same target.
"""

from collections.abc import Callable, Sequence

from gateway.exchange import Call
from gateway.upstream.members import Member

Choose = Callable[[list[Member], Call], Member]
"""Chooses one of several eligible members for the next try of a call."""


def in_turn(fit: list[Member], call: Call) -> Member:
    """Each in proportion to its share."""
    best = fit[0]
    paid: float = 0  # whole numbers are quicker, and exact; only slow start brings others
    for member in fit:
        share = member.share
        paid += share
        member.credit += share
        if member.credit > best.credit:
            best = member
    best.credit -= paid
    return best


def least_requests(fit: list[Member], call: Call) -> Member:
    """The one with the fewest requests under way for its share; among equals in turn."""
    fewest = float("inf")
    equals: list[Member] = []
    for member in fit:
        load = member.target.busy / member.share
        if load < fewest:
            fewest = load
            equals = [member]
        elif load == fewest:
            equals.append(member)
    return in_turn(equals, call) if len(equals) > 1 else equals[0]


def two_choices(dice: Callable[[], float]) -> Choose:
    """Draw two by their shares and take the less busy one, the first when they are equal."""

    def choose(fit: list[Member], call: Call) -> Member:
        one = drawn(fit, dice())
        two = drawn([member for member in fit if member is not one], dice())
        return two if two.target.busy * one.share < one.target.busy * two.share else one

    return choose


def drawn(members: Sequence[Member], at: float) -> Member:
    """The member in whose part of the line `at` lies, which goes from 0 to 1 and is divided by shares."""
    if len(members) == 1:
        return members[0]
    total = 0.0
    for member in members:
        total += member.share
    mark = at * total
    for member in members:
        mark -= member.share
        if mark < 0.0:
            return member
    return members[-1]
