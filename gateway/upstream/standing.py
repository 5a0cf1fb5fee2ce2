"""What is known about a target besides its circuit: whether it is well, whether it is set aside, since when it is back.

Written by probes (through notices) and by the ejection of outliers, read by balancing. Pure.
"""

ALWAYS = float("-inf")


class Standing:
    """Of one target. Mutable. Times are seconds of the monotonic clock."""

    __slots__ = ("ejected_until", "healthy", "since")

    def __init__(self, since: float = ALWAYS) -> None:
        self.healthy = True  # what probes say; nobody probes: it is taken to be well
        self.ejected_until = 0.0
        self.since = since  # when it became usable: slow start counts from then

    def __repr__(self) -> str:
        return f"<Standing {'well' if self.healthy else 'ill'}, ejected until {self.ejected_until:.1f}>"

    def usable(self, now: float) -> bool:
        """Whether it may be asked, as far as this goes."""
        return self.healthy and now >= self.ejected_until

    def found(self, healthy: bool, now: float) -> None:
        """A probe has told; one that is well again begins anew."""
        if healthy and not self.healthy:
            self.since = max(now, self.ejected_until)
        self.healthy = healthy

    def eject(self, until: float) -> None:
        """Set aside until then; it begins anew afterwards."""
        self.ejected_until = self.since = until
