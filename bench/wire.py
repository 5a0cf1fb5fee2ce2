"""How fast requests pass, beside nginx, HAProxy and a plain aiohttp proxy on the same machine.

Each round measures every system once, freshly started, on a core that it has for itself; wrk and the
upstream share the other. A round's figures are divided by its own nginx figure, so that what disturbs the
machine for a minute disturbs both sides of a ratio; reported are the median and the extremes over the rounds.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.load import Figure, ask, load
from bench.machine import describe, keep
from bench.processes import cores
from bench.systems import PATH, REPLY, SYSTEMS, Bench, System, make_keys, upstream

REFERENCE = "nginx"
WARM_UP = 1
"""Seconds of load before the figure counts: pools fill, code specialises, the token is in the cache."""

console = Console()


def main() -> int:
    options = arguments()
    wrk = shutil.which("wrk")
    if wrk is None or shutil.which("nginx") is None:
        console.print("bench.wire needs wrk (the load) and nginx (the upstream and the reference): one is missing")
        return 2
    chosen = [system for system in SYSTEMS if system.name in {REFERENCE, *(options.only or all_names())}]
    for absent in (system for system in chosen if not system.present):
        console.print(f"left out: {absent.title} ({absent.tool} is not installed)")
    chosen = [system for system in chosen if system.present]
    figures: dict[str, list[Figure]] = {system.name: [] for system in chosen}
    failed: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        own, others = cores()
        if own is None:
            console.print("processes cannot be pinned to cores here: expect a wide spread")
        headers = {"Authorization": f"Bearer {make_keys(folder)}"}
        port, running = upstream(folder, others)
        with running:
            bench = Bench(folder, port, own)
            for number in range(options.rounds):
                # Another order each round: nobody always comes after the same neighbour.
                turn = number % len(chosen)
                for system in chosen[turn:] + chosen[:turn]:
                    if system.name in failed:
                        continue
                    try:
                        figure = measure(wrk, system, bench, headers, options, others)
                    except RuntimeError as error:
                        console.print(f"not counted: {system.title}: {error}", style="red", markup=False)
                        failed.add(system.name)
                        continue
                    figures[system.name].append(figure)
                    console.print(f"round {number + 1}  {system.title:32} {figure.rate:9,.0f} requests/s", markup=False)
    if REFERENCE in failed:
        return 1
    report([system for system in chosen if system.name not in failed], figures, options)
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.wire", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="times that each system is measured (default: 3)")
    parser.add_argument("--seconds", type=int, default=5, help="length of one measurement (default: 5)")
    parser.add_argument("--connections", type=int, default=32, help="kept-alive client connections (default: 32)")
    parser.add_argument("--only", nargs="+", choices=all_names(), help="these, and nginx as the reference")
    parser.add_argument("--varied", action="store_true", help="every request and reply differs from the last")
    options = parser.parse_args()
    if min(options.rounds, options.seconds, options.connections) < 1:
        parser.error("rounds, seconds and connections must be at least 1")
    return options


def all_names() -> list[str]:
    return [system.name for system in SYSTEMS]


def measure(
    wrk: str,
    system: System,
    bench: Bench,
    headers: Mapping[str, str],
    options: argparse.Namespace,
    core: int | None,
) -> Figure:
    """Start it, see that it answers rightly, warm it up, measure, stop it."""
    port, running = system.start(bench)
    with running as pid:
        status, body = ask(port, PATH, headers)
        if (status, body) != (200, REPLY):
            raise RuntimeError(f"answers {status} {body[:200]!r}")
        if "full" in system.name and ask(port, PATH, {})[0] != 401:
            raise RuntimeError("lets a request pass without a token")
        figure = None
        for seconds in (WARM_UP, options.seconds):
            figure = load(
                wrk,
                port,
                PATH,
                headers,
                seconds=seconds,
                connections=options.connections,
                core=core,
                pid=pid,
                varied=options.varied,
            )
    assert figure is not None
    return figure


def report(chosen: Sequence[System], figures: Mapping[str, Sequence[Figure]], options: argparse.Namespace) -> None:
    machine = describe()
    table = Table(
        title=f"{options.rounds} rounds of {options.seconds} s, {options.connections} connections"
        + (", every request another" if options.varied else ""),
        caption=f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}",
    )
    table.add_column("system")
    for heading in ("requests/s", f"of {REFERENCE}", "spread", "p50 ms", "p99 ms", "busy"):
        table.add_column(heading, justify="right")
    kept: dict[str, object] = {}
    for system in chosen:
        runs = figures[system.name]
        ratios = [run.rate / base.rate for run, base in zip(runs, figures[REFERENCE], strict=True)]
        busy = [run.busy for run in runs if run.busy is not None]
        table.add_row(
            system.title,
            f"{median(run.rate for run in runs):,.0f}",
            f"{median(ratios):.2f}",
            f"{min(ratios):.2f}–{max(ratios):.2f}",
            f"{median(run.p50 for run in runs):.2f}",
            f"{median(run.p99 for run in runs):.2f}",
            f"{median(busy):.0%}" if busy else "?",
        )
        kept[system.name] = {
            "title": system.title,
            "ratio": round(median(ratios), 3),
            "ratio_min": round(min(ratios), 3),
            "ratio_max": round(max(ratios), 3),
            "runs": [asdict(run) for run in runs],
        }
    console.print(table)
    settings = {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "connections": options.connections,
        "varied": options.varied,
    }
    file = keep("wire-varied" if options.varied else "wire", {**settings, "reference": REFERENCE, "systems": kept})
    console.print(f"written to {file.relative_to(Path(__file__).parent.parent)}")


if __name__ == "__main__":
    sys.exit(main())
