"""How much counters have grown within the last hour: one packed sample every half minute. Pure.

4,000 series (two objectives of 1,000 routes) take 4 MB.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Mapping

Labels = tuple[str, ...]

STEP = 30.0
"""Seconds between two samples; a window may be so much longer than asked for."""

KEPT = 3600.0
"""Seconds."""


class History:
    """Of counters that never go back. Mutable."""

    def __init__(self) -> None:
        self._places: dict[Labels, int] = {}
        self._samples: deque[tuple[float, array[float]]] = deque()

    def note(self, counted: Mapping[Labels, float], now: float) -> None:
        """Look at them; the more often, the better."""
        if self._samples and now < self._samples[-1][0] + STEP:
            return
        for labels in counted:
            self._places.setdefault(labels, len(self._places))
        self._samples.append((now, array("d", [counted.get(labels, 0.0) for labels in self._places])))
        while len(self._samples) > 1 and self._samples[1][0] <= now - KEPT:
            self._samples.popleft()

    def grown(self, counted: Mapping[Labels, float], now: float, window: float) -> dict[Labels, float]:
        """Since `window` seconds ago, or since there is a history; without one nothing has grown."""
        if not self._samples:
            return dict.fromkeys(counted, 0.0)
        began = self._samples[0][1]
        for at, sample in reversed(self._samples):
            if at <= now - window:
                began = sample
                break
        return {labels: max(0.0, count - self._then(began, labels)) for labels, count in counted.items()}

    def _then(self, sample: array[float], labels: Labels) -> float:
        """A series that did not exist yet had counted nothing."""
        place = self._places.get(labels, len(sample))
        return sample[place] if place < len(sample) else 0.0
