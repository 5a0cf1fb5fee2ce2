"""What it costs to see: the full policy with metrics, JSON access log and traces of 10 %, beside nothing of these.

Both are measured once in each round, freshly started, one after the other on the same core; the traces go to an
nginx on the other one. Reported is the throughput with everything on as a share of that with everything off.
"""

import argparse
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.machine import describe, keep
from bench.processes import cores
from bench.systems import Bench, Started, System, full_policy, gateway, make_keys, upstream
from bench.wire import measure

console = Console()


def unseen(bench: Bench) -> Started:
    return gateway(bench.folder, "unseen", _policy(bench, "off"), bench.core, module="bench.unseen")


def counted(bench: Bench) -> Started:
    return gateway(bench.folder, "counted", _policy(bench, "off"), bench.core)


def logged(bench: Bench) -> Started:
    return gateway(bench.folder, "logged", _policy(bench, "json"), bench.core)


def seen(bench: Bench) -> Started:
    tracing = f"tracing: {{otlp: 'http://127.0.0.1:{bench.upstream}', sample: 10%}}\n"
    return gateway(bench.folder, "seen", _policy(bench, "json") + tracing, bench.core)


def _policy(bench: Bench, access: str) -> str:
    return full_policy(bench.upstream).replace("{access: json}", f"{{access: {access}}}")


SYSTEMS = (
    System("full-unseen", "nothing", unseen),
    System("full-counted", "metrics", counted),
    System("full-logged", "metrics, log", logged),
    System("full-seen", "metrics, log, 10 % traces", seen),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.seeing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="times that each is measured (default: 5)")
    parser.add_argument("--seconds", type=int, default=5, help="length of one measurement (default: 5)")
    parser.add_argument("--connections", type=int, default=32, help="kept-alive client connections (default: 32)")
    options = parser.parse_args(namespace=argparse.Namespace(varied=False))
    wrk = shutil.which("wrk")
    if wrk is None or shutil.which("nginx") is None:
        console.print("bench.seeing needs wrk (the load) and nginx (the upstream): one is missing")
        return 2
    runs: dict[str, list[float]] = {system.name: [] for system in SYSTEMS}
    figures: dict[str, list[object]] = {system.name: [] for system in SYSTEMS}
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder, (own, others) = Path(temporary), cores()
        headers = {"Authorization": f"Bearer {make_keys(folder)}"}
        port, running = upstream(folder, others)
        with running:
            bench = Bench(folder, port, own)
            for number in range(options.rounds):
                turn = number % len(SYSTEMS)
                for system in SYSTEMS[turn:] + SYSTEMS[:turn]:
                    figure = measure(wrk, system, bench, headers, options, others)
                    runs[system.name].append(figure.rate)
                    figures[system.name].append(asdict(figure))
                    console.print(f"round {number + 1}  {system.title:28} {figure.rate:9,.0f} requests/s")
    report(runs, figures)
    return 0


def report(runs: dict[str, list[float]], figures: dict[str, list[object]]) -> None:
    base = runs[SYSTEMS[0].name]
    machine = describe()
    table = Table(caption=f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}")
    table.add_column("seen by")
    for heading in ("requests/s", "of nothing", "spread"):
        table.add_column(heading, justify="right")
    kept = {}
    for system in SYSTEMS:
        ratios = [rate / other for rate, other in zip(runs[system.name], base, strict=True)]
        spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
        table.add_row(system.title, f"{median(runs[system.name]):,.0f}", f"{median(ratios):.3f}", spread)
        kept[system.name] = {"title": system.title, "ratio": round(median(ratios), 3), "runs": figures[system.name]}
    console.print(table)
    file = keep("seeing", {"reference": SYSTEMS[0].name, "systems": kept})
    console.print(f"written to {file.relative_to(Path(__file__).parent.parent)}")


if __name__ == "__main__":
    sys.exit(main())
