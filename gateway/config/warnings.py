"""What is allowed, but probably not meant. One line each. Pure."""

from urllib.parse import urlsplit

from gateway.config.model import Config, IntrospectionProvider, JwtProvider


def warnings(config: Config) -> list[str]:
    """For whoever starts, reloads or checks this configuration."""
    found = []
    if config.limits and config.workers > 1 and config.store_url == "memory":
        found.append(
            f"store.url is memory: each of the {config.workers} workers counts for itself, so callers get up to "
            f"{config.workers} times their rate limits; leave store.url out for one store that all of them share"
        )
    if config.store_url == "memory":
        found += [
            f"rate_limits.{name}.lease has no effect: store.url is memory, which every request can ask at no cost"
            for name, limit in config.rate_limits.items()
            if limit.lease is not None
        ]
    for name, provider in config.auth.providers.items():
        if isinstance(provider, JwtProvider) and _over_http(
            str(provider.jwks or (provider.published and provider.issuer))
        ):
            found.append(f"auth.providers.{name}: keys that come over http can be replaced on their way: use https")
        if isinstance(provider, IntrospectionProvider) and _over_http(provider.url):
            found.append(f"auth.providers.{name}: tokens and client_secret go over http, for all to read: use https")
    return found


def _over_http(url: str) -> bool:
    """Except on this machine."""
    return url.startswith("http://") and urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1")
