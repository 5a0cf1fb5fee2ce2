"""`auth` of the configuration, built: who is calling a route, whether they may, and what the upstream hears of it."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.auth import configured
from gateway.auth.door import Identify, everyone, identify_by
from gateway.auth.introspecting import introspection_provider
from gateway.auth.issuers import jwt_provider
from gateway.auth.permissions import Permit
from gateway.auth.providers import Provider
from gateway.auth.records import Records
from gateway.auth.roles import matrix
from gateway.auth.throttle import FailureLimit, throttled
from gateway.config.model import Config, IntrospectionProvider, JwtProvider, RouteAuth
from gateway.parts import Parts, content

if TYPE_CHECKING:
    from gateway.auth.signer import Signer


class Identity:
    """What all routes have in common. Raises OSError, ValueError for a key that cannot be used."""

    def __init__(
        self,
        config: Config,
        parts: Parts | None = None,
        records: Records | None = None,
        failures: FailureLimit | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`records` are the operators' decisions; `failures` slows down who guesses, None lets everybody guess."""
        parts = parts if parts is not None else Parts()
        records = records if records is not None else Records()
        self.withheld = frozenset(configured.withheld(config))
        """Headers that no client sends through to an upstream."""
        self.signer = _signer(config, parts)
        """Makes tokens of the gateway's own; None when no upstream gets any."""
        self._providers = {name: provider(config, name, parts, records) for name in config.auth.providers}
        self._config = config
        self.roles = matrix(config.auth.roles, config.auth.permissions)
        """Which permissions roles and scopes bring along."""
        self._revoked = records.revoked if config.auth.revocation else None
        self._failures = failures
        self._clock = clock

    def identify(self, auth: RouteAuth | None) -> Identify:
        """Who is calling, on a route with these settings."""
        if auth is None:
            return everyone
        given = {name: self._config.auth.providers[name] for name in auth.providers}
        asked = configured.by_issuer(given, self._providers)
        identify = identify_by(asked, optional=auth.optional, revoked=self._revoked, clock=self._clock)
        identify = configured.without_parameters(identify, given.values())
        return throttled(identify, self._failures) if self._failures is not None else identify

    def permit(self, auth: RouteAuth | None) -> Permit:
        """Whether the caller may, on a route with these settings."""
        return configured.permit(auth, self.roles, self._providers)


def provider(config: Config, name: str, parts: Parts | None = None, records: Records | None = None) -> Provider:
    """The provider called `name`, ready to verify; the same as before where nothing has changed."""
    parts = parts if parts is not None else Parts()
    records = records if records is not None else Records()
    match config.auth.providers[name]:
        case JwtProvider() as settings:
            return jwt_provider(name, settings, parts)
        case IntrospectionProvider() as settings:
            return introspection_provider(name, settings, parts)
        case settings:
            known = configured.consumers(config)
            key = ("provider", name, settings.model_dump_json(), known)
            return parts.get(key, lambda: configured.provider(name, settings, known, records))


def _signer(config: Config, parts: Parts) -> "Signer | None":
    settings = config.auth.signing
    if settings is None:
        return None
    # Here, not at the top: who signs nothing needs no cryptography, which takes 80 ms to import.
    from gateway.auth.signer import signer

    return parts.get(("signer", settings.model_dump_json(), content(settings.key)), lambda: signer(settings))
