"""The whole configuration as frozen models, once everything in it has been checked.

Attributes are named like the keys of the file; a name that Python or pydantic needs has a `_` behind it
(`timeouts.try_`, `fallback.json_`). Durations are seconds, sizes bytes, shares 0 to 1.
"""

import os
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from gateway.config.alerts import Alerts
from gateway.config.auth import Auth, Signing
from gateway.config.fallback import Fallback
from gateway.config.fields import Fault, Flag, Folder, Name, Network, Or, Section, refuse, whole
from gateway.config.limits import RateLimit, RouteConcurrency, Shedding, UpstreamConcurrency, Usage, UsageOrNone
from gateway.config.listen import CertificatePair, Https, Listen, Store, Wire
from gateway.config.logging import Logging
from gateway.config.probes import Probe
from gateway.config.probes import faults as probe_faults
from gateway.config.providers import BearerProvider, Claims, IntrospectionProvider, JwtProvider
from gateway.config.route import Match, Route
from gateway.config.route_auth import ANY_METHOD, RouteAuth
from gateway.config.syntax import Address
from gateway.config.tracing import Tracing
from gateway.config.transform import Redirect
from gateway.config.transform_checks import circles, clashes
from gateway.config.units import Rate
from gateway.config.upstream import Backoff, Breaker, Retry, Target, Timeouts, Tls, Upstream
from gateway.routing.configured import rule, rules_of
from gateway.routing.router import Rule
from gateway.routing.versions import Versions

__all__ = [
    "ANY_METHOD",
    "Address",
    "Auth",
    "Backoff",
    "BearerProvider",
    "Breaker",
    "CertificatePair",
    "Claims",
    "Config",
    "Fallback",
    "Https",
    "IntrospectionProvider",
    "JwtProvider",
    "Listen",
    "Logging",
    "Match",
    "Rate",
    "RateLimit",
    "Retry",
    "Route",
    "RouteAuth",
    "RouteConcurrency",
    "Shedding",
    "Signing",
    "Store",
    "Target",
    "Timeouts",
    "Tls",
    "Upstream",
    "UpstreamConcurrency",
    "Usage",
    "Wire",
]


MOST_WORKERS = 128
"""More than cores of any machine this is meant for; the listeners of all must fit into one message of the system."""


def _workers(value: object) -> int:
    """A number, or one for each core this process may use."""
    if value != "auto":
        return whole(value)
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


class Config(Section):
    """What the gateway does, from one file."""

    listen: Listen = Listen()
    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS), BeforeValidator(_workers), Or(enum=["auto"])] = 1
    """Processes that serve, or `auto` for one per core."""
    runtime_dir: Folder | None = None
    """Where the running gateway keeps its metrics and the socket of the embedded store; small, best in memory."""
    trusted_proxies: tuple[Network, ...] = ()
    """Ranges of addresses whose X-Forwarded-* and Forwarded headers are believed."""
    store: Store = Store()
    wire: Wire = Wire()
    auth: Auth = Auth()
    rate_limits: dict[Name, RateLimit] = Field(default_factory=dict)
    """By the name that routes use."""
    rate_limit_headers: Literal["ietf", "legacy", "both"] = "ietf"
    """Which headers tell callers of their limits: RateLimit and RateLimit-Policy, X-RateLimit-…, or all of them."""
    shedding: Shedding | None = None
    """What to do with more requests than a worker can serve. Absent: serve them, late."""
    usage: UsageOrNone = None
    """Count who calls what. Needs a store: embedded or a Redis."""
    upstreams: dict[Name, Upstream] = Field(default_factory=dict)
    """By the name that routes use."""
    routes: tuple[Route, ...]
    """The most specific route that matches takes a request; their order means nothing."""
    logging: Logging = Logging()
    probes: tuple[Probe, ...] = ()
    """Requests to its own routes that the gateway makes now and then."""
    alerts: Alerts = Alerts()
    tracing: Tracing | None = None
    """Record traces. Absent: none."""
    security_headers: Flag = False
    """Tell browsers to be careful: nosniff, who may frame pages, what other sites hear of addresses."""

    reason_header: Flag = False
    """Tell clients, in X-Gateway-Reason, why the gateway itself ended a request."""

    @model_validator(mode="after")
    def _inherited_body_limit(self) -> Self:
        # Once, here, so that whoever reads a route need not ask whether it said something itself.
        for route in self.routes:
            if "body_limit" not in route.model_fields_set:
                route.__dict__["body_limit"] = self.wire.body_limit
        return self

    @model_validator(mode="after")
    def _no_target_is_this_gateway(self) -> Self:
        refuse([*self._loops()])
        return self

    def _loops(self) -> Iterator[Fault]:
        """As far as names tell; others are detected by `Via`."""
        for name, upstream in self.upstreams.items():
            places: list[tuple[tuple[str | int, ...], str, int]] = [
                (("targets", index), each.host, each.port) for index, each in enumerate(upstream.targets)
            ]
            if upstream.discover is not None and upstream.discover.type == "a":
                places.append((("discover",), upstream.discover.dns.rstrip("."), upstream.discover.target_port))
            for path, host, port in places:
                if (address := self.listen.at(host, port)) is not None:
                    yield ("upstreams", name, *path), f"is this gateway itself, listening at {address}"

    @model_validator(mode="after")
    def _routes_do_not_contradict(self) -> Self:
        """Neither one another nor what the gateway itself says."""
        faults = [*clashes(self.routes, self.auth.providers, self.upstreams)]
        if any(route.redirect is not None for route in self.routes):
            # First one of each route, so that a rule's number is that of its route.
            faults += circles([*(rule(route, route.redirect) for route in self.routes), *self._with_version()])
        refuse(faults)
        return self

    def _with_version(self) -> Iterator[Rule[Redirect | None]]:
        """The second rules of routes whose paths may begin with a version."""
        nowhere: Redirect | None = None
        for route in self.routes:
            if route.versions is not None:
                yield from [*rules_of(route, nowhere, Versions(route.versions, lambda: 0.0))][1:]

    @model_validator(mode="after")
    def _proxies_are_named(self) -> Self:
        faults: list[Fault] = []
        if self.listen.proxy_protocol and not self.trusted_proxies:
            faults.append((("listen", "proxy_protocol"), "has no effect: trusted_proxies names nobody"))
        refuse(faults)
        return self

    @model_validator(mode="after")
    def _probes_reach_a_route(self) -> Self:
        refuse([*probe_faults(self.probes, self.routes, self.listen, self.trusted_proxies)])
        return self

    @model_validator(mode="after")
    def _usage_is_kept(self) -> Self:
        if self.usage is not None and self.store_url == "memory":
            refuse([(("usage",), "needs a store: say store.url, embedded or that of a Redis")])
        return self

    @property
    def limits(self) -> bool:
        """Whether anything has to be counted or kept in the store."""
        counted = self.auth.failure_limit is not None or self.usage is not None
        return counted or any(route.rate_limit or route.idempotency is not None for route in self.routes)

    @property
    def keeps_records(self) -> bool:
        """Whether API keys that are made, and what is revoked, while the gateway runs have an effect."""
        return self.auth.revocation or any(each.type == "api_key" for each in self.auth.providers.values())

    @property
    def shares_records(self) -> bool:
        """They are kept in a Redis, which other instances may share and which outlives this one."""
        return self.keeps_records and self.store_url not in ("memory", "embedded")

    @property
    def store_url(self) -> str:
        """`store.url`, or what it is when not said: memory for one worker, embedded for several."""
        if "url" in self.store.model_fields_set or self.workers == 1:
            return self.store.url
        return "embedded"
