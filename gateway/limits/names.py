"""What limits are called in metrics, headers and the store, and which there are. Pure."""

from collections.abc import Iterator

from gateway.config.limits import RateLimit
from gateway.config.model import Config


def named(config: Config, route: str, entry: str | RateLimit, number: int) -> tuple[str, RateLimit]:
    """A limit of a route with its name, which inline ones get from the route and their place."""
    return (entry, config.rate_limits[entry]) if isinstance(entry, str) else (f"{route}-{number + 1}", entry)


def limits(config: Config) -> Iterator[tuple[str, RateLimit]]:
    """All limits of all routes, with their names."""
    yield from config.rate_limits.items()
    for route in config.routes:
        for number, entry in enumerate(route.rate_limit):
            if not isinstance(entry, str):
                yield named(config, route.name, entry, number)
