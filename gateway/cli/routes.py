"""`gateway routes`: what the configuration lets through, as a table."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gateway.cli.configured import config_argument, json_argument, load_config
from gateway.cli.output import console, print_json
from gateway.describe.routes import auth_text, limit_text, targets_of

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.config.model import Route


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    json_argument(parser)


def perform(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    if options.json:
        print_json([described(config, route) for route in config.routes])
        return 0
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAME", "HOST", "METHODS", "PATH", "AUTH", "LIMITS", "UPSTREAM"):
        table.add_column(title, overflow="fold")
    for route in config.routes:
        table.add_row(
            route.name,
            route.match.host or "any",
            " ".join(route.match.methods or ("any",)),
            _pattern(route),
            auth_text(route),
            " ".join(limit_text(config, limit) for limit in route.rate_limit) or "-",
            _end_text(config, route),
        )
    console().print(table)
    return 0


def described(config: Config, route: Route) -> dict[str, object]:
    """A route for scripts."""
    auth = route.auth
    return {
        "name": route.name,
        "host": route.match.host,
        "methods": list(route.match.methods) if route.match.methods else None,
        "path": route.match.path,
        "headers": route.match.headers,
        "query": route.match.query,
        "auth": auth and auth.model_dump(mode="json") | ({} if auth.roles else {"roles": []}),
        "limits": [limit_text(config, limit) for limit in route.rate_limit],
        "fallbacks": len(route.fallback),
        "upstream": route.upstream,
        "split": route.split,
        "versions": route.versions and {name: each.upstream for name, each in route.versions.available.items()},
        "redirect": route.redirect and {"status": route.redirect.status, "to": route.redirect.to},
        "respond": route.respond and {"status": route.respond.status},
        "targets": [url for name in route.upstreams for url in targets_of(config.upstreams[name])],
    }


def _end_text(config: Config, route: Route) -> str:
    """Who answers, or what."""
    if route.redirect is not None:
        return f"{route.redirect.status} → {route.redirect.to}"
    if route.respond is not None:
        return f"status {route.respond.status}"
    return "; ".join(_way_text(config, route, name) for name in route.upstreams)


def _way_text(config: Config, route: Route, name: str) -> str:
    """An upstream and its part where others answer as well: `orders → http://10.0.0.1:80`, `orders (95 of 100) → …`."""
    part = ""
    if route.split is not None:
        part = f" ({route.split[name]} of {sum(route.split.values())})"
    elif route.versions is not None:
        part = f" ({', '.join(key for key, each in route.versions.available.items() if each.upstream == name)})"
    return f"{name}{part} → {' '.join(targets_of(config.upstreams[name]))}"


def _pattern(route: Route) -> str:
    more = [f"{name}: {value}" for name, value in route.match.headers.items()]
    more += [f"?{name}={value}" for name, value in route.match.query.items()]
    return " ".join([route.match.path, *more])
