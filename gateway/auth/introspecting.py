"""From the configuration of an issuer that is asked about its tokens to its provider."""

from gateway.auth.asking import Issuer
from gateway.auth.configured import hidden_of, places
from gateway.auth.introspection import IntrospectionProvider
from gateway.config.model import IntrospectionProvider as IntrospectionSettings
from gateway.parts import Parts


def introspection_provider(name: str, settings: IntrospectionSettings, parts: Parts) -> IntrospectionProvider:
    """A provider for the tokens of one issuer; what is remembered of them outlives a reload."""
    hidden, signed = hidden_of(settings)
    secret = settings.client_secret.get_secret_value()

    def make() -> IntrospectionProvider:
        return IntrospectionProvider(
            name,
            ask=_issuer(name, settings, secret, parts).ask,
            places=places(settings),
            issuer=settings.issuer,
            audience=settings.audience,
            leeway=settings.leeway,
            claims=settings.claims.model_dump(),
            forward=[(header.lower().encode(), claim) for header, claim in settings.forward.items()],
            cache=settings.cache,
            hidden=hidden,
            signed=signed,
        )

    # The secret for itself: written out, the settings only say that there is one.
    return parts.get(("provider", name, secret, settings.model_dump_json()), make)


def _issuer(name: str, settings: IntrospectionSettings, secret: str, parts: Parts) -> Issuer:
    def make() -> Issuer:
        # Here, not at the top: without such a provider no worker needs aiohttp, which takes 0.2 s to import.
        from gateway.auth.introspection_client import IntrospectionClient

        return Issuer(name, IntrospectionClient(settings.url, settings.client_id, secret))

    # A part of its own, so that connections stay when claims or the audience change.
    return parts.get(("issuer", name, settings.url, settings.client_id, secret), make)
