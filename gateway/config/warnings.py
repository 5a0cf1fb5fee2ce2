"""What is allowed, but probably not meant. One line each. Pure."""

from urllib.parse import urlsplit

from gateway.config.model import Config, JwtProvider


def warnings(config: Config) -> list[str]:
    """For whoever starts, reloads or checks this configuration."""
    found = []
    if config.limits and config.workers > 1 and config.store_url == "memory":
        found.append(
            f"store.url is memory: each of the {config.workers} workers counts for itself, so callers get up to "
            f"{config.workers} times their rate limits; leave store.url out for one store that all of them share"
        )
    found += [
        f"auth.providers.{name}: keys that come over http can be replaced on their way: use https"
        for name, provider in config.auth.providers.items()
        if isinstance(provider, JwtProvider) and _asks_over_http(provider)
    ]
    return found


def _asks_over_http(provider: JwtProvider) -> bool:
    """Except on this machine."""
    url = str(provider.jwks or (provider.issuer if provider.discovery else ""))
    return url.startswith("http://") and urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1")
