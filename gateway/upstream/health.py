"""How probes of a target are judged: so many failures in a row make it ill, so many successes well again. Pure."""

from dataclasses import dataclass

MAKES_SURE = 0.3
"""Seconds for all the probes that follow the first success of an ill target: it is back within one interval."""


@dataclass(frozen=True, slots=True)
class Check:
    """How the targets of an upstream are probed. Times in seconds."""

    path: str = ""
    """Asked for with GET; "" where a connection is enough."""
    interval: float = 5.0
    timeout: float = 1.0
    healthy_after: int = 2
    unhealthy_after: int = 3
    expect: tuple[tuple[int, int], ...] = ((200, 299),)
    """Statuses of a healthy target, from and to."""
    host: str = ""
    """For the Host header, where it is not the target's own."""

    def expects(self, status: int) -> bool:
        """Whether a healthy target answers so."""
        return any(first <= status <= last for first, last in self.expect)


class Condition:
    """What the probes of one target have shown so far; it is taken to be well until they show otherwise."""

    __slots__ = ("_against", "well")

    def __init__(self, well: bool = True) -> None:
        self.well = well
        self._against = 0  # probes in a row that say otherwise

    def saw(self, well: bool, check: Check) -> bool:
        """Count a probe; True when it is the one that changes the condition."""
        if well == self.well:
            self._against = 0
            return False
        self._against += 1
        if self._against < (check.healthy_after if well else check.unhealthy_after):
            return False
        self.well = well
        self._against = 0
        return True

    def pause(self, check: Check, fall: float) -> float:
        """Seconds from one probe to the next; `fall` is a dice's, from 0 to 1, and spreads them by 10 % each way."""
        pause = check.interval
        if not self.well:
            # With the spread still within an interval; and soon, where it has answered and must do so again.
            pause *= 0.9
            if self._against:
                pause = min(pause, MAKES_SURE / (check.healthy_after - 1))
        return pause * (0.9 + 0.2 * fall)
