"""Balancing by expected time: of two drawn members the one with less cost x (requests under way + 1) / share. Pure.

Cost is a decaying average of the time to a reply's head. A time above it counts at once and in full, shorter ones bit
by bit, so a target that slows down loses its traffic with the first slow reply. Cost fades while nothing is heard, so
that every target is asked again at some time. The idea is Finagle's Peak EWMA (2015), which linkerd uses as well.

A failure is often quick, which must not look like speed: it doubles the cost.
"""

from collections.abc import Callable
from math import exp

from gateway.errors import DeadlinePassed, GatewayError, UpstreamFailed
from gateway.exchange import Call, Reply
from gateway.resilience.verdict import Verdict, judge
from gateway.upstream.choices import Choose
from gateway.upstream.members import Member
from gateway.upstream.silence import Try

DECAY = 10.0
"""Seconds in which all but 1/e of an average is forgotten, as in Finagle and linkerd."""

FAILED = 1.0
"""Seconds that a failure costs at least: more than a reply of most services."""

DEAREST = 10.0
"""Seconds up to which failures double the cost: it has faded after a minute, when the target may be well again."""

COLD = 1.0
"""Seconds that a target nobody has measured is taken to cost once it is busy: the first request is welcome there, the
rest of a burst is not."""

SUCCESS, FAILURE = Verdict.SUCCESS, Verdict.FAILURE


def peak_ewma(clock: Callable[[], float], dice: Callable[[], float]) -> Choose:
    """Draw two, take the one that is expected to answer sooner."""

    def choose(fit: list[Member], call: Call) -> Member:
        count = len(fit)
        if count == 2:
            one, two = fit
        else:
            first = int(dice() * count) % count
            one, two = fit[first], fit[(first + 1 + int(dice() * (count - 1)) % (count - 1)) % count]
        now = clock()
        return two if expected(two, now) < expected(one, now) else one

    return choose


def expected(member: Member, now: float) -> float:
    """How long a request would take there, in seconds for a member of share 1."""
    busy = member.target.busy
    cost = faded(member, now)
    if cost == 0.0 and busy:
        cost = COLD
    return cost * (busy + 1) / member.share


def faded(member: Member, now: float) -> float:
    """The cost as it is now."""
    return member.cost * exp((member.measured - now) / DECAY)


def timed(send: Try, clock: Callable[[], float]) -> Try:
    """Measure each try to the head of its reply."""

    async def timed_try(call: Call, member: Member) -> Reply:
        whole = type(call.body) is bytes  # else its client's pace would be measured
        started = clock()
        try:
            reply = await send(call, member)
        except (UpstreamFailed, DeadlinePassed) as error:
            if not (isinstance(error, UpstreamFailed) and error.stale):
                failed(member, started, clock())
            raise
        except GatewayError:  # our own refusal
            raise
        except BaseException:  # cancelled: it took at least as long as this
            took = clock() - started
            if whole and 0.0 < member.cost < took:
                replied(member, started, started + took)
            raise
        if reply.status < 429:
            if whole:
                replied(member, started, clock())
        elif reply.status == 429 or judge(reply) is FAILURE:  # 429: well, but it asks for less
            failed(member, started, clock())
        return reply

    return timed_try


def replied(member: Member, started: float, now: float) -> None:
    """A reply has come: peaks count at once, the rest bit by bit."""
    took = now - started
    if took < member.cost:
        kept = exp((member.measured - now) / DECAY)
        took += (member.cost - took) * kept
    member.cost = took
    member.measured = now


def failed(member: Member, started: float, now: float) -> None:
    """A try has failed: however quick it was, the cost never falls."""
    cost = faded(member, now)
    member.cost = max(now - started, cost, min(max(2 * cost, FAILED), DEAREST))
    member.measured = now
