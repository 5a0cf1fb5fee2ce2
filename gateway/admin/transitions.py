"""The last changes of circuits, as the counters of all workers tell: what has grown since the look before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

KEPT = 100

ORDER = {"half-open": 0, "closed": 1, "open": 2}
"""Of what happened between two looks nobody knows the order; a circuit is half-open before it closes, or opens anew."""


class Transition(NamedTuple):
    """A change of a circuit's state."""

    at: float
    """Wall-clock second of the look that found it."""
    upstream: str
    target: str
    """"" for the circuit that all targets share."""
    to: str
    """closed, half-open, open."""
    times: int
    """Each worker has a circuit of its own."""


class Transitions:
    """Those of one instance, the newest first."""

    def __init__(self) -> None:
        self._known: Mapping[tuple[str, ...], float] | None = None
        self._events: deque[Transition] = deque(maxlen=KEPT)

    def __iter__(self) -> Iterator[Transition]:
        return reversed(self._events)

    def note(self, counted: Mapping[tuple[str, ...], float], now: float) -> None:
        """What gateway_breaker_transitions_total says now. The first time tells nothing: it may be years old."""
        known, self._known = self._known, counted
        if known is None:
            return
        grown = {labels: round(count - known.get(labels, 0.0)) for labels, count in counted.items()}
        for (upstream, target, to), times in sorted(grown.items(), key=lambda entry: ORDER.get(entry[0][2], 3)):
            if times > 0:
                self._events.append(Transition(now, upstream, target, to, times))
