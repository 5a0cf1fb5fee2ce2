"""What a run says: shares, waits, attempts, the time to recover; and whether the bounds are kept. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import quantiles

from bench.scenarios.callers import Asked
from bench.scenarios.catalogue import AFTER, BACK_WITHIN, TRY, Scenario

GRACE = 0.02
"""Seconds a caller may wait beyond the time of a try."""
PAYING = 0.9 * TRY
"""Who waited so long has paid for a target that does not answer."""
LEAST = 0.002
"""Shares nearer than this are equal in any case: a request or two that met the very edge of the trouble."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one system in one scenario. Times in seconds; shares and counts: of requests due until AFTER the trouble."""

    requests: int
    failed: int
    statuses: dict[int, int]
    """Of all requests; 0 where no head came."""
    share: float
    """Answered well and completely. A body that broke off is no success, nor is a 503 of the system's own."""
    p50: float
    p99: float
    """Of the successful ones: those that fail quickly shall not flatter."""
    longest: float
    """Of all."""
    attempts: float
    """Requests that reached targets for each one of callers, while the trouble lasted."""
    paying: int
    quiet_after: float
    """From the end of the trouble to the last failure after it."""
    used_after: float
    """From the end of the trouble until each troubled target had answered; infinite where one never did."""
    late: float
    """The longest that a request was sent after it was due: the error of the measurement."""

    @property
    def back(self) -> float:
        return max(self.quiet_after, self.used_after)


def figures(scenario: Scenario, made: Sequence[Asked], trouble: tuple[float, float], attempts: int) -> Figures:
    """`attempts` are those during the trouble."""
    begin, end = trouble
    counted = [asked for asked in made if asked.due < end + AFTER]
    good = [asked.took for asked in counted if asked.good]
    cuts = quantiles(good, n=100) if len(good) > 1 else [inf] * 99
    during = sum(begin <= asked.due < end for asked in counted)
    failures_after = [asked.due - end for asked in made if not asked.good and asked.due >= end]
    return Figures(
        requests=len(counted),
        failed=len(counted) - len(good),
        statuses=dict(Counter(asked.status for asked in counted)),
        share=len(good) / len(counted),
        p50=cuts[49],
        p99=cuts[98],
        longest=max(asked.took for asked in counted),
        attempts=attempts / during,
        paying=sum(asked.took >= PAYING for asked in counted),
        quiet_after=max(failures_after, default=0.0),
        used_after=max(first_answers(scenario, made, end).values()),
        late=max(asked.late for asked in counted),
    )


def first_answers(scenario: Scenario, made: Sequence[Asked], end: float) -> dict[int, float]:
    """Seconds after the end of the trouble until a troubled target had answered, by its number."""
    found = dict.fromkeys(range(1, scenario.troubled + 1), inf)
    for asked in made:
        if asked.good and asked.due >= end and asked.target in found:
            found[asked.target] = min(found[asked.target], asked.ended - end)
    return found


def tolerance(share: float, requests: int) -> float:
    """How much two shares may differ by chance: two standard deviations of the difference of two such runs."""
    return max(LEAST, 2 * sqrt(2 * share * (1 - share) / requests))


def missed(scenario: Scenario, of: Mapping[str, Figures]) -> list[str]:
    """What `ours` did not reach, in words."""
    ours = of["ours"]
    complaints = []
    peers = {name: each.share for name, each in of.items() if name != "ours"}
    if peers:
        best = max(peers, key=lambda name: peers[name])
        if ours.share < peers[best] - tolerance(peers[best], ours.requests):
            complaints.append(f"{ours.share:.2%} succeeded, {peers[best]:.2%} with {best}")
    if scenario.most_attempts is not None and ours.attempts > scenario.most_attempts:
        complaints.append(f"{ours.attempts:.2f} attempts for a request, at most {scenario.most_attempts}")
    if ours.back > BACK_WITHIN:
        complaints.append(f"back after {ours.back:.1f} s, at most {BACK_WITHIN:.0f}")
    if scenario.flawless and ours.failed:
        complaints.append(f"{ours.failed} callers saw an error")
    # What this process itself was late is not the system's fault.
    if scenario.flawless and ours.longest > TRY + GRACE + ours.late:
        complaints.append(f"somebody waited {ours.longest * 1000:.0f} ms, at most {(TRY + GRACE) * 1000:.0f}")
    if scenario.most_paying is not None and ours.paying > scenario.most_paying:
        complaints.append(f"{ours.paying} paid for the target that did not answer, at most {scenario.most_paying}")
    return complaints
