"""From `auth` of the configuration to the providers of known callers, and to what a route asks of its callers."""

from collections.abc import Iterator, Mapping, Sequence

from gateway.auth import passwords
from gateway.auth.api_keys import ApiKeyProvider, without
from gateway.auth.basic import BasicProvider
from gateway.auth.certificates import CertificateProvider
from gateway.auth.consumers import Consumer
from gateway.auth.door import Identify, everyone, identify_by
from gateway.auth.permissions import Permit, anyone, permit_by
from gateway.auth.providers import Provider
from gateway.auth.roles import Matrix
from gateway.config import auth as settings
from gateway.config.consumers import Consumer as ConsumerSettings
from gateway.config.model import Config, RouteAuth

OfConsumers = settings.ApiKeyProvider | settings.BasicProvider | settings.CertificateProvider
"""The settings of providers that vouch for the configuration's own consumers."""


def identify(config: Config, auth: RouteAuth | None, providers: Mapping[str, Provider]) -> Identify:
    """Who is calling, on a route with these settings."""
    if auth is None:
        return everyone
    asked = identify_by([providers[name] for name in auth.providers], optional=auth.optional)
    given = [config.auth.providers[name] for name in auth.providers]
    parameters = [each.query.encode() for each in given if isinstance(each, settings.ApiKeyProvider) and each.query]
    return without(asked, parameters) if parameters else asked


def permit(auth: RouteAuth | None, roles: Matrix) -> Permit:
    """Whether the caller may, on a route with these settings."""
    if auth is None or not (auth.scopes or auth.roles):
        return anyone
    return permit_by(auth.scopes, auth.roles or (), roles)


def withheld(config: Config) -> Iterator[bytes]:
    """Headers that no client sends through to an upstream: identity, which is the gateway's to tell, and API keys."""
    for each in config.auth.providers.values():
        if isinstance(each, settings.JwtProvider):
            yield from (name.lower().encode() for name in each.forward)
        elif isinstance(each, settings.ApiKeyProvider) and each.header:
            yield each.header.lower().encode()


def consumers(config: Config) -> tuple[Consumer, ...]:
    """The known callers."""
    return tuple(_consumer(name, each) for name, each in config.auth.consumers.items())


def provider(name: str, given: OfConsumers, known: Sequence[Consumer]) -> Provider:
    """A provider that vouches for `known`."""
    match given:
        case settings.ApiKeyProvider(header=header, query=query):
            return ApiKeyProvider(
                name,
                consumers=known,
                header=header.lower().encode() if header else None,
                query=query.encode() if query else None,
            )
        case settings.BasicProvider():
            return BasicProvider(name, consumers=known)
        case settings.CertificateProvider():
            return CertificateProvider(name, consumers=known)


def _consumer(name: str, given: ConsumerSettings) -> Consumer:
    return Consumer(
        name,
        keys=tuple(bytes.fromhex(key.removeprefix("sha256:")) for key in given.keys),
        password=passwords.read(given.password.get_secret_value()) if given.password else None,
        certificate=given.certificate or "",
        scopes=frozenset(given.scopes),
        roles=frozenset(given.roles),
        tier=given.tier or "",
    )
