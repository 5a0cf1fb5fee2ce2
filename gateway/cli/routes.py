"""`gateway routes`: what the configuration lets through, as a table."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gateway.auth.claim_rules import value_text
from gateway.cli.configured import config_argument, json_argument, load_config
from gateway.cli.output import console, print_json
from gateway.config.effective import rate_text
from gateway.config.limits import CALENDAR, EACH

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.config.limits import Tier
    from gateway.config.model import RateLimit, Route, Upstream
    from gateway.config.route_auth import AnyOf


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


def targets_of(upstream: Upstream) -> list[str]:
    """Their URLs, or one with the name by which they are found."""
    found = upstream.discover
    if found is None:
        return [target.url for target in upstream.targets]
    return [f"{found.scheme}://{found.dns}{f':{found.port}' if found.port is not None else ''}"]


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


def auth_text(route: Route) -> str:
    """Who may use a route, in a few words: `idp [GET orders:read; role editor|admin; acr=gold]`."""
    auth = route.auth
    if auth is None:
        return "open"
    needed = [
        " ".join(([] if method == "*" else [method]) + [_scope_text(entry) for entry in entries])
        for method, entries in auth.scopes.items()
    ]
    if auth.roles:
        needed.append(f"role {'|'.join(auth.roles) if isinstance(auth.roles, tuple) else '+'.join(auth.roles.all)}")
    needed += [f"{name}={'|'.join(map(value_text, values))}" for name, values in auth.claims.items()]
    if auth.max_age is not None:
        needed.append(f"max_age={auth.max_age:g}s")
    required = f" [{'; '.join(needed)}]" if needed else ""
    return f"{'|'.join(auth.providers)}{' or anonymous' if auth.optional else ''}{required}"


def _scope_text(entry: str | AnyOf) -> str:
    return entry if isinstance(entry, str) else "|".join(entry.any)


def limit_text(config: Config, limit: str | RateLimit) -> str:
    """A limit, in a few words: `standard(consumer+ip 100/60s burst 20; gold 600/60s; POST costs 5)`."""
    name, limit = (limit, config.rate_limits[limit]) if isinstance(limit, str) else ("", limit)
    said = [f"{'+'.join(limit.by)} {_rate_text(limit, limit)}"]
    said += [f"{tier} {_rate_text(limit, rate)}" for tier, rate in limit.tiers.items()]
    said += [f"{method} costs {cost}" for method, cost in limit.cost.items() if method != EACH]
    if limit.cost.get(EACH, 1) != 1:
        said.append(f"{'others cost' if len(limit.cost) > 1 else 'each costs'} {limit.cost[EACH]}")
    if limit.lease is not None:
        said.append(f"leases {limit.lease}")
    if limit.on_failure is not None:
        said.append(f"{limit.on_failure} without the store")
    if limit.mode == "observe":
        said.append("only observes")
    return f"{name}({'; '.join(said)})"


def _rate_text(limit: RateLimit, rate: RateLimit | Tier) -> str:
    if limit.algorithm == "calendar":
        return f"{rate.limit.limit} a {CALENDAR[rate.limit.window]} of {limit.zone}"
    sliding = " sliding" if limit.algorithm == "sliding_window" else ""
    return f"{rate_text(rate.limit)}{f' burst {rate.burst}' if rate.burst else ''}{sliding}"


def _pattern(route: Route) -> str:
    more = [f"{name}: {value}" for name, value in route.match.headers.items()]
    more += [f"?{name}={value}" for name, value in route.match.query.items()]
    return " ".join([route.match.path, *more])
