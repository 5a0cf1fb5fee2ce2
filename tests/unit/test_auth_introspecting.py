"""From settings to a provider, and what of it outlives a reload."""

from typing import Any

from gateway.auth.asking import Issuer
from gateway.auth.introspecting import introspection_provider
from gateway.config.model import IntrospectionProvider as IntrospectionSettings
from gateway.parts import Parts

SETTINGS = {"type": "introspection", "url": "https://idp.example/introspect", "client_id": "gw", "client_secret": "a"}


def kept(parts: Parts, **changes: Any) -> tuple[bool, bool]:
    """Whether the next runtime, with these settings changed, has the same provider, and the same issuer."""
    later = Parts(parts)
    same = introspection_provider("opaque", IntrospectionSettings.model_validate(SETTINGS), parts)
    other = introspection_provider("opaque", IntrospectionSettings.model_validate(SETTINGS | changes), later)
    return other is same, later.of(Issuer) == parts.of(Issuer)


def test_what_is_known_outlives_a_reload_and_connections_outlive_other_claims() -> None:
    assert kept(Parts()) == (True, True)
    for changes in ({"cache": "5s"}, {"audience": "x"}, {"credential": "drop"}, {"claims": {"tier": "plan"}}):
        assert kept(Parts(), **changes) == (False, True)
    for changes in ({"client_secret": "b"}, {"client_id": "b"}, {"url": "https://idp.example/other"}):
        assert kept(Parts(), **changes) == (False, False)


def test_the_secret_of_the_client_is_not_on_show() -> None:
    parts = Parts()
    settings = IntrospectionSettings.model_validate(SETTINGS | {"client_secret": "hush"})
    provider = introspection_provider("opaque", settings, parts)
    shown = f"{provider!r} {vars(provider)} {parts.of(Issuer)!r} {vars(parts.of(Issuer)[0])}"
    assert "hush" not in shown
