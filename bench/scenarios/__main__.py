"""What callers notice while targets misbehave: the gateway beside nginx, HAProxy and Envoy, in one run.

Each system is started anew for each scenario, with targets that do the same at the same seconds with the same dice,
under the same requests. The exit status is 1 when the gateway misses a bound.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from bench.machine import keep
from bench.processes import cores, free_port
from bench.scenarios.callers import Asked, Load
from bench.scenarios.catalogue import AFTER, BACK_WITHIN, SCENARIOS, TROUBLE, Scenario
from bench.scenarios.faulty import Target, Zero, targets
from bench.scenarios.figures import Figures, figures, first_answers, missed
from bench.scenarios.proxies import SYSTEMS, System

SEED = 20261121
WARM_UP = 30
"""Requests before the zero hour."""
QUIET = 1.0
"""Seconds without a failure after which all is well again."""
SIGNALS = {"kill": (signal.SIGKILL, None), "stop": (signal.SIGSTOP, signal.SIGCONT)}
HEADINGS = ("succeeded", "failed", "p50 ms", "p99 ms", "longest ms", "attempts", "quiet after s", "used after s")

console = Console()


def main() -> int:
    options = arguments()
    scenarios = [each for each in SCENARIOS if each.name in (options.only or names(SCENARIOS))]
    systems = [each for each in SYSTEMS if each.name in (options.systems or names(SYSTEMS))]
    for absent in (system for system in systems if not system.present):
        console.print(f"left out: {absent.title} ({absent.tool} is not installed)")
    systems = [system for system in systems if system.present]
    own, others = cores()
    if others is None:
        console.print("processes cannot be pinned to cores here: waits are longer than they should be")
    else:
        os.sched_setaffinity(0, {others})
    kept: dict[str, object] = {}
    complaints: list[str] = []
    for scenario in scenarios:
        found: dict[str, Figures] = {}
        new: list[str] = []
        for system in systems:
            try:
                found[system.name] = measure(scenario, system, options.seconds, own)
            except RuntimeError as error:
                console.print(f"not counted: {system.title}: {error}", style="red", markup=False)
                new += ["it did not start"] if system.name == "ours" else []
        console.print(table(scenario, found))
        new += missed(scenario, found) if "ours" in found else []
        for complaint in new:
            console.print(f"missed: {complaint}", style="red", highlight=False)
        complaints += new
        kept[scenario.name] = {"missed": new, **{name: asdict(each) for name, each in found.items()}}
    settings = {system.name: system.settings([9001, 9002, 9003]) for system in systems}
    file = keep("scenarios", {"seed": SEED, "seconds": options.seconds, "settings": settings, "scenarios": kept})
    console.print(f"written to {file.relative_to(Path(__file__).parents[2])}")
    return int(bool(complaints))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scenarios", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=names(SCENARIOS), metavar="SCENARIO", help=", ".join(names(SCENARIOS))
    )
    parser.add_argument("--systems", nargs="+", choices=names(SYSTEMS), help="these alone (default: all there are)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=TROUBLE,
        help=f"length of the trouble, where it is not fixed (default: {TROUBLE})",
    )
    options = parser.parse_args()
    if not 1 <= options.seconds <= 30:
        parser.error("seconds must be from 1 to 30")
    return options


def names(those: Sequence[Scenario] | Sequence[System]) -> list[str]:
    return [each.name for each in those]


def measure(scenario: Scenario, system: System, seconds: float, core: int | None) -> Figures:
    """Start targets and system, see that it answers, live through the scenario."""
    trouble = scenario.trouble(seconds)
    ports = {number: free_port() for number in range(1, scenario.targets + 1)}
    places = [(number, ports[number], plan) for number, plan in scenario.plans(*trouble)]
    zero = Zero()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, targets(places, zero, SEED) as running:
        port, proxy = system.start(Path(folder), system.settings([*ports.values()]), core)
        with proxy:
            made = uvloop.run(live(scenario, port, trouble, zero, running))
        return figures(scenario, made, trouble, sum(target.asked(*trouble) for target in running))


async def live(
    scenario: Scenario, port: int, trouble: tuple[float, float], zero: Zero, running: Sequence[Target]
) -> list[Asked]:
    """All requests until the end."""
    recovery = Recovery(scenario, trouble[1])
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

    def __init__(self, scenario: Scenario, end: float) -> None:
        self._scenario = scenario
        self._end = end
        self._answered: list[Asked] = []
        self._failed = 0.0  # when the last failed request was due

    def heard(self, asked: Asked) -> None:
        if not asked.good:
            self._failed = max(self._failed, asked.due)
        elif asked.due >= self._end:
            self._answered.append(asked)

    def ended(self, now: float) -> bool:
        """Whether to ask no more."""
        if now < self._end + AFTER:
            return False
        if now > self._end + BACK_WITHIN + QUIET:
            return True
        back = first_answers(self._scenario, self._answered, self._end)
        return isfinite(max(back.values())) and now > self._failed + QUIET


def table(scenario: Scenario, found: dict[str, Figures]) -> Table:
    grid = Table("", title=f"{scenario.name}: {scenario.title}, {scenario.rate:.0f} requests a second")
    for heading in HEADINGS:
        grid.add_column(heading, justify="right")
    for name, each in found.items():
        times = (f"{seconds * 1000:.0f}" for seconds in (each.p50, each.p99, each.longest))
        back = (f"{seconds:.1f}" for seconds in (each.quiet_after, each.used_after))
        grid.add_row(name, f"{each.share:.2%}", str(each.failed), *times, f"{each.attempts:.2f}", *back)
    return grid


if __name__ == "__main__":
    sys.exit(main())
