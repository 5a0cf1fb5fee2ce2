"""What is allowed, but probably not meant. One line each. Pure."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.config.model import Config, IntrospectionProvider, JwtProvider
from gateway.resilience.verdict import kinds

MOST_NAMED = 5
"""Routes in a line."""


def warnings(config: Config) -> list[str]:
    """For whoever starts, reloads or checks this configuration."""
    return [*_of_memory(config), *_of_providers(config), *_of_routes(config)]


def _of_memory(config: Config) -> Iterator[str]:
    if config.store_url != "memory":
        return
    workers, share = config.workers, "leave store.url out for one store that all of them share"
    if workers > 1 and (config.auth.failure_limit is not None or any(route.rate_limit for route in config.routes)):
        yield (
            f"store.url is memory: each of the {workers} workers counts for itself, so callers get up to "
            f"{workers} times their rate limits; {share}"
        )
    keyed = [route.name for route in config.routes if route.idempotency is not None]
    if workers > 1 and keyed:
        yield (
            f"store.url is memory: each of the {workers} workers remembers idempotency keys for itself, so requests "
            f"of {', '.join(keyed[:MOST_NAMED])}{' and others' * (len(keyed) > MOST_NAMED)} may be done "
            f"{workers} times; {share}"
        )
    for name, limit in config.rate_limits.items():
        if limit.lease is not None:
            yield f"rate_limits.{name}.lease has no effect: store.url is memory, which every request can ask at no cost"


def _of_routes(config: Config) -> Iterator[str]:
    for route in config.routes:
        if route.mirror is not None and route.mirror.upstream in route.upstreams:
            yield f"routes[{route.name}].mirror: {route.mirror.upstream} answers this route, and gets requests twice"
        asked: frozenset[str] = frozenset()
        for index, entry in enumerate(route.fallback):
            covered = kinds(map(str, entry.on))
            if covered <= asked:
                yield f"routes[{route.name}].fallback[{index}] never answers: those before it cover all of its failures"
            if entry.upstream is None:
                asked |= covered


def _of_providers(config: Config) -> Iterator[str]:
    for name, provider in config.auth.providers.items():
        if isinstance(provider, JwtProvider) and _over_http(
            str(provider.jwks or (provider.published and provider.issuer))
        ):
            yield f"auth.providers.{name}: keys that come over http can be replaced on their way: use https"
        if isinstance(provider, IntrospectionProvider) and _over_http(provider.url):
            yield f"auth.providers.{name}: tokens and client_secret go over http, for all to read: use https"


def _over_http(url: str) -> bool:
    """Except on this machine."""
    return url.startswith("http://") and urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1")
