"""The whole configuration as frozen models, once everything in it has been checked.

Attributes are named like the keys of the file; a name that Python or pydantic needs has a `_` behind it
(`timeouts.try_`, `fallback.json_`). Durations are seconds, sizes bytes, shares 0 to 1.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.config.auth import Auth, Claims, JwtProvider
from gateway.config.fields import AsWhole, Name, Network, Section
from gateway.config.listen import Listen, Logging, Store, Wire
from gateway.config.route import ANY_METHOD, Fallback, Match, RateLimit, Route, RouteAuth
from gateway.config.syntax import Address
from gateway.config.units import Rate
from gateway.config.upstream import Backoff, Breaker, Retry, Target, Timeouts, Tls, Upstream

__all__ = [
    "ANY_METHOD",
    "Address",
    "Auth",
    "Backoff",
    "Breaker",
    "Claims",
    "Config",
    "Fallback",
    "JwtProvider",
    "Listen",
    "Logging",
    "Match",
    "Rate",
    "RateLimit",
    "Retry",
    "Route",
    "RouteAuth",
    "Store",
    "Target",
    "Timeouts",
    "Tls",
    "Upstream",
    "Wire",
]


class Config(Section):
    """What the gateway does, from one file."""

    listen: Listen = Listen()
    workers: Annotated[int, Field(ge=1, le=1), AsWhole] = 1
    """Processes."""
    trusted_proxies: tuple[Network, ...] = ()
    """Ranges of addresses whose X-Forwarded-* and Forwarded headers are believed."""
    store: Store = Store()
    wire: Wire = Wire()
    auth: Auth = Auth()
    rate_limits: dict[Name, RateLimit] = Field(default_factory=dict)
    """By the name that routes use."""
    upstreams: dict[Name, Upstream] = Field(default_factory=dict)
    """By the name that routes use."""
    routes: tuple[Route, ...]
    """The most specific route that matches takes a request; their order means nothing."""
    logging: Logging = Logging()

    @model_validator(mode="after")
    def _inherited_body_limit(self) -> Self:
        # Once, here, so that whoever reads a route need not ask whether it said something itself.
        for route in self.routes:
            if "body_limit" not in route.model_fields_set:
                route.__dict__["body_limit"] = self.wire.body_limit
        return self
