"""What callers notice while targets misbehave: the gateway beside nginx, HAProxy and Envoy, in one run.

Each system is started anew for each scenario, with targets that do the same at the same seconds with the same dice,
under the same requests. The exit status is 1 when the gateway misses a bound.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from bench.machine import keep
from bench.processes import cores, free_port
from bench.scenarios.catalogue import SCENARIOS, TROUBLE, Scenario
from bench.scenarios.course import Recovery, live
from bench.scenarios.faulty import Zero, targets
from bench.scenarios.figures import Figures, figures, missed
from bench.scenarios.proxies import SYSTEMS, System

SEED = 20261121
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
            made = uvloop.run(live(scenario, port, trouble, zero, running, Recovery(scenario, trouble[1])))
        return figures(scenario, made, trouble, sum(target.asked(*trouble) for target in running))


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
