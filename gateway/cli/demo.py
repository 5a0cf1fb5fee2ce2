"""`gateway demo`: upstreams, the gateway in front of them, and command lines to try."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.configured import DEFAULT, read_config
from gateway.cli.demo_processes import DemoUpstream, stop_all
from gateway.cli.demo_steps import curl_for, steps
from gateway.cli.output import Failure
from gateway.cli.run import serve

if TYPE_CHECKING:
    from gateway.config import Config

SHIPPED = Path(__file__).with_name("demo.yaml")
"""The same text as config/routes.yaml, for those who installed the package without the repository."""

UPSTREAMS = {"orders": ("orders-1", "orders-2"), "payments": ("payments",)}
"""The demo's services by the upstream they stand behind; the targets' addresses are the configuration's."""

ROUTES = frozenset({"public", "orders", "limited", "payments", "balance", "websocket", "events"})
PROVIDER = "demo"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        type=Path,
        default=None,
        help=f"the configuration (default: {DEFAULT}, or the one that comes with the package)",
    )


def perform(options: argparse.Namespace) -> int:
    path = options.config or (DEFAULT if DEFAULT.exists() else SHIPPED)
    loaded = read_config(path)
    config = loaded.config
    _require_demo(config, path)
    upstreams: list[DemoUpstream] = []
    try:
        for upstream, names in UPSTREAMS.items():
            for name, target in zip(names, config.upstreams[upstream].targets, strict=True):
                upstreams.append(DemoUpstream(name, target.host, target.port))
        for each in upstreams:
            each.wait_ready()

        def ready(listening: Sequence[str], admin: str | None) -> None:
            print(_welcome(config, path, upstreams, listening[0].removeprefix("http://"), admin), flush=True)

        return serve(path, loaded, ready)
    finally:
        stop_all(upstreams)


def _require_demo(config: Config, path: Path) -> None:
    """The tour needs the routes it shows. Raises Failure."""
    from gateway.config.model import JwtProvider

    lacking = sorted(ROUTES - {route.name for route in config.routes})
    provider = config.auth.providers.get(PROVIDER)
    signing = isinstance(provider, JwtProvider) and provider.secret is not None
    fitting = all(
        name in config.upstreams and len(config.upstreams[name].targets) == len(services)
        for name, services in UPSTREAMS.items()
    )
    if lacking or not fitting or not signing:
        what = f"routes {', '.join(lacking)}" if lacking else "its upstreams or its provider"
        raise Failure(
            f"{path} is not the demo's configuration any more (it lacks {what}): use `gateway run`, or give the "
            f"demo its own with `gateway demo -c {SHIPPED}`",
            status=2,
        )


def _welcome(config: Config, path: Path, upstreams: Sequence[DemoUpstream], gateway: str, admin: str | None) -> str:
    from gateway.cli.configured import provider_of
    from gateway.cli.token import claims_for, sign

    _, provider = provider_of(config, PROVIDER)
    claims = claims_for(provider, "you", ["orders:read"], lifetime=86400.0, now=time.time())
    _, token = sign(provider, claims)
    _, base = curl_for(gateway)
    lines = ["", *_picture(base, upstreams), ""]
    lines.append(f"  configured by {path}" + (f", operated at {admin}" if admin is not None else ""))
    command = sys.argv[0] if Path(sys.argv[0]).name == "gateway" else "python -m gateway"
    if admin is not None:
        page = "" if admin.startswith("unix:") else f"{curl_for(admin)[1]}/dashboard in a browser, "
        lines.append(f"  Watch it: {page}`{command} top --admin {admin}` in a terminal.")
    lines.append("  Try these in another terminal; each works as it stands. Ctrl-C ends everything.")
    for number, step in enumerate(steps(gateway, admin, token), 1):
        lines += ["", f"{number:>3}. {step.title} → {step.expect}", f"     {step.command}"]
    lines += ["", f"Stop an instance (kill {upstreams[0].pid}) and repeat the first: nobody notices."]
    if admin is not None:
        lines.append(f"Edit {path}, then `{command} reload --admin {admin}`: in force, or refused.")
    lines.append("")
    return "\n".join(lines)


def _picture(base: str, upstreams: Sequence[DemoUpstream]) -> list[str]:
    boxes = [f"{each.name:<9} http://{each.address}  (process {each.pid})" for each in upstreams]
    middle = len(boxes) // 2
    left = f"  you ──► gateway {base} "
    return [
        f"{left if row == middle else ' ' * len(left)}{'──►' if row == middle else '  ►'} {box}"
        for row, box in enumerate(boxes)
    ]
