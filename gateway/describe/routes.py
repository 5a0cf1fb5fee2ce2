"""What a route asks of its callers, how often they may call, and where it leads, in a few words each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.auth.claim_rules import value_text
from gateway.config.effective import rate_text
from gateway.config.limits import CALENDAR, EACH

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.config.limits import Tier
    from gateway.config.model import RateLimit, Route, Upstream
    from gateway.config.route_auth import AnyOf


def targets_of(upstream: Upstream) -> list[str]:
    """Their URLs, or one with the name by which they are found."""
    found = upstream.discover
    if found is None:
        return [target.url for target in upstream.targets]
    return [f"{found.scheme}://{found.dns}{f':{found.port}' if found.port is not None else ''}"]


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
