"""Passive ejection of outliers: a target that fails several times in a row is set aside for a while.

As in Envoy's outlier detection, each ejection takes longer than the one before, and the count goes down again by one
for each such time that the target came through. Neutral outcomes neither count nor interrupt. However many fail, only
a share is set aside, and never the last target that is usable: then it is the upstream that fails, not an outlier.
What ends while a target is set aside says nothing new: it began before, or because nobody else was left. Pure.
"""

from collections.abc import Callable

from gateway.exchange import Target
from gateway.resilience.verdict import Verdict
from gateway.upstream.standing import Standing

MOST_TIMES = 10
"""Times the configured duration that an ejection lasts at most: Envoy's 300 s to 30 s."""

ROUNDING = 1e-9
"""0.29 * 100 is 28.999999999999996, and means 29 targets."""

SUCCESS, FAILURE = Verdict.SUCCESS, Verdict.FAILURE


class Ejection:
    """Of the targets of one upstream."""

    __slots__ = ("_clock", "_duration", "_max_share", "_on_eject", "_standings", "_streaks", "_threshold", "_times")

    def __init__(
        self,
        *,
        consecutive_failures: int,
        duration: float,
        max_share: float,
        clock: Callable[[], float],
        on_eject: Callable[[Target, float], None] | None = None,
    ) -> None:
        self._threshold = consecutive_failures
        self._duration = duration
        self._max_share = max_share  # from 0 to 1; one target may go even if that is a larger share
        self._clock = clock
        self._on_eject = on_eject  # hears the target, and for how many seconds
        self._standings: dict[Target, Standing] = {}
        self._streaks: dict[Target, int] = {}  # failures in a row, where there are any
        self._times: dict[Target, int] = {}  # ejections in a row

    def watch(self, target: Target, standing: Standing) -> None:
        """This target is one of the upstream's, from now on."""
        self._standings[target] = standing

    def forget(self, target: Target) -> None:
        """It is not any more."""
        for known in (self._standings, self._streaks, self._times):
            known.pop(target, None)

    def heard(self, target: Target, verdict: Verdict) -> None:
        """How a try at `target` went."""
        if verdict is SUCCESS:
            if self._streaks:  # as a rule nobody has failed lately
                self._streaks.pop(target, None)
        elif verdict is FAILURE:
            self._failed(target)

    def _failed(self, target: Target) -> None:
        standing, now = self._standings.get(target), self._clock()
        if standing is None or now < standing.ejected_until:
            return
        streak = self._streaks[target] = self._streaks.get(target, 0) + 1
        if streak >= self._threshold and self._expendable(target, now):
            self._eject(target, standing, now)

    def _expendable(self, target: Target, now: float) -> bool:
        others = [standing for other, standing in self._standings.items() if other is not target]
        ejected = sum(now < standing.ejected_until for standing in others)
        most = max(1, int(self._max_share * len(self._standings) + ROUNDING))
        return ejected < most and any(standing.usable(now) for standing in others)

    def _eject(self, target: Target, standing: Standing, now: float) -> None:
        came_through = int((now - standing.ejected_until) // self._duration)
        times = min(max(0, self._times.get(target, 0) - came_through) + 1, MOST_TIMES)
        seconds = self._duration * times
        self._times[target] = times
        self._streaks.pop(target)
        standing.eject(now + seconds)
        if self._on_eject is not None:
            self._on_eject(target, seconds)
