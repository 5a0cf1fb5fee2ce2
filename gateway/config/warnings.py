"""What is allowed, but probably not meant. One line each. Pure."""

from gateway.config.model import Config


def warnings(config: Config) -> list[str]:
    """For whoever starts, reloads or checks this configuration."""
    found = []
    if config.limits and config.workers > 1 and config.store_url == "memory":
        found.append(
            f"store.url is memory: each of the {config.workers} workers counts for itself, so callers get up to "
            f"{config.workers} times their rate limits; leave store.url out for one store that all of them share"
        )
    return found
