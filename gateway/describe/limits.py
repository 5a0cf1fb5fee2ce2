"""The rate limits of a configuration as plain data: each policy once, named or of a route alone, and who uses it."""

from collections.abc import Mapping
from typing import Any

from gateway.config import Config
from gateway.config.effective import rate_text
from gateway.config.limits import EACH, RateLimit
from gateway.describe.routes import limit_text
from gateway.limits.names import limits, named

Decided = Mapping[tuple[str, ...], float]
"""By route, policy and decision: how often."""


def policies(config: Config, decided: Decided) -> list[dict[str, Any]]:
    """All of them, named ones first; of each what was decided, on all routes together."""
    users: dict[str, list[str]] = {}
    for route in config.routes:
        for number, entry in enumerate(route.rate_limit):
            users.setdefault(named(config, route.name, entry, number)[0], []).append(route.name)
    counted: dict[str, dict[str, int]] = {}
    for (_, policy, decision), count in decided.items():
        sums = counted.setdefault(policy, {})
        sums[decision] = sums.get(decision, 0) + int(count)
    return [
        _policy(config, name, limit) | {"routes": users.get(name, []), "decisions": counted.get(name, {})}
        for name, limit in limits(config)
    ]


def _policy(config: Config, name: str, limit: RateLimit) -> dict[str, Any]:
    shared = name in config.rate_limits
    return {
        "name": name,
        "shared": shared,
        "by": list(limit.by),
        "limit": rate_text(limit.limit),
        "burst": limit.burst,
        "algorithm": limit.algorithm,
        "time_zone": limit.zone if limit.algorithm == "calendar" else None,
        "tiers": {tier: {"limit": rate_text(each.limit), "burst": each.burst} for tier, each in limit.tiers.items()},
        "cost": {method: cost for method, cost in limit.cost.items() if method != EACH}
        | {EACH: limit.cost.get(EACH, 1)},
        "mode": limit.mode,
        "on_failure": limit.on_failure or config.store.on_failure,
        "lease": limit.lease,
        "summary": limit_text(config, name if shared else limit),
    }
