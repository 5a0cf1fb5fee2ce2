"""The course of one scenario: callers at work, signals sent to processes in time, and when to stop."""

import asyncio
import os
import signal
from collections.abc import Sequence
from math import isfinite

from bench.scenarios.callers import Asked, Load
from bench.scenarios.catalogue import AFTER, BACK_WITHIN, Scenario
from bench.scenarios.faulty import Target, Zero
from bench.scenarios.figures import first_answers

WARM_UP = 30
"""Requests before the zero hour."""
QUIET = 1.0
"""Seconds without a failure after which all is well again."""
SIGNALS = {"kill": (signal.SIGKILL, None), "stop": (signal.SIGSTOP, signal.SIGCONT)}


async def live(
    scenario: Scenario,
    port: int,
    trouble: tuple[float, float],
    zero: Zero,
    running: Sequence[Target],
    recovery: "Recovery",
) -> list[Asked]:
    """All requests, until there is nothing more to be seen."""
    load = Load(port, scenario.rate, recovery.heard)
    await load.warm_up(WARM_UP)
    hour = zero.strike()
    signals = asyncio.create_task(send_signals(scenario, trouble, running))
    try:
        return await load.run(hour, recovery.ended)
    finally:
        signals.cancel()


async def send_signals(scenario: Scenario, trouble: tuple[float, float], running: Sequence[Target]) -> None:
    """To the troubled targets, when the trouble begins and when it ends."""
    if not scenario.signal:
        return
    at_first, at_last = SIGNALS[scenario.signal]
    begin, end = trouble
    for wait, number in ((begin, at_first), (end - begin, at_last)):
        await asyncio.sleep(wait)
        if number is not None:
            for target in running[: scenario.troubled]:
                os.kill(target.pid, number)


class Recovery:
    """Watches for the moment when nothing more is to be seen."""

    def __init__(self, scenario: Scenario, end: float, patience: float = BACK_WITHIN + QUIET) -> None:
        """The trouble ends at `end`; `patience` seconds later it is given up."""
        self._scenario = scenario
        self._end = end
        self._patience = patience
        self._answered: list[Asked] = []
        self._failed = 0.0  # when the last failed request was due

    def heard(self, asked: Asked) -> None:
        if not asked.good:
            self._failed = max(self._failed, asked.due)
        elif asked.due >= self._end:
            self._answered.append(asked)

    def ended(self, now: float) -> bool:
        """Whether to ask no more."""
        if now > self._end + self._patience:
            return True
        if now < self._end + AFTER:
            return False
        back = first_answers(self._scenario, self._answered, self._end)
        return isfinite(max(back.values())) and now > self._failed + QUIET
